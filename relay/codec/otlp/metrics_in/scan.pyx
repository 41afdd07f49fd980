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

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from relay.codec.otlp.envelope cimport Field, Head, Reader, RequestEnvelope
from relay.codec.wire_types cimport BYTES, FIXED64, VARINT
from relay.codec.resizing cimport resized

from relay.codec.remote_write.v1 import ELEMENTS_MAX, no_pause

cdef enum:
    METRICS = 2  # of a scope
    POINTS = 1  # of a metric's data
    GAUGE = 5
    SUM = 7
    HISTOGRAM = 9
    EXPONENTIAL = 10
    SUMMARY = 11
    FIRST_POINTS = 64
    POINT_BYTES_MAX = 1 << 20  # endpoints take 1 MiB a request
    HEAD_BYTES_MAX = 1 << 16  # read once, which takes a microsecond an attribute


cdef class MetricsEnvelope(RequestEnvelope):
    """The data points of a request.

    ``resources`` has (head, scopes) for each resource with points, ``scopes`` (head, metrics), and
    ``metrics`` (key, head, number of the data's field, tail, first point, point behind the last).
    """

    def __dealloc__(self):
        PyMem_Free(self.points)

    cdef int grow(self) except -1:
        cdef Py_ssize_t capacity = self.capacity * 2 if self.capacity else FIRST_POINTS
        self.points = <DataPoint *>resized(self.points, capacity, sizeof(DataPoint))
        self.capacity = capacity
        return 0

    cdef int add_resource(self, Head head, list scopes) except -1:
        if head is not None and scopes:
            self.resources.append((head.whole(), scopes))
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
    envelope.resources = []
    envelope.scattered = []
    envelope.lists_scopes = True
    RequestEnvelope.scan(envelope, body, pause, entries_max, HEAD_BYTES_MAX, scan_scope)
    return envelope


cdef Py_ssize_t scan_scope(
    RequestEnvelope base, Reader reader, list scopes, Field *whole, Py_ssize_t entries
) except -1:
    """Add a scope and its metrics; return the number of entries so far."""
    cdef MetricsEnvelope envelope = <MetricsEnvelope>base
    cdef Head head = reader.scope
    cdef Field field
    cdef list metrics = []
    cdef Py_ssize_t at = whole.payload, first = envelope.count
    head.begin()
    while at < whole.end:
        reader.read(&field, at, whole.end)
        at = field.end
        if field.number == METRICS and field.wire_type == BYTES:
            entries = scan_metric(envelope, reader, metrics, &field, entries + 1)
        else:
            head.add(&field)
    if not envelope.leaves_out(head.size, first, reader) and metrics:
        scopes.append((head.whole(), metrics))
    return entries


cdef inline bint is_data(Field *field) noexcept:
    return field.wire_type == BYTES and (
        field.number == GAUGE or field.number == SUM or field.number == HISTOGRAM
        or field.number == EXPONENTIAL or field.number == SUMMARY
    )


cdef Py_ssize_t scan_metric(
    MetricsEnvelope envelope, Reader reader, list metrics, Field *whole, Py_ssize_t entries
) except -1:
    """Add a metric and its points; return the number of entries so far."""
    cdef Head head = Head(), tail = Head()
    cdef Field field
    cdef Py_ssize_t at = whole.payload
    cdef Py_ssize_t first = envelope.count, oversized = envelope.oversized
    cdef uint64_t number = 0
    cdef bytes own, rest
    head.data = tail.data = reader.data
    while at < whole.end:
        reader.read(&field, at, whole.end)
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
        scan_points(envelope, reader, tail, &field, entries - first)
    entries += envelope.count - first
    reader.check(entries)
    if envelope.leaves_out(head.size + tail.size, first, reader):
        return entries
    if envelope.count > first:
        own, rest = head.whole(), tail.whole()
        # No field begins with a zero byte, so that no other head and tail have this key.
        key = b"".join((own, b"\0", bytes((number,)), rest))
        metrics.append((key, own, number, rest, first, envelope.count))
    return entries


cdef int scan_points(
    MetricsEnvelope envelope, Reader reader, Head tail, Field *data, Py_ssize_t others
) except -1:
    """Add the points of a metric's data; ``others``: entries so far that are not in the array."""
    cdef Field field
    cdef Py_ssize_t at = data.payload
    while at < data.end:
        reader.read(&field, at, data.end)
        at = field.end
        if field.number != POINTS or field.wire_type != BYTES:
            tail.add(&field)
            continue
        if field.end - field.start > POINT_BYTES_MAX:
            envelope.oversized += 1
            continue
        if envelope.count == envelope.capacity:
            envelope.grow()
        reader.check(others + envelope.count + 1)
        scan_point(envelope, reader, data.number, &field)
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
