# cython: boundscheck=False, wraparound=False, cdivision=True
"""Parse labels of new series lazily.

* One pass over a key proves that it is in canonical encoding; no label is decoded before it is
  requested. Selectors need one or two labels, the translation copies encoded fields.
* Ascending names are distinct; a name that does not ascend is compared with all before it.
* A request for all labels uses interned fields, so that texts are shared.
* Keys in any other encoding, or with more than ``SPANS_MAX`` labels, take the slow path through
  :func:`~relay.codec.remote_write.v1.parse_labels`, with the same results and errors.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from collections.abc import Mapping

from relay.codec.remote_write.label_intern import LabelInterner, LabelReaderStatistics, label_field
from relay.codec.remote_write.v1 import parse_labels

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef enum:
    LABEL_TAG = 0x0A  # TimeSeries.labels
    NAME_TAG = 0x0A
    VALUE_TAG = 0x12
    NAME_BYTES = 8  # length of __name__
    SHORT_MAX = 1 << 14
    WANTED_MAX = 8  # labels looked up at once

cdef uint64_t NAME_BITS
memcpy(&NAME_BITS, b"__name__", NAME_BYTES)
cdef uint64_t NOT_ASCII = 0x8080808080808080


cdef inline Py_ssize_t length_at(
    const unsigned char *key, Py_ssize_t *pos, Py_ssize_t end
) noexcept:
    """Read a minimal length of one or two bytes; -1 for any other, or if it runs past the end."""
    cdef Py_ssize_t at = pos[0], size
    if at >= end:
        return -1
    size = key[at]
    at += 1
    if size > 127:
        if at >= end or key[at] > 127 or not key[at]:
            return -1
        size += (<Py_ssize_t>key[at] << 7) - 128
        at += 1
    pos[0] = at
    return size if size <= end - at else -1


cdef Py_ssize_t spans_of(const unsigned char *key, Py_ssize_t size, Span *spans) noexcept:
    """Locate the labels of a key in ``spans`` (room for SPANS_MAX) and return their number.

    Return -1 unless the key consists of canonical label fields: name, then value, neither empty,
    lengths below 2**14.
    """
    cdef Py_ssize_t pos = 0, count = 0, stop, length
    cdef Span *span
    while pos < size:
        if count == SPANS_MAX or key[pos] != LABEL_TAG:
            return -1
        span = &spans[count]
        pos += 1
        length = length_at(key, &pos, size)
        if length < 1:
            return -1
        stop = pos + length
        span.at = pos
        if key[pos] != NAME_TAG:
            return -1
        pos += 1
        span.name_size = length_at(key, &pos, stop)
        if span.name_size < 1:
            return -1
        span.name = pos
        pos += span.name_size
        if pos >= stop or key[pos] != VALUE_TAG:
            return -1
        pos += 1
        span.value_size = length_at(key, &pos, stop)
        if span.value_size < 1 or pos + span.value_size != stop:
            return -1
        span.value = pos
        pos = stop
        count += 1
    return count


cdef bint is_ascii(const unsigned char *text, Py_ssize_t size) noexcept:
    cdef uint64_t word, seen = 0
    while size >= 8:
        memcpy(&word, text, 8)
        seen |= word
        text += 8
        size -= 8
    word = 0
    memcpy(&word, text, <size_t>size)
    return not (seen | word) & NOT_ASCII


cdef inline int compared(
    const unsigned char *key, const Span *one, const Span *other
) noexcept:
    """Compare two names as memcmp does."""
    cdef Py_ssize_t least = min(one.name_size, other.name_size)
    cdef int found = memcmp(key + one.name, key + other.name, <size_t>least)
    if found:
        return found
    return (one.name_size > other.name_size) - (one.name_size < other.name_size)


cdef bint are_valid(const unsigned char *key, const Span *spans, Py_ssize_t count) except -1:
    """Return whether the labels are valid: ``__name__`` present, names unique, all UTF-8."""
    cdef Py_ssize_t at, before, top = 0
    cdef bint is_named = False
    cdef uint64_t bits
    cdef const Span *span
    for at in range(count):
        span = &spans[at]
        if span.name_size == NAME_BYTES:
            memcpy(&bits, key + span.name, NAME_BYTES)
            is_named = is_named or bits == NAME_BITS
        if at and compared(key, span, &spans[top]) > 0:
            top = at
        else:
            for before in range(at):
                if not compared(key, span, &spans[before]):
                    return False
        if not (
            is_ascii(key + span.name, span.name_size)
            and is_ascii(key + span.value, span.value_size)
        ):
            try:
                PyUnicode_DecodeUTF8(<const char *>key + span.name, span.name_size, NULL)
                PyUnicode_DecodeUTF8(<const char *>key + span.value, span.value_size, NULL)
            except UnicodeDecodeError:
                return False
    return is_named


@cython.final
@cython.no_gc
@cython.freelist(8)
cdef class SeriesLabels:
    """Mapping of label names to values, in wire order.

    ``key`` has the encoded label fields, each in canonical form.
    """

    cdef dict whole(self):
        """Return all labels as a dict."""
        if self.all is None:
            self.all = {name: value for name, value in map(self.known.__getitem__, self.fields)}
        return self.all

    cdef str text(self, str name):
        """Return the value of one label, or None."""
        cdef const unsigned char *key
        cdef const char *wanted
        cdef Py_ssize_t size = 0, pos = 0, end, length
        cdef bint is_it
        if self.all is not None:
            return self.all.get(name)
        try:
            wanted = PyUnicode_AsUTF8AndSize(name, &size)
        except UnicodeEncodeError:
            return None  # a lone surrogate, which no label has
        key = <const unsigned char *>PyBytes_AS_STRING(self.key)
        end = PyBytes_GET_SIZE(self.key)
        while pos < end:
            pos += 1
            length_at(key, &pos, end)
            pos += 1
            length = length_at(key, &pos, end)
            is_it = length == size and not memcmp(key + pos, wanted, <size_t>size)
            pos += length + 1
            length = length_at(key, &pos, end)
            if is_it:
                return PyUnicode_DecodeUTF8(<const char *>key + pos, length, NULL)
            pos += length
        return None

    cpdef get(self, str name, default=None):
        """Return a label's value or the default, as a dict does."""
        cdef str found = self.text(name)
        return default if found is None else found

    @property
    def name(self):
        """Name of the metric."""
        return self.text("__name__")

    cpdef tuple values_of(self, tuple names):
        """Return the values of several labels, None for missing ones."""
        cdef Py_ssize_t at, missing = len(names), pos = 0, end, start, size, length
        cdef list found
        cdef const char *wanted[WANTED_MAX]
        cdef Py_ssize_t[WANTED_MAX] sizes
        cdef uint64_t lengths = 0
        cdef const unsigned char *key
        if not missing:
            return ()
        if self.all is not None or missing > WANTED_MAX:
            return tuple([self.text(name) for name in names])
        found = [None] * missing
        for at in range(missing):
            try:
                wanted[at] = PyUnicode_AsUTF8AndSize(names[at], &size)
            except UnicodeEncodeError:
                size = -1  # a lone surrogate, which no label has
            sizes[at] = size
            lengths |= <uint64_t>1 << (size & 63)
        key = <const unsigned char *>PyBytes_AS_STRING(self.key)
        end = PyBytes_GET_SIZE(self.key)
        while pos < end and missing:
            pos += 1
            length_at(key, &pos, end)
            pos += 1
            size = length_at(key, &pos, end)
            start = pos
            pos += size + 1
            length = length_at(key, &pos, end)
            if lengths >> (size & 63) & 1:
                for at in range(len(names)):
                    if sizes[at] == size and not memcmp(key + start, wanted[at], <size_t>size):
                        found[at] = PyUnicode_DecodeUTF8(<const char *>key + pos, length, NULL)
                        missing -= 1
            pos += length
        return tuple(found)

    @property
    def fields(self):
        """Return the labels as encoded TimeSeries.labels fields, one each."""
        cdef const unsigned char *key = <const unsigned char *>PyBytes_AS_STRING(self.key)
        cdef Py_ssize_t pos = 0, start, size, end = PyBytes_GET_SIZE(self.key)
        cdef list found = []
        if self.known is None:
            # From the slow path: lengths may be of any size.
            return tuple([label_field(name, value) for name, value in self.all.items()])
        while pos < end:
            start = pos
            pos += 1
            size = length_at(key, &pos, end)
            pos += size
            found.append(self.key[start:pos])
        return tuple(found)

    def forget_texts(self):
        """Free the texts that were read; they are read from the key again when asked for."""
        if self.known is not None:
            self.all = None

    def without(self, names):
        """Return a copy without the labels of these names."""
        fields = zip(self.whole(), self.fields, strict=True)
        cdef SeriesLabels fewer = SeriesLabels.__new__(SeriesLabels)
        fewer.known = self.known
        fewer.all = {name: value for name, value in self.all.items() if name not in names}
        fewer.key = b"".join([field for name, field in fields if name not in names])
        return fewer

    def keys(self):
        """Return the label names, as a dict does."""
        return self.whole().keys()

    def values(self):
        """Return the label values, as a dict does."""
        return self.whole().values()

    def items(self):
        """Return (name, value) pairs, as a dict does."""
        return self.whole().items()

    def __getitem__(self, str name):
        cdef str found = self.text(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name):
        return self.text(name) is not None

    def __iter__(self):
        return iter(self.whole())

    def __len__(self):
        cdef const unsigned char *key = <const unsigned char *>PyBytes_AS_STRING(self.key)
        cdef Py_ssize_t pos = 0, count = 0, size, end = PyBytes_GET_SIZE(self.key)
        if self.all is not None:
            return len(self.all)
        while pos < end:
            pos += 1
            size = length_at(key, &pos, end)
            pos += size
            count += 1
        return count

    def __eq__(self, other):
        if isinstance(other, SeriesLabels):
            other = (<SeriesLabels>other).whole()
        return self.whole() == other

    __hash__ = None

    def __repr__(self):
        return repr(self.whole())


Mapping.register(SeriesLabels)


cdef class LabelParser:
    """Parse many keys with the results and errors of
    :func:`~relay.codec.remote_write.v1.parse_labels`.

    A key may have at most ``labels_max`` labels and ``bytes_max`` bytes. Interned fields are
    dropped all at once when they exceed their limit.
    """

    def __init__(self, *, labels_max, bytes_max):
        self.labels_max = labels_max
        self.bytes_max = bytes_max
        self.known = LabelInterner()

    cpdef SeriesLabels read(self, bytes key):
        """Parse the labels of a key.

        Raise DecodeError if it does not consist of label fields, SeriesFault if the labels are
        invalid for a series.
        """
        cdef Span[SPANS_MAX] spans
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(key)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(key)
        cdef Py_ssize_t count = spans_of(data, size, spans)
        cdef SeriesLabels labels
        if (
            count < 1
            or count > self.labels_max
            or size > self.bytes_max
            or not are_valid(data, spans, count)
        ):
            return self.read_validating(key)
        labels = SeriesLabels.__new__(SeriesLabels)
        labels.key = key
        labels.known = self.known
        return labels

    cdef SeriesLabels read_validating(self, bytes key):
        pairs = parse_labels(key, labels_max=self.labels_max, bytes_max=self.bytes_max)
        cdef SeriesLabels labels = SeriesLabels.__new__(SeriesLabels)
        labels.key = b"".join([label_field(name, value) for name, value in pairs])
        labels.all = dict(pairs)
        return labels

    def statistics(self):
        """Return a snapshot."""
        known = self.known
        return LabelReaderStatistics(len(known), known.size, known.emptied)

    def __repr__(self):
        return f"<LabelParser {len(self.known)} fields>"
