# cython: boundscheck=False, wraparound=False, cdivision=True
"""Writes the points of a buffer as an ExportMetricsServiceRequest.

* Sizes are measured before writing: metrics, scopes and resources are numbered in order of first
  appearance and linked by first child and next sibling. A group keeps its number, which is that of
  this request if the node of that number is the group's: no table, nothing to clear.
* A run whose points are all earlier than a metric's last runs is written before them: requests may
  overtake each other, and Prometheus drops samples that go back in time.
* Mostly the points stand in the buffer as they are written. Where they do not, they are put in
  order first, so that the writer reads one array from end to end.
* A large resource is cut into parts, and the first parts of all resources come before the second
  ones: the targets of a job have the same metrics, and gzip finds what repeats only within its
  window. A metric is never cut.
* Prefixes and groups are prefetched ahead, because series may come in any order.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.object cimport PyTypeObject
from libc.stdint cimport INT32_MAX, int32_t, uint64_t
from libc.string cimport memcpy

from relay.codec.copying cimport put_bytes
from relay.codec.otlp.groups cimport MetricGroup, Numbered, ResourceGroup, ScopeGroup
from relay.codec.otlp.metric_runs cimport NONE, Metric, first_of, insert_run, time_of
from relay.codec.otlp.point_buffer cimport TAIL_BYTES, Point, Run
from relay.codec.prefetch cimport HEADER_BYTES, LINE, prefetch, prefetch_lines
from relay.codec.resizing cimport resized
from relay.codec.varints cimport field_size, put_head


cdef extern from "Python.h":
    PyTypeObject *type_of "Py_TYPE" (void *instance) noexcept nogil
    Py_ssize_t PY_SSIZE_T_MAX


cdef enum:
    FIRST_NODES = 16
    VALUE_TAG = 0x21
    FETCH_GROUP = 16  # prefetch distance in runs
    FETCH_HEAD = 8  # and in points
    FETCH_LINES_MAX = 16  # of a prefix
    WINDOW_BYTES = 1 << 15  # how far back gzip refers (RFC 1951, section 2)
    PART_BYTES = WINDOW_BYTES // 4 * 3  # the same part of the resource before is in the window


cdef struct Node:  # a scope or a resource of the request
    void *group
    void *head  # bytes: the first of the message
    Py_ssize_t size  # of its message
    int32_t first, last  # children
    int32_t following  # next sibling
    int32_t parent
    Py_ssize_t points  # of a resource
    Py_ssize_t start  # of a resource: its first point
    uint64_t time_ns  # of a large resource: that of its points, 0 if none was seen yet
    bint is_cut  # of a resource


cdef struct Remainder:  # what is left to write of a resource that is cut
    Node *resource
    int32_t scope
    int32_t metric


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
        group.number = self.count
        return self.append(<void *>group, <void *>head)

    cdef Node *append(self, void *group, void *head) except NULL:
        """Add a node and return it; earlier ones may move."""
        cdef Py_ssize_t capacity
        if self.count == self.capacity:
            capacity = self.capacity * 2 if self.capacity else FIRST_NODES
            self.nodes = <Node *>resized(self.nodes, capacity, sizeof(Node))
            self.capacity = capacity
        cdef Node *node = &self.nodes[self.count]
        self.count += 1
        node.group = group
        node.head = head
        node.size = PyBytes_GET_SIZE(<bytes>head)
        node.first = node.last = node.following = node.parent = NONE
        node.points = node.start = 0
        node.time_ns = 0
        node.is_cut = False
        return node


cdef class RequestPlan:
    """A request before it is written: its metrics, scopes and resources, numbered.

    ``is_in_order``: the points are written in the order in which they stand in the buffer.
    """

    cdef Metric *metrics
    cdef Py_ssize_t count
    cdef int32_t *next_run
    cdef int32_t *metric_of  # of each run: its group is in no cache any more
    cdef uint64_t *times  # of each point, once a run comes late; see insert_run
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
        PyMem_Free(self.metric_of)
        PyMem_Free(self.times)

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
                    if self.times == NULL:
                        self.times = <uint64_t *>PyMem_Calloc(runs[runs_count - 1].end, 8)
                        if self.times == NULL:
                            raise MemoryError
                    insert_run(points, runs, metric, next_run, at, self.times)
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
                number = count
                metric = &metrics[number]
                (<MetricGroup>group).number = number
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
            self.metric_of[at] = <int32_t>number
            start = end
            start_size = runs[at].size
        self.count = count
        self.is_in_order &= is_in_order
        return 0

    cdef Py_ssize_t lay_out(self, Point *points, Run *runs, Py_ssize_t runs_count) except -1:
        """Compute all sizes and decide about the order; return the size of the request."""
        cdef Py_ssize_t total = self.measure()
        cdef Py_ssize_t number
        cdef Node *resource
        if total <= WINDOW_BYTES or self.resources.count < 2 or not self.mark_large():
            return total
        if not self.unmark_of_several_times(points, runs, runs_count):
            return total
        total = self.cut_resources()
        if self.is_in_order:  # the points stay where they are
            for number in range(self.resources.count):
                resource = &self.resources.nodes[number]
                resource.start = first_of(
                    runs, self.metrics[self.scopes.nodes[resource.first].first].first
                )
        return total

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
            scopes[metric.scope].points += metric.points
        for number in range(self.scopes.count):
            resources[scopes[number].parent].size += field_size(scopes[number].size)
            resources[scopes[number].parent].points += scopes[number].points
        for number in range(self.resources.count):
            total += field_size(resources[number].size)
        self.set_starts()
        return total

    cdef void set_starts(self) noexcept:
        """Note where the points of each resource begin if they stand in order."""
        cdef Py_ssize_t number, start = 0
        for number in range(self.resources.count):
            self.resources.nodes[number].start = start
            start += self.resources.nodes[number].points

    cdef bint mark_large(self) noexcept:
        """Mark the resources that are large enough to be cut; return whether there is one."""
        cdef Py_ssize_t number
        cdef Node *resource
        cdef bint is_any = False
        for number in range(self.resources.count):
            resource = &self.resources.nodes[number]
            resource.is_cut = resource.size > PART_BYTES
            is_any |= resource.is_cut
        return is_any

    cdef bint unmark_of_several_times(
        self, Point *points, Run *runs, Py_ssize_t runs_count
    ) noexcept:
        """Unmark the resources whose points have several times, or one that cannot be read.

        Return whether one is still to be cut. An endpoint that makes a series of each resource it
        is sent, as Prometheus does, would see times that go back in the second part.
        """
        cdef Py_ssize_t at
        cdef Point *point = points
        cdef Point *end
        cdef Node *resource
        cdef Metric *metric
        cdef uint64_t time_ns
        cdef bint is_any = False
        for at in range(runs_count):
            end = &points[runs[at].end]
            if point == end:
                continue
            metric = &self.metrics[self.metric_of[at]]
            resource = &self.resources.nodes[self.scopes.nodes[metric.scope].parent]
            while point < end and resource.is_cut:
                time_ns = point.time_ns if point.time_ns else time_of(<bytes>point.head)
                if not resource.time_ns:
                    resource.time_ns = time_ns
                resource.is_cut = time_ns and time_ns == resource.time_ns
                point += 1
            point = end
        for at in range(self.resources.count):
            is_any |= self.resources.nodes[at].is_cut
        return is_any

    cdef Py_ssize_t cut_resources(self) except -1:
        """Replace large resources by their parts, in order; return the size of the request."""
        cdef Level scopes = self.scopes
        cdef Level resources = self.resources
        cdef Py_ssize_t number, left = resources.count, still_left, total = 0
        cdef Remainder *remainders = <Remainder *>allocate(left, sizeof(Remainder))
        self.scopes = Level()
        self.resources = Level()
        try:
            for number in range(left):
                remainders[number].resource = &resources.nodes[number]
                remainders[number].scope = resources.nodes[number].first
                remainders[number].metric = scopes.nodes[resources.nodes[number].first].first
            while left:
                still_left = 0
                for number in range(left):
                    total += field_size(self.add_part(&remainders[number], scopes.nodes))
                    if remainders[number].metric != NONE:
                        remainders[still_left] = remainders[number]
                        still_left += 1
                left = still_left
        finally:
            PyMem_Free(remainders)
        self.set_starts()
        return total

    cdef Py_ssize_t add_part(self, Remainder *left_of, Node *scopes) except -1:
        """Add the next metrics of a resource, one at least; return the size of its message."""
        cdef Py_ssize_t left = PART_BYTES if left_of.resource.is_cut else PY_SSIZE_T_MAX
        cdef Py_ssize_t points = 0, scope_size
        cdef int32_t of_scope, number
        cdef Metric *metric = NULL
        cdef Node *scope = NULL
        cdef Node *resource = self.resources.append(left_of.resource.group, left_of.resource.head)
        left = max(left, self.metrics[left_of.metric].size)
        while left_of.metric != NONE and self.metrics[left_of.metric].size <= left:
            of_scope = <int32_t>self.scopes.count
            if scope == NULL:
                resource.first = of_scope
            else:
                scope.following = of_scope
            scope = self.scopes.append(scopes[left_of.scope].group, scopes[left_of.scope].head)
            scope.first = number = left_of.metric
            scope_size = 0
            while number != NONE and self.metrics[number].size <= left:
                metric = &self.metrics[number]
                left -= metric.size
                scope_size += field_size(metric.size)
                points += metric.points
                number = metric.following
            metric.following = NONE
            if number == NONE and scopes[left_of.scope].following != NONE:
                left_of.scope = scopes[left_of.scope].following
                number = scopes[left_of.scope].first
            left_of.metric = number
            scope.size += scope_size
            resource.size += field_size(scope.size)
        resource.points = points
        return resource.size

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
        self, unsigned char *out, Point *points, Py_ssize_t count, Py_ssize_t size
    ) noexcept:
        """Write the request of points in order; return the position behind it."""
        cdef Py_ssize_t number
        cdef int32_t of_resource, of_scope
        cdef Node *resource
        cdef Node *scope
        cdef Metric *metric
        cdef Metric *metrics = self.metrics
        cdef Point *point = points
        cdef Point *last = points + count - 1
        cdef Point *end
        # Of a prefix of average size, wherever in a line it begins.
        cdef Py_ssize_t fetched = size // max(count, 1) - TAIL_BYTES + HEADER_BYTES
        fetched = min(fetched, <Py_ssize_t>FETCH_LINES_MAX * LINE)
        for number in range(self.resources.count):
            resource = &self.resources.nodes[number]
            if point != points + resource.start:
                point = points + resource.start
                end = point + min(resource.points, <Py_ssize_t>FETCH_HEAD)
                while point < end:
                    prefetch_lines(<char *>point.head, fetched)
                    point += 1
                point = points + resource.start
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
                        prefetch_lines(<char *>min(point + FETCH_HEAD, last).head, fetched)
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
    plan.metric_of = <int32_t *>allocate(runs_count, sizeof(int32_t))
    plan.number_groups(points, runs, runs_count)
    total = plan.lay_out(points, runs, runs_count)
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
