# cython: boundscheck=False, wraparound=False, cdivision=True
"""Split an encoded OTLP request in two, for endpoints that find it too large.

* Every point is in exactly one half, points keep their order, and the halves differ by at most one
  point. A metric with points on both sides is in both halves, as are its scope and resource. Of
  logs and traces, "points" are records and spans.
* Messages beside the cut are copied as bytes; only the path to it is parsed.
  All fields off that path (names, units, temporality, schema URLs) are repeated in both halves.
* Field numbers are from opentelemetry-proto (``metrics/v1/metrics.proto``, ``logs/v1/logs.proto``,
  ``trace/v1/trace.proto``).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

from relay.codec.otlp.record_fields cimport Field, read_field
from relay.codec.wire_types cimport BYTES

from relay.codec.protobuf import field_bytes, varint
from relay.runtime.errors import DecodeError


cdef enum:
    DEPTH_MAX = 5
    NUMBER_MAX = 31


METRICS = (
    frozenset({1}),  # ExportMetricsServiceRequest.resource_metrics
    frozenset({2}),  # ResourceMetrics.scope_metrics
    frozenset({2}),  # ScopeMetrics.metrics
    frozenset({5, 7, 9, 10, 11}),  # Metric.{gauge,sum,histogram,exponential_histogram,summary}
    frozenset({1}),  # data_points, in each of the five
)

RECORDS = (
    frozenset({1}),  # ExportLogsServiceRequest.resource_logs, of traces resource_spans
    frozenset({2}),  # ResourceLogs.scope_logs, ResourceSpans.scope_spans
    frozenset({2}),  # ScopeLogs.log_records, ScopeSpans.spans
)


cdef class Splitter:
    """The bytes of a request, and the fields that lead to its points, by depth."""

    cdef bytes data
    cdef const unsigned char *begin
    cdef uint32_t numbers[DEPTH_MAX]  # a bit for each
    cdef int depth

    def __cinit__(self, bytes data not None, tuple path not None):
        cdef int number
        assert len(path) <= DEPTH_MAX
        self.data = data
        self.begin = <const unsigned char *>PyBytes_AS_STRING(data)
        self.depth = <int>len(path)
        for depth, numbers in enumerate(path):
            self.numbers[<int>depth] = 0
            for number in numbers:
                assert 0 < number <= NUMBER_MAX
                self.numbers[<int>depth] |= <uint32_t>1 << number

    cdef const unsigned char *read(
        self, const unsigned char *at, const unsigned char *end, int depth, Field *field,
        bint *leads_on
    ) except NULL:
        """Read a field and say whether it is one that leads to points; return what is behind it."""
        cdef const unsigned char *behind = read_field(at, end, field)
        if behind == NULL:
            raise DecodeError("a field that cannot be read", offset=at - self.begin)
        leads_on[0] = (
            field.wire_type == BYTES
            and field.number <= NUMBER_MAX
            and self.numbers[depth] >> field.number & 1
        )
        return behind

    cdef Py_ssize_t count(
        self, const unsigned char *at, const unsigned char *end, int depth
    ) except -1:
        """Count the points of a message of this depth."""
        cdef Py_ssize_t points = 0
        cdef Field field
        cdef bint leads_on = False
        if depth == self.depth:
            return 1
        while at < end:
            at = self.read(at, end, depth, &field, &leads_on)
            if leads_on:
                points += self.count(field.payload, at, depth + 1)
        return points

    cdef tuple cut(
        self, const unsigned char *at, const unsigned char *end, int depth, Py_ssize_t wanted
    ):
        """Return the halves of a message, cut behind its ``wanted`` first points; it has more."""
        cdef list first = [], second = []
        cdef const unsigned char *behind
        cdef Py_ssize_t points
        cdef Field field
        cdef bint leads_on = False
        cdef bytes whole
        while at < end:
            behind = self.read(at, end, depth, &field, &leads_on)
            if not leads_on:
                whole = PyBytes_FromStringAndSize(<const char *>at, behind - at)
                first.append(whole)
                second.append(whole)
                at = behind
                continue
            points = self.count(field.payload, behind, depth + 1)
            if points <= wanted:
                first.append(PyBytes_FromStringAndSize(<const char *>at, behind - at))
                wanted -= points
            elif not wanted:
                second.append(PyBytes_FromStringAndSize(<const char *>at, behind - at))
            else:
                tag = varint(field.number << 3 | BYTES)
                before, after = self.cut(field.payload, behind, depth + 1, wanted)
                first.append(field_bytes(tag, before))
                second.append(field_bytes(tag, after))
                wanted = 0
            at = behind
        return b"".join(first), b"".join(second)


def count_points(bytes data not None, tuple path not None=METRICS):
    """Count the data points of a request. Raise DecodeError."""
    cdef Splitter splitter = Splitter(data, path)
    return splitter.count(splitter.begin, splitter.begin + PyBytes_GET_SIZE(data), 0)


def split_request(bytes data not None, tuple path not None=METRICS):
    """Split a request of n points into ((first half, its points), (second half, its points)).

    The first half has the odd point. Return None for fewer than two points. Raise DecodeError for
    bytes that are no such request.
    """
    cdef Splitter splitter = Splitter(data, path)
    cdef const unsigned char *end = splitter.begin + PyBytes_GET_SIZE(data)
    cdef Py_ssize_t points = splitter.count(splitter.begin, end, 0)
    cdef Py_ssize_t wanted = (points + 1) // 2
    if points < 2:
        return None
    first, second = splitter.cut(splitter.begin, end, 0, wanted)
    return (first, wanted), (second, points - wanted)
