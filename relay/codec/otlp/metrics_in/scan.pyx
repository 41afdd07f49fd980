# cython: boundscheck=False, wraparound=False, cdivision=True
"""Find the data points of an OTLP request of metrics by their offsets, in one pass.

* Of a point only what names its stream (the attributes) and a few numbers are read; it is stepped
  over otherwise, so its unknown fields and their order are kept.
* Heads of resources and scopes are as in :mod:`relay.codec.otlp.envelope`. The head of a metric is
  all of its message but the data; the *tail* is all of the data but the points. Both, with the kind
  of the data, are the key of the metric.
* Of several data of one metric the last kind counts and equal kinds are one, as in protobuf's own
  parsers.
* Field numbers: opentelemetry-proto, ``metrics/v1/metrics.proto``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from relay.codec.otlp.envelope cimport Field, Head, Reader

from relay.codec.remote_write.v1 import ELEMENTS_MAX, no_pause
from relay.runtime.errors import TooLargeError

cdef enum:
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    CHILDREN = 2  # of a resource: its scopes; of a scope: its metrics
    CHILD = 1  # of a request: its resources; of a metric's data: its points
    GAUGE = 5
    SUM = 7
    HISTOGRAM = 9
    EXPONENTIAL = 10
    SUMMARY = 11
    FIRST_POINTS = 64
    POINT_BYTES_MAX = 1 << 20  # endpoints take 1 MiB a request
    HEAD_BYTES_MAX = 1 << 16  # read once, which takes a microsecond an attribute


cdef class MetricsEnvelope:
    """The data points of a request, numbered in their order.

    ``resources`` has (head, scopes) for each resource with points, ``scopes`` in that (head,
    metrics) for each scope with some, and ``metrics`` in that (key, head, number of the data's
    field, tail, first point, point behind the last). ``oversized`` counts points that are left out
    because they, or a head of theirs, are too large.
    """

    def __dealloc__(self):
        PyMem_Free(self.points)

    cdef int grow(self) except -1:
        cdef Py_ssize_t capacity = self.capacity * 2 if self.capacity else FIRST_POINTS
        cdef void *points = PyMem_Realloc(self.points, <size_t>capacity * sizeof(DataPoint))
        if points == NULL:
            raise MemoryError
        self.points = <DataPoint *>points
        self.capacity = capacity
        return 0

    cdef bytes attributes_of(self, DataPoint *point):
        if point.attributes_end < 0:
            return <bytes>self.scattered[point.attributes]
        return PyBytes_FromStringAndSize(
            PyBytes_AS_STRING(self.body) + point.attributes,
            point.attributes_end - point.attributes,
        )

    def point(self, Py_ssize_t number):
        """Return a point's message."""
        assert 0 <= number < self.count
        return self.body[self.points[number].payload : self.points[number].end]

    def attributes(self, Py_ssize_t number):
        """Return the attribute fields of a point."""
        assert 0 <= number < self.count
        return self.attributes_of(&self.points[number])

    def __repr__(self):
        return f"<MetricsEnvelope {self.count} points of {len(self.resources)} resources>"


def scan_metrics(bytes body not None, *, Py_ssize_t entries_max=ELEMENTS_MAX, pause=no_pause):
    """Return the envelope of an ExportMetricsServiceRequest.

    Raise DecodeError with the byte offset where it is none, TooLargeError for more than
    ``entries_max`` resources, scopes, metrics and points, and what ``pause`` raises.
    """
    cdef MetricsEnvelope envelope = MetricsEnvelope()
    cdef Reader reader = Reader()
    cdef Field field
    cdef Py_ssize_t at = 0, stop = PyBytes_GET_SIZE(body), entries = 0
    envelope.body = body
    envelope.resources = []
    envelope.scattered = []
    reader.data = <const unsigned char *>PyBytes_AS_STRING(body)
    reader.pause = pause
    while at < stop:
        reader.read(&field, at, stop)
        at = field.end
        if field.number == CHILD and field.wire_type == BYTES:
            entries = scan_resource(
                envelope, reader, field.payload, field.end, entries + 1, entries_max
            )
    return envelope


cdef Py_ssize_t scan_resource(
    MetricsEnvelope envelope, Reader reader, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t entries,
    Py_ssize_t entries_max,
) except -1:
    """Add a resource; return the number of entries so far."""
    cdef Head head = Head()
    cdef Field field
    cdef list scopes = []
    cdef Py_ssize_t first = envelope.count
    head.data = reader.data
    while at < stop:
        reader.read(&field, at, stop)
        at = field.end
        if field.number == CHILDREN and field.wire_type == BYTES:
            entries = scan_scope(
                envelope, reader, scopes, field.payload, field.end, entries + 1, entries_max
            )
        else:
            head.add(&field)
    if head.size > HEAD_BYTES_MAX:
        envelope.oversized += envelope.count - first
        envelope.count = first
    elif scopes:
        envelope.resources.append((head.whole(), scopes))
    return entries


cdef Py_ssize_t scan_scope(
    MetricsEnvelope envelope, Reader reader, list scopes, Py_ssize_t at, Py_ssize_t stop,
    Py_ssize_t entries, Py_ssize_t entries_max,
) except -1:
    """Add a scope and its metrics; return the number of entries so far."""
    cdef Head head = Head()
    cdef Field field
    cdef list metrics = []
    cdef Py_ssize_t first = envelope.count
    head.data = reader.data
    while at < stop:
        reader.read(&field, at, stop)
        at = field.end
        if field.number == CHILDREN and field.wire_type == BYTES:
            entries = scan_metric(
                envelope, reader, metrics, field.payload, field.end, entries + 1, entries_max
            )
        else:
            head.add(&field)
    if head.size > HEAD_BYTES_MAX:
        envelope.oversized += envelope.count - first
        envelope.count = first
    elif metrics:
        scopes.append((head.whole(), metrics))
    return entries


cdef inline bint is_data(Field *field) noexcept:
    return field.wire_type == BYTES and (
        field.number == GAUGE or field.number == SUM or field.number == HISTOGRAM
        or field.number == EXPONENTIAL or field.number == SUMMARY
    )


cdef Py_ssize_t scan_metric(
    MetricsEnvelope envelope, Reader reader, list metrics, Py_ssize_t at, Py_ssize_t stop,
    Py_ssize_t entries, Py_ssize_t entries_max,
) except -1:
    """Add a metric and its points; return the number of entries so far."""
    cdef Head head = Head(), tail = Head()
    cdef Field field
    cdef Py_ssize_t first = envelope.count, oversized = envelope.oversized
    cdef uint64_t number = 0
    cdef bytes own, rest
    head.data = tail.data = reader.data
    while at < stop:
        reader.read(&field, at, stop)
        at = field.end
        if not is_data(&field):
            head.add(&field)
            continue
        if number and field.number != number:
            envelope.count = first
            envelope.oversized = oversized
            tail = Head()
            tail.data = reader.data
        number = field.number
        scan_points(envelope, reader, tail, number, field.payload, field.end,
                    entries_max - entries + first)
    entries += envelope.count - first
    if entries > entries_max:
        raise too_many(entries_max)
    if head.size + tail.size > HEAD_BYTES_MAX:
        envelope.oversized += envelope.count - first
        envelope.count = first
    elif envelope.count > first:
        own, rest = head.whole(), tail.whole()
        # No field begins with a zero byte, so that no other head and tail have this key.
        key = b"".join((own, b"\0", bytes((number,)), rest))
        metrics.append((key, own, number, rest, first, envelope.count))
    return entries


cdef int scan_points(
    MetricsEnvelope envelope, Reader reader, Head tail, uint64_t kind, Py_ssize_t at,
    Py_ssize_t stop, Py_ssize_t count_max,
) except -1:
    """Add the points of a metric's data; ``kind`` is the number of its field."""
    cdef Field field
    while at < stop:
        reader.read(&field, at, stop)
        at = field.end
        if field.number != CHILD or field.wire_type != BYTES:
            tail.add(&field)
            continue
        if field.end - field.start > POINT_BYTES_MAX:
            envelope.oversized += 1
            continue
        if envelope.count == envelope.capacity:
            envelope.grow()
        if envelope.count >= count_max:
            raise too_many(count_max)
        scan_point(envelope, reader, kind, &field)
        envelope.count += 1
    return 0


cdef int scan_point(
    MetricsEnvelope envelope, Reader reader, uint64_t kind, Field *whole
) except -1:
    """Read what is needed of a point, to the end of the array."""
    cdef DataPoint *point = &envelope.points[envelope.count]
    cdef Field field
    cdef Py_ssize_t at = whole.payload, pos
    cdef uint64_t attribute = 7, flags = 8, exemplars = 5
    cdef bint is_number = kind == GAUGE or kind == SUM
    cdef double number
    cdef int64_t whole_number
    cdef list parts = None
    if kind == HISTOGRAM:
        attribute, flags, exemplars = 9, 10, 8
    elif kind == EXPONENTIAL:
        attribute, flags, exemplars = 1, 10, 11
    point.start, point.payload, point.end = whole.start, whole.payload, whole.end
    point.attributes = point.attributes_end = at
    point.time_ns = point.start_ns = point.value = 0
    point.flags = 0
    point.has_more = False
    while at < whole.end:
        reader.read(&field, at, whole.end)
        at = field.end
        if field.wire_type == FIXED64:
            if field.number == 3:
                memcpy(&point.time_ns, reader.data + field.payload, 8)
            elif field.number == 2:
                memcpy(&point.start_ns, reader.data + field.payload, 8)
            elif is_number and field.number == 4:
                memcpy(&point.value, reader.data + field.payload, 8)
            elif is_number and field.number == 6:
                memcpy(&whole_number, reader.data + field.payload, 8)
                number = <double>whole_number
                memcpy(&point.value, &number, 8)
        elif field.wire_type == BYTES:
            if field.number == attribute:
                if point.attributes == point.attributes_end:
                    point.attributes = field.start
                elif point.attributes_end != field.start:
                    if parts is None:
                        parts = []
                    parts.append(envelope.body[point.attributes : point.attributes_end])
                    point.attributes = field.start
                point.attributes_end = field.end
            elif field.number == exemplars and kind != SUMMARY:
                point.has_more = True
        elif field.wire_type == VARINT and field.number == flags:
            pos = field.payload
            point.flags = <uint32_t>reader.varint(&pos, field.end)
    if parts is not None:
        parts.append(envelope.body[point.attributes : point.attributes_end])
        point.attributes = len(envelope.scattered)
        point.attributes_end = -1
        envelope.scattered.append(b"".join(parts))
    return 0


cdef object too_many(Py_ssize_t entries_max):
    return TooLargeError(
        f"over {entries_max} resources, scopes, metrics and points in one request"
    )
