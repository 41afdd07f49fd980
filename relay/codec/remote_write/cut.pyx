# cython: boundscheck=False, wraparound=False, cdivision=True
"""Scan and copy entries of an encoded request, for splits and rounds.

A request is cut on the event loop: 10,000 series of a dozen labels in some milliseconds. All sizes
are checked, all else is copied as it stands.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from relay.codec.varints cimport put_head, put_varint, varint_size
from relay.codec.wire_types cimport BYTES, FIXED32, FIXED64, VARINT

from relay.runtime.errors import DecodeError

cdef enum:
    METADATA_TAG = 0x1A  # WriteRequest.metadata of 1.0
    SERIES_TAG_1 = 0x0A  # WriteRequest.timeseries of 1.0
    LABELS_TAG = 0x0A  # TimeSeries of 1.0, and references of 2.0
    SAMPLES_TAG_1 = 0x12
    HISTOGRAMS_TAG_1 = 0x22
    SYMBOLS_TAG = 0x22  # Request of 2.0
    SERIES_TAG_2 = 0x2A
    REFS_TAG = 0x0A  # TimeSeries of 2.0, and Exemplar.labels_refs
    SAMPLES_TAG_2 = 0x12
    HISTOGRAMS_TAG_2 = 0x1A
    EXEMPLARS_TAG = 0x22
    METADATA_TAG_2 = 0x2A
    HELP_TAG = 0x18  # Metadata.help_ref
    UNIT_TAG = 0x20
    VARINT_BYTES_MAX = 10
    UNNAMED = 0xFFFFFFFF
    FIRST_SPANS = 64


cdef struct Field:
    uint64_t tag
    Py_ssize_t tag_at
    Py_ssize_t start  # of the payload
    Py_ssize_t stop


cdef struct Span:
    Py_ssize_t start
    Py_ssize_t stop


cdef uint64_t read_varint(
    const unsigned char *data, Py_ssize_t *pos, Py_ssize_t end
) except? 0xFFFFFFFFFFFFFFFF:
    """Read a varint at ``pos`` and move that behind it."""
    cdef uint64_t value = 0
    cdef Py_ssize_t at = pos[0]
    cdef int shift = 0
    while at < end and shift < 7 * VARINT_BYTES_MAX:
        value |= <uint64_t>(data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 128:
            pos[0] = at
            return value
        shift += 7
    raise DecodeError("no varint", offset=pos[0])


cdef Field next_field(const unsigned char *data, Py_ssize_t pos, Py_ssize_t end) except *:
    """Return the field at ``pos``."""
    cdef Field field
    cdef uint64_t size
    field.tag_at = pos
    field.tag = read_varint(data, &pos, end)
    field.start = pos
    if field.tag & 7 == BYTES:
        size = read_varint(data, &pos, end)
        if size > <uint64_t>(end - pos):
            raise DecodeError("length runs past the end of its message", offset=field.start)
        field.start = pos
        field.stop = pos + <Py_ssize_t>size
    elif field.tag & 7 == VARINT:
        read_varint(data, &pos, end)
        field.stop = pos
    elif field.tag & 7 == FIXED64 or field.tag & 7 == FIXED32:
        field.stop = pos + (8 if field.tag & 7 == FIXED64 else 4)
        if field.stop > end:
            raise DecodeError("truncated fixed-size field", offset=pos)
    else:
        raise DecodeError("a wire type that proto3 does not use", offset=pos)
    return field


cdef Py_ssize_t points_of(
    const unsigned char *data, Py_ssize_t pos, Py_ssize_t end, unsigned char histograms
) except -1:
    """Return the number of samples and histograms of a TimeSeries."""
    cdef Py_ssize_t points = 0
    cdef Field field
    while pos < end:
        field = next_field(data, pos, end)
        points += field.tag == SAMPLES_TAG_1 or field.tag == histograms
        pos = field.stop
    return points


def scan_v1(bytes data not None):
    """Return (ends, points) of the entries of a request of 1.0, series and metadata.

    Both are running: where each entry ends, and the number of points up to there. Raises
    DecodeError.
    """
    cdef const unsigned char *text = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t pos = 0, end = PyBytes_GET_SIZE(data), count = 0
    cdef list ends = [], points = []
    cdef Field field
    while pos < end:
        field = next_field(text, pos, end)
        pos = field.stop
        if field.tag == SERIES_TAG_1:
            count += points_of(text, field.start, field.stop, HISTOGRAMS_TAG_1)
        elif field.tag != METADATA_TAG:
            continue
        ends.append(pos)
        points.append(count)
    return ends, points


def entries_of(bytes data not None, bint is_v2):
    """Return (identity, entry, points) of the entries of a request of ours, series and metadata.

    ``identity`` is what a series begins with, its labels or references, since our encoders write
    them first; empty for metadata. ``entry`` is all of it, with tag and length. Raises DecodeError.
    """
    cdef const char *text = PyBytes_AS_STRING(data)
    cdef const unsigned char *bytes_of = <const unsigned char *>text
    cdef Py_ssize_t pos = 0, end = PyBytes_GET_SIZE(data), identity_end, points
    cdef uint64_t series_tag = SERIES_TAG_2 if is_v2 else SERIES_TAG_1
    cdef unsigned char histograms = HISTOGRAMS_TAG_2 if is_v2 else HISTOGRAMS_TAG_1
    cdef list found = []
    cdef Field field
    while pos < end:
        field = next_field(bytes_of, pos, end)
        pos = identity_end = field.start
        points = 0
        if field.tag == series_tag:
            while identity_end < field.stop and bytes_of[identity_end] == LABELS_TAG:
                identity_end = next_field(bytes_of, identity_end, field.stop).stop
            points = points_of(bytes_of, identity_end, field.stop, histograms)
        if field.tag == series_tag or (field.tag == METADATA_TAG and not is_v2):
            found.append((
                PyBytes_FromStringAndSize(text + pos, identity_end - pos),
                PyBytes_FromStringAndSize(text + field.tag_at, field.stop - field.tag_at),
                points,
            ))
        pos = field.stop
    return found


cdef class Request2:
    """A request of 2.0 that is cut; ``ends`` are the running sizes of its series.

    Raises DecodeError.
    """

    cdef bytes data
    cdef Span *symbols
    cdef Py_ssize_t symbols_count
    cdef Span *series
    cdef uint32_t *refs  # by number in the whole, the number in the part
    cdef readonly list ends

    def __cinit__(self, bytes data not None):
        cdef const unsigned char *text = <const unsigned char *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t pos, end = PyBytes_GET_SIZE(data), series = 0, size = 0
        cdef Field field
        self.data = data
        self.ends = []
        for is_counted in (False, True):
            if is_counted:
                self.symbols = <Span *>allocated(self.symbols_count, sizeof(Span))
                self.series = <Span *>allocated(series, sizeof(Span))
                self.refs = <uint32_t *>allocated(self.symbols_count, sizeof(uint32_t))
            pos = series = self.symbols_count = 0
            while pos < end:
                field = next_field(text, pos, end)
                pos = field.stop
                if field.tag == SYMBOLS_TAG:
                    if is_counted:
                        self.symbols[self.symbols_count] = Span(field.start, field.stop)
                    self.symbols_count += 1
                elif field.tag == SERIES_TAG_2:
                    if is_counted:
                        self.series[series] = Span(field.start, field.stop)
                        size += field.stop - field.start
                        self.ends.append(size)
                    series += 1

    def __dealloc__(self):
        PyMem_Free(self.symbols)
        PyMem_Free(self.series)
        PyMem_Free(self.refs)

    def part(self, numbers not None):
        """Return (request, points) of the series with these numbers.

        It has the symbols that it names, in their order.
        """
        cdef _Part part = _Part(self)
        cdef Py_ssize_t at
        for at in numbers:
            assert 0 <= at < len(self.ends)
            part.add(self.series[at])
        part.number()
        for at in numbers:
            part.add(self.series[at])
        return part.whole(), part.points

    def __repr__(self):
        return f"<Request2 of {len(self.ends)} series>"


cdef void *allocated(Py_ssize_t count, size_t size) except NULL:
    cdef void *array = PyMem_Calloc(<size_t>max(count, 1), size)
    if array == NULL:
        raise MemoryError
    return array


cdef class _Part:
    """Series of a request with references of their own.

    All series are added twice, before :meth:`number` only to find the symbols that they name.
    """

    cdef Request2 request
    cdef const unsigned char *text
    cdef uint32_t *named  # numbers of symbols in the whole
    cdef Py_ssize_t named_count
    cdef Py_ssize_t named_size  # encoded
    cdef unsigned char *begin  # of the messages, NULL before number()
    cdef unsigned char *out
    cdef Py_ssize_t points

    def __cinit__(self, Request2 request not None):
        cdef Py_ssize_t number
        self.request = request
        self.text = <const unsigned char *>PyBytes_AS_STRING(request.data)
        for number in range(request.symbols_count):
            request.refs[number] = UNNAMED
        self.named = <uint32_t *>allocated(request.symbols_count + 1, sizeof(uint32_t))
        self.named_size = 2  # symbol 0 is the empty one
        self.named_count = 1

    def __dealloc__(self):
        PyMem_Free(self.named)
        PyMem_Free(self.begin)

    cdef int number(self) except -1:
        """Number the symbols that the series name.

        In their order: no reference becomes larger, and so all series fit into the whole's size.
        """
        cdef Py_ssize_t number, size
        for number in range(1, self.request.symbols_count):
            if self.request.refs[number] == UNNAMED:
                continue
            size = self.request.symbols[number].stop - self.request.symbols[number].start
            self.request.refs[number] = <uint32_t>self.named_count
            self.named[self.named_count] = <uint32_t>number
            self.named_count += 1
            self.named_size += 1 + varint_size(<uint64_t>size) + size
        self.request.refs[0] = 0
        self.begin = self.out = <unsigned char *>allocated(PyBytes_GET_SIZE(self.request.data), 1)
        self.points = 0
        return 0

    cdef int add(self, Span series) except -1:
        """Add a series."""
        cdef unsigned char *message = self.open(SERIES_TAG_2, series.stop - series.start)
        cdef Py_ssize_t pos = series.start
        cdef Field field
        while pos < series.stop:
            field = next_field(self.text, pos, series.stop)
            pos = field.stop
            if field.tag == REFS_TAG:
                self.add_refs(field)
            elif field.tag == EXEMPLARS_TAG or field.tag == METADATA_TAG_2:
                self.add_message(field)
            else:
                self.points += field.tag == SAMPLES_TAG_2 or field.tag == HISTOGRAMS_TAG_2
                self.copy(field.tag_at, field.stop)
        self.close(message, SERIES_TAG_2, series.stop - series.start)
        return 0

    cdef int add_message(self, Field message) except -1:
        """Add an exemplar or metadata."""
        cdef Py_ssize_t size = message.stop - message.start, pos = message.start
        cdef unsigned char *begin = self.open(<unsigned char>message.tag, size)
        cdef Field field
        while pos < message.stop:
            field = next_field(self.text, pos, message.stop)
            pos = field.stop
            if message.tag == EXEMPLARS_TAG and field.tag == REFS_TAG:
                self.add_refs(field)
            elif message.tag == METADATA_TAG_2 and (
                field.tag == HELP_TAG or field.tag == UNIT_TAG
            ):
                self.copy(field.tag_at, field.start)
                self.put_refs(field.start, field.stop)
            else:
                self.copy(field.tag_at, field.stop)
        self.close(begin, <unsigned char>message.tag, size)
        return 0

    cdef int add_refs(self, Field field) except -1:
        """Add packed references."""
        cdef Py_ssize_t size = field.stop - field.start
        cdef unsigned char *begin = self.open(REFS_TAG, size)
        self.put_refs(field.start, field.stop)
        self.close(begin, REFS_TAG, size)
        return 0

    cdef int put_refs(self, Py_ssize_t pos, Py_ssize_t end) except -1:
        """Write references anew."""
        cdef uint64_t number
        while pos < end:
            number = read_varint(self.text, &pos, end)
            if number and number >= <uint64_t>self.request.symbols_count:
                raise DecodeError(
                    f"a reference beyond the {self.request.symbols_count} symbols", offset=pos
                )
            if self.begin == NULL:
                self.request.refs[number] = 0
                continue
            number = self.request.refs[number]
            self.out = put_varint(self.out, number)
        return 0

    cdef inline void copy(self, Py_ssize_t start, Py_ssize_t stop) noexcept:
        if self.begin != NULL:
            memcpy(self.out, self.text + start, <size_t>(stop - start))
            self.out += stop - start

    cdef inline unsigned char *open(self, unsigned char tag, Py_ssize_t size) noexcept:
        """Begin a field of at most ``size`` bytes; return where its payload begins."""
        if self.begin != NULL:
            self.out = put_head(self.out, tag, <uint64_t>size)
        return self.out

    cdef inline void close(
        self, unsigned char *begin, unsigned char tag, Py_ssize_t size_max
    ) noexcept:
        """End a field that was begun with a size; references may have made it smaller."""
        cdef Py_ssize_t size = self.out - begin
        cdef unsigned char *payload
        if self.begin != NULL and size != size_max:
            payload = put_head(
                begin - 1 - varint_size(<uint64_t>size_max), tag, <uint64_t>size
            )
            if payload != begin:
                memmove(payload, begin, <size_t>size)
            self.out = payload + size

    cdef bytes whole(self):
        """Return the request."""
        cdef Py_ssize_t messages = self.out - self.begin, at
        cdef bytes data = PyBytes_FromStringAndSize(NULL, self.named_size + messages)
        cdef unsigned char *out = put_head(
            <unsigned char *>PyBytes_AS_STRING(data), SYMBOLS_TAG, 0
        )
        cdef Span symbol
        for at in range(1, self.named_count):
            symbol = self.request.symbols[self.named[at]]
            out = put_head(out, SYMBOLS_TAG, <uint64_t>(symbol.stop - symbol.start))
            memcpy(out, self.text + symbol.start, <size_t>(symbol.stop - symbol.start))
            out += symbol.stop - symbol.start
        memcpy(out, self.begin, <size_t>messages)
        return data
