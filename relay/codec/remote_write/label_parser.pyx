# cython: boundscheck=False, wraparound=False, cdivision=True
"""Parse labels of new series lazily.

* One pass over a key proves that it is in canonical encoding; no label is decoded before it is
  requested. Selectors need one or two labels, the translation copies encoded fields.
* Ascending names are distinct; a name that does not ascend is compared with all before it.
* Consecutive series of a scrape share names of labels, their order, and most values. So each label
  is compared with that of the series before; what is equal is neither validated nor decoded again.
* A request for all labels uses interned fields, so that texts are shared.
* Keys in any other encoding, or with more than ``SPANS_MAX`` labels, take the slow path through
  :func:`~relay.codec.remote_write.v1.parse_labels`, with the same results and errors.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from collections.abc import Mapping

from relay.codec.remote_write.label_spans cimport (
    SPANS_MAX, Span, are_as_before, are_valid, is_name, length_at, spans_of,
)
from relay.codec.remote_write.spans_beside cimport spans_beside

from relay.codec.remote_write.label_intern import LabelInterner, LabelReaderStatistics, label_field
from relay.codec.remote_write.v1 import parse_labels

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef enum:
    SCHEMAS_MAX = 2048  # sets of names that are known; at the limit all are forgotten
    NAMES_BYTES_MAX = 4096  # of the names of a known set
    KNOWN_NAMES = 2048  # names of metrics that are shared
    KNOWN_NAME_BYTES_MAX = 200


@cython.final
@cython.no_gc
cdef class LabelSchema:
    """The names of valid series' labels, in wire order."""

    def __cinit__(self, bytes names not None, Py_ssize_t name_at):
        self.names = names
        self.name_at = name_at
        self.asked[0] = self.asked[1] = NULL

    def __dealloc__(self):
        Py_XDECREF(self.asked[0])
        Py_XDECREF(self.asked[1])

    cdef Py_ssize_t *places_of(self, tuple names, Py_ssize_t slot) except NULL:
        """Return the index of each label with one of these names, -1 for a missing one."""
        cdef const unsigned char *own = <const unsigned char *>PyBytes_AS_STRING(self.names)
        cdef Py_ssize_t at, place, pos, size, wanted_size = 0, end = PyBytes_GET_SIZE(self.names)
        cdef const char *wanted
        cdef PyObject *before = self.asked[slot]
        if before == <PyObject *>names:
            return self.places[slot]
        self.asked[slot] = NULL
        Py_XDECREF(before)
        for at in range(len(names)):
            self.places[slot][at] = -1
            try:
                wanted = PyUnicode_AsUTF8AndSize(names[at], &wanted_size)
            except UnicodeEncodeError:
                continue  # a lone surrogate, which no label has
            pos = place = 0
            while pos < end:
                size = own[pos] | <Py_ssize_t>own[pos + 1] << 8
                if size == wanted_size and not memcmp(own + pos + 2, wanted, <size_t>size):
                    self.places[slot][at] = place
                    break
                pos += 2 + size
                place += 1
        Py_INCREF(names)
        self.asked[slot] = <PyObject *>names
        return self.places[slot]


@cython.final
@cython.no_gc
cdef class Answer:
    """The values of some labels, of the series that was read as ``number``."""

    cdef tuple names
    cdef tuple values
    cdef LabelSchema schema
    cdef unsigned long long number


# The series that was read last, in the half of the arrays that ``latest_half`` selects, and the
# number of those before.
cdef Span read_spans[2][SPANS_MAX]
cdef unsigned char is_repeated[2][SPANS_MAX]  # the label is equal to that of the series before
cdef Py_ssize_t latest_half = 0
cdef Py_ssize_t latest_count = 0
cdef bytes latest_key = b""
cdef LabelSchema latest_schema = None
cdef unsigned long long latest_number = 0
cdef dict schemas = {}
cdef tuple answers = (Answer(), Answer())
cdef Py_ssize_t latest_slot = 0  # of the answer that was given last
cdef PyObject *known_names[KNOWN_NAMES]
cdef str latest_name = ""  # of the metric of the series ``latest_name_number``
cdef unsigned long long latest_name_number = 0


cdef LabelSchema schema_of(const unsigned char *key, const Span *spans, Py_ssize_t count):
    """Return the schema of valid labels; None for too long names."""
    cdef unsigned char[NAMES_BYTES_MAX] names
    cdef Py_ssize_t at, size, used = 0, name_at = 0
    cdef bytes text
    cdef LabelSchema schema
    for at in range(count):
        size = spans[at].name_size
        if used + 2 + size > NAMES_BYTES_MAX:
            return None
        names[used] = <unsigned char>(size & 0xFF)
        names[used + 1] = <unsigned char>(size >> 8)
        memcpy(names + used + 2, key + spans[at].name, <size_t>size)
        used += 2 + size
        if is_name(key, &spans[at]):
            name_at = at
    text = PyBytes_FromStringAndSize(<char *>names, used)
    schema = schemas.get(text)
    if schema is None:
        if len(schemas) >= SCHEMAS_MAX:
            schemas.clear()
        schema = schemas[text] = LabelSchema(text, name_at)
    return schema


cdef const Span *spans_of_labels(SeriesLabels labels, Span *room, Py_ssize_t *count) noexcept:
    """Return the labels' places in the key, in ``room`` if need be; -1 of them for other forms."""
    if labels.key is latest_key:
        count[0] = latest_count
        return read_spans[latest_half]
    cdef const unsigned char *key = <const unsigned char *>PyBytes_AS_STRING(labels.key)
    count[0] = spans_of(key, PyBytes_GET_SIZE(labels.key), room)
    return room


cdef const unsigned char *repeated_labels(
    SeriesLabels labels, unsigned long long *number
) noexcept:
    """Tell which labels of the latest series are those of the one before; NULL for others."""
    if labels.key is not latest_key or latest_schema is None:
        return NULL
    number[0] = latest_number
    return is_repeated[latest_half]


cdef str shared_name(const unsigned char *name, Py_ssize_t size):
    """Return a metric's name, mostly the text that was returned for it before."""
    cdef uint64_t mark = <uint64_t>size, word
    cdef const unsigned char *pos = name
    cdef Py_ssize_t left = size, known_size = 0
    cdef PyObject **slot
    cdef const char *known
    cdef str text
    if size > KNOWN_NAME_BYTES_MAX:
        return PyUnicode_DecodeUTF8(<const char *>name, size, NULL)
    while left >= 8:
        memcpy(&word, pos, 8)
        mark = (mark ^ word) * <uint64_t>0x9E3779B97F4A7C15
        mark ^= mark >> 29
        pos += 8
        left -= 8
    word = 0
    memcpy(&word, pos, <size_t>left)
    mark = (mark ^ word) * <uint64_t>0x9E3779B97F4A7C15
    mark ^= mark >> 29
    slot = &known_names[(mark >> 16) % KNOWN_NAMES]
    if slot[0] != NULL:
        known = PyUnicode_AsUTF8AndSize(<object>slot[0], &known_size)
        if known_size == size and not memcmp(known, name, <size_t>size):
            return <str>slot[0]
    text = PyUnicode_DecodeUTF8(<const char *>name, size, NULL)
    Py_INCREF(text)
    Py_XDECREF(slot[0])
    slot[0] = <PyObject *>text
    return text


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

    cpdef str metric_name(self):
        """Return the name of the metric, mostly the same text for series of the same one."""
        global latest_name, latest_name_number
        cdef const Span *span
        if self.key is latest_key and latest_schema is not None and self.all is None:
            if not (
                latest_name_number + 1 == latest_number
                and is_repeated[latest_half][latest_schema.name_at]
            ):
                span = &read_spans[latest_half][latest_schema.name_at]
                latest_name = shared_name(
                    <const unsigned char *>PyBytes_AS_STRING(self.key) + span.value, span.value_size
                )
            latest_name_number = latest_number
            return latest_name
        return self.text("__name__")

    @property
    def name(self):
        """Name of the metric."""
        return self.metric_name()

    cdef tuple values_beside(self, tuple names):
        """Return values of the labels that were read last; the tuple of the series before if equal.

        The labels have a schema, and at most WANTED_MAX are asked for.
        """
        global latest_slot
        cdef Answer answer = <Answer>answers[0]
        cdef Py_ssize_t slot = 0, at, count = len(names)
        cdef Py_ssize_t *places
        cdef const unsigned char *repeated = is_repeated[latest_half]
        cdef const char *key
        cdef const Span *span
        cdef tuple before = None
        cdef list found
        if answer.names is not names:
            slot = 1
            answer = <Answer>answers[1]
            if answer.names is not names:
                slot = 1 - latest_slot
                answer = <Answer>answers[slot]
                answer.names = names
                answer.values = None
        latest_slot = slot
        if answer.values is not None and answer.number == latest_number:
            return answer.values
        places = latest_schema.places_of(names, slot)
        if answer.number + 1 == latest_number and answer.schema is latest_schema:
            before = answer.values
        if before is not None:
            for at in range(count):
                if places[at] >= 0 and not repeated[places[at]]:
                    break
            else:
                answer.number = latest_number
                return before
        key = PyBytes_AS_STRING(self.key)
        found = [None] * count
        for at in range(count):
            if places[at] < 0:
                continue
            if before is not None and repeated[places[at]]:
                found[at] = before[at]
                continue
            span = &read_spans[latest_half][places[at]]
            found[at] = PyUnicode_DecodeUTF8(key + span.value, span.value_size, NULL)
        answer.values = tuple(found)
        answer.schema = latest_schema
        answer.number = latest_number
        return answer.values

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
        if self.key is latest_key and latest_schema is not None:
            return self.values_beside(names)
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
        global latest_half, latest_count, latest_key, latest_schema, latest_number
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(key)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(key), half = 1 - latest_half
        cdef Span *spans = read_spans[half]
        cdef Py_ssize_t count = spans_beside(
            data, size, spans, is_repeated[half],
            <const unsigned char *>PyBytes_AS_STRING(latest_key), PyBytes_GET_SIZE(latest_key),
            read_spans[latest_half], latest_count,
        )
        cdef SeriesLabels labels
        if count < 1 or count > self.labels_max or size > self.bytes_max:
            return self.read_validating(key)
        if latest_schema is None or count != latest_count or not are_as_before(
            data, spans, count, <const unsigned char *>PyBytes_AS_STRING(latest_key),
            read_spans[latest_half], is_repeated[half],
        ):
            if not are_valid(data, spans, count):
                return self.read_validating(key)
            latest_schema = schema_of(data, spans, count)
        latest_half, latest_count, latest_key = half, count, key
        latest_number += 1
        labels = SeriesLabels.__new__(SeriesLabels)
        labels.key = key
        labels.known = self.known
        labels.schema = latest_schema
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
