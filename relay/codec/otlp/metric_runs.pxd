# The metrics of a request while it is planned, and the runs of points of each.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport UINT64_MAX, int32_t, uint64_t
from libc.string cimport memcpy

from relay.codec.otlp.point_buffer cimport Point, Run
from relay.codec.otlp.record_fields cimport Field, read_field
from relay.codec.wire_types cimport BYTES, FIXED64


cdef enum:
    NONE = -1
    SEARCH_POINTS_MAX = 1024  # points scanned to place a run that came late


cdef struct Metric:  # a metric of the request
    void *group  # MetricGroup
    void *head  # bytes: the first of the message
    void *tail  # bytes: the last of the message that contains its points
    uint64_t last_ns  # first time of the last run
    Py_ssize_t data_size  # of the message that contains its points
    Py_ssize_t size  # of its message
    Py_ssize_t points
    int32_t first, last  # runs
    int32_t following  # next of the scope
    int32_t scope
    unsigned char tag  # of the message that contains its points


cdef inline Py_ssize_t first_of(Run *runs, Py_ssize_t run) noexcept:
    return runs[run - 1].end if run else 0


cdef inline uint64_t time_of(bytes point) noexcept:
    """Return the time of a point that is encoded as a whole; 0 if there is none to be read."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(point)
    cdef const unsigned char *end
    cdef Field field
    cdef uint64_t time_ns
    # It stands behind its tag and length.
    end = read_field(at, at + PyBytes_GET_SIZE(point), &field)
    at = field.payload if end != NULL and field.wire_type == BYTES else NULL
    while at != NULL and at < end:
        at = read_field(at, end, &field)
        # Of points of every kind, opentelemetry-proto metrics/v1/metrics.proto.
        if at != NULL and field.number == 3 and field.wire_type == FIXED64:
            memcpy(&time_ns, field.payload, 8)
            return time_ns
    return 0


cdef inline uint64_t known_time_of(Point *points, Point *point, uint64_t *times) noexcept:
    """Return the time of a point of either form; 0 if it is not known.

    ``times``: what was read of each of the points before, 0 for nothing, the largest for no time.
    """
    cdef uint64_t *known
    if point.time_ns:
        return point.time_ns
    known = &times[point - points]
    if not known[0]:
        known[0] = time_of(<bytes>point.head)
        if not known[0]:
            known[0] = UINT64_MAX
    return 0 if known[0] == UINT64_MAX else known[0]


cdef inline void insert_run(
    Point *points, Run *runs, Metric *metric, int32_t *next_run, Py_ssize_t at, uint64_t *times
) noexcept:
    """Insert a run that is earlier than its metric's last before the runs later in every point.

    ``times``: see :func:`known_time_of`. Each late run looks at many points of those before.
    """
    cdef Py_ssize_t run = metric.first, left = SEARCH_POINTS_MAX
    cdef int32_t *link = &metric.first
    cdef uint64_t latest = 0, time_ns
    cdef Point *point = &points[first_of(runs, at)]
    cdef Point *end = &points[runs[at].end]
    while point < end and left:
        time_ns = known_time_of(points, point, times)
        latest = max(latest, time_ns if time_ns else UINT64_MAX)
        point += 1
        left -= 1
    while run != NONE and left:
        point = &points[first_of(runs, run)]
        end = &points[runs[run].end]
        while point < end and left:
            left -= 1
            if known_time_of(points, point, times) <= latest:
                link = &next_run[run]
                break
            point += 1
        run = next_run[run]
    link = link if left else &next_run[metric.last]
    next_run[at] = link[0]
    link[0] = <int32_t>at
    if next_run[at] == NONE:
        metric.last = <int32_t>at
        metric.last_ns = points[first_of(runs, at)].time_ns
