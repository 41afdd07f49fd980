# cython: boundscheck=False, wraparound=False, cdivision=True
"""Writes the points of a buffer as an ExportMetricsServiceRequest.

* Sizes are measured before writing: metrics, scopes and resources are numbered in order of first
  appearance and linked by first child and next sibling. A group keeps its number, which is that of
  this request if the node of that number is the group's: no table, nothing to clear.
* A run whose points are all earlier than a metric's last runs is written before them: requests may
  overtake each other, and Prometheus drops samples that go back in time.
* Mostly the points stand in the buffer as they are written. Where they do not, they are put in
  order first, so that the writer reads one array from end to end.
* Prefixes and groups are prefetched ahead, because series may come in any order.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyTypeObject
from libc.stdint cimport INT32_MAX, int32_t, uint64_t
from libc.string cimport memcpy

from relay.codec.copying cimport put_bytes
from relay.codec.otlp.groups cimport MetricGroup, Numbered, ResourceGroup, ScopeGroup
from relay.codec.otlp.point_buffer cimport TAIL_BYTES, Point, Run
from relay.codec.prefetch cimport LINE, prefetch
from relay.codec.resizing cimport resized
from relay.codec.varints cimport field_size, put_head


cdef extern from "Python.h":
    PyTypeObject *type_of "Py_TYPE" (void *instance) noexcept nogil


cdef enum:
    FIRST_NODES = 16
    VALUE_TAG = 0x21
    NONE = -1
    FETCH_GROUP = 16  # prefetch distance in runs
    FETCH_HEAD = 8  # and in points
    HEADER_BYTES = 33  # of a bytes object, with the zero at its end
    FETCH_LINES_MAX = 16  # of a prefix
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


cdef struct Node:  # a scope or a resource of the request
    void *group
    void *head  # bytes: the first of the message
    Py_ssize_t size  # of its message
    int32_t first, last  # children
    int32_t following  # next sibling
    int32_t parent


cdef inline unsigned char *put(unsigned char *out, void *encoded) noexcept:
    return put_bytes(out, PyBytes_AS_STRING(<bytes>encoded), PyBytes_GET_SIZE(<bytes>encoded))


cdef void *allocate(Py_ssize_t count, size_t size) except NULL:
    cdef void *memory = PyMem_Malloc(<size_t>max(count, 1) * size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef class Level:
    """Number the scopes or the resources of a request."""

    cdef Node *nodes
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity

    def __dealloc__(self):
        PyMem_Free(self.nodes)

    cdef inline Py_ssize_t number(self, Numbered group) noexcept:
        """Return the number of a group; :attr:`count` for a new one, which the caller must add."""
        cdef Py_ssize_t number = group.number
        if number < self.count and self.nodes[number].group == <void *>group:
            return number
        return self.count

    cdef Node *add(self, Numbered group, bytes head) except NULL:
        """Add a node for a new group and return it; earlier ones may move."""
        cdef Py_ssize_t capacity
        if self.count == self.capacity:
            capacity = self.capacity * 2 if self.capacity else FIRST_NODES
            self.nodes = <Node *>resized(self.nodes, capacity, sizeof(Node))
            self.capacity = capacity
        cdef Node *node = &self.nodes[self.count]
        group.number = self.count
        self.count += 1
        node.group = <void *>group
        node.head = <void *>head
        node.size = PyBytes_GET_SIZE(head)
        node.first = node.last = node.following = node.parent = NONE
        return node


cdef class RequestPlan:
    """A request before it is written: its metrics, scopes and resources, numbered.

    ``is_in_order``: the points are written in the order in which they stand in the buffer.
    """

    cdef Metric *metrics
    cdef Py_ssize_t count
    cdef int32_t *next_run
    cdef Level scopes
    cdef Level resources
    cdef bint is_in_order

    def __cinit__(self):
        self.scopes = Level()
        self.resources = Level()
        self.is_in_order = True

    def __dealloc__(self):
        PyMem_Free(self.metrics)
        PyMem_Free(self.next_run)

    cdef Py_ssize_t place_scope(self, ScopeGroup scope) except -1:
        """Return the number of the scope of a new metric; add it, and its resource, if new."""
        cdef Py_ssize_t number = self.scopes.number(scope)
        cdef Py_ssize_t of_resource
        cdef ResourceGroup group
        cdef Node *resource
        if number == self.scopes.count:
            group = scope.resource
            of_resource = self.resources.number(group)
            self.scopes.add(scope, scope.encoded).parent = <int32_t>of_resource
            if of_resource == self.resources.count:
                self.resources.add(group, group.encoded)
            resource = &self.resources.nodes[of_resource]
            if resource.first == NONE:
                resource.first = <int32_t>number
            else:
                self.scopes.nodes[resource.last].following = <int32_t>number
            resource.last = <int32_t>number
            self.is_in_order &= of_resource == self.resources.count - 1
        self.is_in_order &= number == self.scopes.count - 1
        return number

    cdef int number_groups(self, Point *points, Run *runs, Py_ssize_t runs_count) except -1:
        """Number all groups and link the runs of each metric."""
        cdef Metric *metrics = self.metrics
        cdef int32_t *next_run = self.next_run
        cdef PyTypeObject *metric_group = <PyTypeObject *>MetricGroup
        cdef Py_ssize_t at, number, ahead, end, start = 0, start_size = 0, count = 0, of_scope = 0
        cdef uint64_t time_ns  # 0: of a point encoded as a whole
        cdef void *group
        cdef void *scope = NULL
        cdef Metric *metric
        cdef Node *parent = NULL
        cdef bint is_in_order = True
        for at in range(runs_count):
            ahead = min(at + FETCH_GROUP, runs_count - 1)
            prefetch(runs[ahead].group)
            prefetch(<char *>runs[ahead].group + LINE)
            next_run[at] = NONE
            end = runs[at].end
            if end == start:
                continue
            group = runs[at].group
            if type_of(group) != metric_group:
                raise TypeError(f"a run of points of {<object>group!r}")
            time_ns = points[start].time_ns
            number = (<MetricGroup>group).number
            if number < count and metrics[number].group == group:
                metric = &metrics[number]
                metric.points += end - start
                metric.data_size += runs[at].size - start_size
                if time_ns and metric.last_ns > time_ns:
                    insert_run(points, runs, metric, next_run, at)
                    is_in_order = False
                else:
                    next_run[metric.last] = <int32_t>at
                    metric.last = <int32_t>at
                    metric.last_ns = time_ns
                    is_in_order &= number == count - 1
            else:
                if <void *>(<MetricGroup>group).scope != scope:
                    scope = <void *>(<MetricGroup>group).scope
                    of_scope = self.place_scope(<ScopeGroup>scope)
                    parent = &self.scopes.nodes[of_scope]
                metric = &metrics[count]
                (<MetricGroup>group).number = count
                metric.group = group
                metric.head = <void *>(<MetricGroup>group).head
                metric.tail = <void *>(<MetricGroup>group).data_tail
                metric.tag = PyBytes_AS_STRING((<MetricGroup>group).data_tag)[0]
                metric.points = end - start
                metric.data_size = runs[at].size - start_size
                metric.first = metric.last = <int32_t>at
                metric.last_ns = time_ns
                metric.scope = <int32_t>of_scope
                metric.following = NONE
                if parent.first == NONE:
                    parent.first = <int32_t>count
                else:
                    metrics[parent.last].following = <int32_t>count
                parent.last = <int32_t>count
                count += 1
            start = end
            start_size = runs[at].size
        self.count = count
        self.is_in_order &= is_in_order
        return 0

    cdef Py_ssize_t measure(self) noexcept:
        """Compute the size of every message, from the inside out; return that of the request."""
        cdef Py_ssize_t number, total = 0
        cdef Metric *metric
        cdef Node *scopes = self.scopes.nodes
        cdef Node *resources = self.resources.nodes
        for number in range(self.count):
            metric = &self.metrics[number]
            metric.data_size += PyBytes_GET_SIZE(<bytes>metric.tail)
            metric.size = PyBytes_GET_SIZE(<bytes>metric.head) + field_size(metric.data_size)
            scopes[metric.scope].size += field_size(metric.size)
        for number in range(self.scopes.count):
            resources[scopes[number].parent].size += field_size(scopes[number].size)
        for number in range(self.resources.count):
            total += field_size(resources[number].size)
        return total

    cdef void put_in_order(self, Point *points, Run *runs, Point *ordered) noexcept:
        """Copy the points to where they are read from end to end."""
        cdef int32_t of_resource, of_scope, run
        cdef Py_ssize_t number
        cdef Metric *metrics = self.metrics
        cdef int32_t *next_run = self.next_run
        cdef Point *point
        cdef Point *end
        for number in range(self.resources.count):
            of_resource = self.resources.nodes[number].first
            while of_resource != NONE:
                of_scope = self.scopes.nodes[of_resource].first
                while of_scope != NONE:
                    run = metrics[of_scope].first
                    while run != NONE:
                        point = &points[first_of(runs, run)]
                        end = &points[runs[run].end]
                        while point < end:
                            ordered[0] = point[0]
                            ordered += 1
                            point += 1
                        run = next_run[run]
                    of_scope = metrics[of_scope].following
                of_resource = self.scopes.nodes[of_resource].following

    cdef unsigned char *write(
        self, unsigned char *out, Point *point, Py_ssize_t count, Py_ssize_t size
    ) noexcept:
        """Write the measured request of points in order; return the position behind it."""
        cdef Py_ssize_t number
        cdef int32_t of_resource, of_scope
        cdef Node *resource
        cdef Node *scope
        cdef Metric *metric
        cdef Metric *metrics = self.metrics
        cdef Point *end
        cdef Point *ahead
        cdef Point *last = point + count - 1
        # Of a prefix of average size, wherever in a line it begins.
        cdef Py_ssize_t fetched = size // max(count, 1) - TAIL_BYTES + HEADER_BYTES
        cdef char *line
        cdef char *lines_end
        fetched = min(fetched, <Py_ssize_t>FETCH_LINES_MAX * LINE)
        for number in range(self.resources.count):
            resource = &self.resources.nodes[number]
            out = put(put_head(out, 0x0A, resource.size), resource.head)
            of_resource = resource.first
            while of_resource != NONE:
                scope = &self.scopes.nodes[of_resource]
                out = put(put_head(out, 0x12, scope.size), scope.head)
                of_scope = scope.first
                while of_scope != NONE:
                    metric = &metrics[of_scope]
                    out = put(put_head(out, 0x12, metric.size), metric.head)
                    out = put_head(out, metric.tag, metric.data_size)
                    end = point + metric.points
                    while point < end:
                        ahead = min(point + FETCH_HEAD, last)
                        line = <char *>ahead.head
                        lines_end = line + fetched
                        while line < lines_end:
                            prefetch(line)
                            line += LINE
                        prefetch(lines_end)
                        out = put(out, point.head)
                        if point.time_ns:
                            memcpy(out, &point.time_ns, 8)
                            out[8] = VALUE_TAG
                            memcpy(out + 9, &point.value, 8)
                            out += TAIL_BYTES
                        point += 1
                    out = put(out, metric.tail)
                    of_scope = metric.following
                of_resource = scope.following
        return out


cdef inline Py_ssize_t first_of(Run *runs, Py_ssize_t run) noexcept:
    return runs[run - 1].end if run else 0


cdef void insert_run(
    Point *points, Run *runs, Metric *metric, int32_t *next_run, Py_ssize_t at
) noexcept:
    """Insert a run that is earlier than its metric's last before the runs later in every point."""
    cdef Py_ssize_t run = metric.first, left = SEARCH_POINTS_MAX
    cdef int32_t *link = &metric.first
    cdef uint64_t latest = 0
    cdef Point *point = &points[first_of(runs, at)]
    cdef Point *end = &points[runs[at].end]
    while point < end and left:
        latest = max(latest, point.time_ns)
        point += 1
        left -= 1
    while run != NONE and left:
        point = &points[first_of(runs, run)]
        end = &points[runs[run].end]
        while point < end and left:
            left -= 1
            if point.time_ns <= latest:
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


cdef bytes encode_points(
    Point *points, Py_ssize_t count, Py_ssize_t size, Run *runs, Py_ssize_t runs_count
):
    """Return the request of these points; see ``PointBuffer.encode``.

    ``size``: the bytes of the points without metrics, scopes and resources.
    """
    assert runs_count < INT32_MAX
    assert count == (runs[runs_count - 1].end if runs_count else 0), "runs must tile the arena"
    cdef RequestPlan plan = RequestPlan()
    cdef Point *ordered = NULL
    cdef Py_ssize_t total
    cdef bytes request
    cdef unsigned char *begin
    cdef unsigned char *end
    plan.metrics = <Metric *>allocate(runs_count, sizeof(Metric))
    plan.next_run = <int32_t *>allocate(runs_count, sizeof(int32_t))
    plan.number_groups(points, runs, runs_count)
    total = plan.measure()
    try:
        if not plan.is_in_order:
            ordered = <Point *>allocate(count, sizeof(Point))
            plan.put_in_order(points, runs, ordered)
            points = ordered
        request = PyBytes_FromStringAndSize(NULL, total)
        begin = <unsigned char *>PyBytes_AS_STRING(request)
        end = plan.write(begin, points, count, size)
    finally:
        PyMem_Free(ordered)
    assert end == begin + total
    return request
