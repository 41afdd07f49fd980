# cython: boundscheck=False, wraparound=False, cdivision=True
"""Growable columnar buffer of one batch's points, encoded to a request at the end.

* A number point is a reference to its series' prefix, a time and a value: labels are copied once,
  into the request.
* A *run* assigns a row of points to a :class:`~relay.codec.otlp.groups.MetricGroup`; grouping
  costs a step per run.
* Appended points can be removed again (:meth:`PointBuffer.cut`) until the buffer is encoded.
* ``points`` and ``runs`` own a reference to each object in them. Those objects never refer to a
  buffer, so the type needs no GC support.
* A run whose points are all earlier than a metric's last runs is written before them: requests may
  overtake each other, and Prometheus drops samples that go back in time.
* Sizes are measured before writing: metrics, scopes and resources are numbered in order of first
  appearance and linked by first child and next sibling. A group keeps its number, which is that of
  this request if the node of that number is the group's: no table, nothing to clear.
* Heads and groups are prefetched some runs ahead, because series may come in any order.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from relay.codec.otlp.groups cimport MetricGroup, Numbered, ResourceGroup, ScopeGroup
from relay.codec.prefetch cimport LINE, prefetch
from relay.codec.varints cimport put_head, varint_size

cdef enum:
    FIRST_POINTS = 32
    FIRST_RUNS = 8
    FIRST_NODES = 16
    TAIL_BYTES = 17  # time, tag of the value, value
    VALUE_TAG = 0x21
    NONE = -1
    FETCH_GROUP = 8  # prefetch distance in runs
    FETCH_HEAD = 12
    FETCH_REST = 6
    SEARCH_POINTS_MAX = 1024  # points scanned to place a run that came late


cdef struct Text:
    char *data
    Py_ssize_t size


cdef struct Node:  # a metric, a scope or a resource of the request
    void *group
    Py_ssize_t first, last  # children; of a metric: runs
    uint64_t last_ns  # first time of the last run
    Py_ssize_t following  # next sibling
    Py_ssize_t size  # of its message
    Text head  # first bytes of the message
    # Only of a metric: tag, size and tail of the message that contains its points.
    Text tag
    Py_ssize_t data_size
    Text tail


cdef inline unsigned char *put(unsigned char *out, Text text) noexcept:
    memcpy(out, text.data, <size_t>text.size)
    return out + text.size


cdef inline Text text_of(bytes encoded) noexcept:
    cdef Text text
    text.data = PyBytes_AS_STRING(encoded)
    text.size = PyBytes_GET_SIZE(encoded)
    return text


cdef void *allocate(Py_ssize_t count, size_t size) except NULL:
    cdef void *memory = PyMem_Malloc(<size_t>max(count, 1) * size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef class Level:
    """Number the metrics, scopes or resources of a request."""

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
        cdef void *nodes
        if self.count == self.capacity:
            capacity = self.capacity * 2 if self.capacity else FIRST_NODES
            nodes = PyMem_Realloc(self.nodes, <size_t>capacity * sizeof(Node))
            if nodes == NULL:
                raise MemoryError
            self.nodes = <Node *>nodes
            self.capacity = capacity
        cdef Node *node = &self.nodes[self.count]
        group.number = self.count
        self.count += 1
        node.group = <void *>group
        node.first = node.last = node.following = NONE
        node.head = text_of(head)
        node.size = node.head.size
        return node

    cdef void adopt(self, Node *parent, Py_ssize_t child) noexcept:
        """Make one of these nodes the last child of ``parent``."""
        if parent.first == NONE:
            parent.first = child
        else:
            self.nodes[parent.last].following = child
        parent.last = child


cdef class PointBuffer:
    """Hold the points of one batch; points after the last closed run belong to the next run.

    ``count`` is the number of points, ``size`` their encoded bytes without metrics, scopes and
    resources.
    """

    def __dealloc__(self):
        self.forget(0, 0)
        PyMem_Free(self.points)
        PyMem_Free(self.runs)

    cdef int grow(self) except -1:
        """Enlarge the array of points."""
        cdef Py_ssize_t capacity = self.capacity * 2
        if not capacity:
            capacity = max(self.expected_points, <Py_ssize_t>FIRST_POINTS)
        cdef void *points = PyMem_Realloc(self.points, <size_t>capacity * sizeof(Point))
        if points == NULL:
            raise MemoryError
        self.points = <Point *>points
        self.capacity = capacity
        return 0

    cdef int grow_runs(self) except -1:
        """Enlarge the array of runs."""
        cdef Py_ssize_t capacity = self.runs_capacity * 2
        if not capacity:
            capacity = max(self.expected_runs, <Py_ssize_t>FIRST_RUNS)
        cdef void *runs = PyMem_Realloc(self.runs, <size_t>capacity * sizeof(Run))
        if runs == NULL:
            raise MemoryError
        self.runs = <Run *>runs
        self.runs_capacity = capacity
        return 0

    cdef int end_run(self, object group) except -1:
        """Implement :meth:`close_run` for the hot loop."""
        if self.runs_count == self.runs_capacity:
            self.grow_runs()
        cdef Run *run = &self.runs[self.runs_count]
        Py_INCREF(group)
        run.group = <void *>group
        run.end = self.count
        run.size = self.size
        self.runs_count += 1
        return 0

    cdef void forget(self, Py_ssize_t points, Py_ssize_t runs) noexcept:
        """Release all points and runs beyond the given numbers."""
        while self.count > points:
            self.count -= 1
            if self.count > FETCH_HEAD:
                prefetch(self.points[self.count - FETCH_HEAD].head)
            Py_DECREF(<object>self.points[self.count].head)
        while self.runs_count > runs:
            self.runs_count -= 1
            Py_DECREF(<object>self.runs[self.runs_count].group)

    def add(self, bytes prefix not None, bytes stamp not None, bytes value not None):
        """Append a number point.

        ``stamp`` comes from :func:`~relay.codec.otlp.metrics.encode_time`, ``value`` has the eight
        bytes of a double.
        """
        assert PyBytes_GET_SIZE(stamp) == 9 and PyBytes_GET_SIZE(value) == 8
        if self.count == self.capacity:
            self.grow()
        cdef Point *point = &self.points[self.count]
        memcpy(&point.time_ns, PyBytes_AS_STRING(stamp), 8)
        memcpy(&point.value, PyBytes_AS_STRING(value), 8)
        assert point.time_ns, "a time that OTLP can express"
        Py_INCREF(prefix)
        point.head = <void *>prefix
        self.count += 1
        self.size += PyBytes_GET_SIZE(prefix) + TAIL_BYTES

    def add_finished(self, bytes point not None):
        """Append a point that is encoded as a whole."""
        if self.count == self.capacity:
            self.grow()
        cdef Point *added = &self.points[self.count]
        Py_INCREF(point)
        added.head = <void *>point
        added.time_ns = added.value = 0
        self.count += 1
        self.size += PyBytes_GET_SIZE(point)
        self.finished += PyBytes_GET_SIZE(point)

    cpdef close_run(self, group):
        """Assign the points since the last run to ``group``."""
        assert group is not None
        self.end_run(group)

    cpdef expect_as_many(self, PointBuffer before):
        """Make room for as many points and runs as another holds, with the first that comes.

        Growing from a few copies each of them about once.
        """
        assert before is not None
        self.expected_points = before.count
        self.expected_runs = before.runs_count + before.runs_count // 8

    cpdef Py_ssize_t closed_runs(self) noexcept:
        """Return the number of closed runs, for :meth:`cut`."""
        return self.runs_count

    cpdef Py_ssize_t closed_rest(self) noexcept:
        """Return the bytes of encoded points, for :meth:`cut`."""
        return self.finished

    cpdef cut(self, Py_ssize_t count, Py_ssize_t size, Py_ssize_t runs, Py_ssize_t rest):
        """Restore the state that :attr:`count`, :attr:`size`, :meth:`closed_runs` and
        :meth:`closed_rest` described."""
        self.size = size
        self.finished = rest
        self.forget(count, runs)
        if not count and not runs:
            # A batch that stays empty would never release its memory otherwise.
            PyMem_Free(self.points)
            PyMem_Free(self.runs)
            self.points = NULL
            self.runs = NULL
            self.capacity = self.runs_capacity = 0

    cpdef Py_ssize_t room(self):
        """Return the approximate memory in bytes, without the prefixes that series own."""
        cdef size_t arrays = <size_t>self.capacity * sizeof(Point)
        arrays += <size_t>self.runs_capacity * sizeof(Run)
        return <Py_ssize_t>arrays + self.finished

    def equals(self, PointBuffer other not None):
        """Return whether both hold the same points of the same groups and so encode to the same
        request.

        False negatives are possible: only addresses and bits are compared.
        """
        # Both keep their objects alive, so one address is one object.
        if self.count != other.count or self.runs_count != other.runs_count:
            return False
        cdef size_t points = <size_t>self.count * sizeof(Point)
        cdef size_t runs = <size_t>self.runs_count * sizeof(Run)
        return (not points or not memcmp(self.points, other.points, points)) and (
            not runs or not memcmp(self.runs, other.runs, runs)
        )

    def encode(self):
        """Return the ExportMetricsServiceRequest of all points; all runs must be closed.

        It has one Metric per group, one ScopeMetrics per scope and one ResourceMetrics per
        resource, in order of first appearance. Points keep their order, except for late runs.
        """
        cdef Level metrics = Level()
        cdef Level scopes = Level()
        cdef Level resources = Level()
        cdef Py_ssize_t *next_run = NULL
        cdef Py_ssize_t *order = NULL
        try:
            next_run = <Py_ssize_t *>allocate(self.runs_count, sizeof(Py_ssize_t))
            order = <Py_ssize_t *>allocate(self.runs_count + FETCH_HEAD, sizeof(Py_ssize_t))
            plan_request(self, metrics, scopes, resources, next_run)
            measure(metrics, scopes, resources)
            put_in_order(self, metrics, scopes, resources, next_run, order)
            return write_request(self, metrics, scopes, resources, next_run, order)
        finally:
            PyMem_Free(next_run)
            PyMem_Free(order)

    def __repr__(self):
        return f"<PointBuffer {self.count} points in {self.runs_count} runs>"


cdef Node *add_metric(
    MetricGroup group, Level metrics, Level scopes, Level resources
) except NULL:
    """Add the node of a group that is new to the request, and its scope and resource if new."""
    cdef ScopeGroup scope = group.scope
    cdef ResourceGroup resource = scope.resource
    cdef Py_ssize_t of_scope = scopes.number(scope)
    cdef Py_ssize_t of_resource
    cdef Py_ssize_t number = metrics.count
    cdef Node *metric = metrics.add(group, group.head)
    if of_scope == scopes.count:
        of_resource = resources.number(resource)
        scopes.add(scope, scope.encoded)
        if of_resource == resources.count:
            resources.add(resource, resource.encoded)
        scopes.adopt(&resources.nodes[of_resource], of_scope)
    metrics.adopt(&scopes.nodes[of_scope], number)
    metric.tag = text_of(group.data_tag)
    metric.tail = text_of(group.data_tail)
    metric.data_size = metric.tail.size
    return metric


cdef void measure(Level metrics, Level scopes, Level resources) noexcept:
    """Compute the size of every message, from the inside out."""
    cdef Py_ssize_t number, child
    cdef Node *node
    for number in range(metrics.count):
        node = &metrics.nodes[number]
        node.size += 1 + varint_size(node.data_size) + node.data_size
    for number in range(scopes.count):
        node = &scopes.nodes[number]
        child = node.first
        while child != NONE:
            node.size += 1 + varint_size(metrics.nodes[child].size) + metrics.nodes[child].size
            child = metrics.nodes[child].following
    for number in range(resources.count):
        node = &resources.nodes[number]
        child = node.first
        while child != NONE:
            node.size += 1 + varint_size(scopes.nodes[child].size) + scopes.nodes[child].size
            child = scopes.nodes[child].following


cdef inline Point *first_of(PointBuffer point_buffer, Py_ssize_t run) noexcept:
    return &point_buffer.points[point_buffer.runs[run - 1].end if run else 0]


cdef void insert_run(
    PointBuffer point_buffer, Node *metric, Py_ssize_t *next_run, Py_ssize_t at
) noexcept:
    """Insert a run that is earlier than its metric's last before the runs later in every point."""
    cdef Py_ssize_t run = metric.first, left = SEARCH_POINTS_MAX
    cdef Py_ssize_t *link = &metric.first
    cdef uint64_t latest = 0
    cdef Point *point = first_of(point_buffer, at)
    cdef Point *end = &point_buffer.points[point_buffer.runs[at].end]
    while point < end and left:
        latest = max(latest, point.time_ns)
        point += 1
        left -= 1
    while run != NONE and left:
        point = first_of(point_buffer, run)
        end = &point_buffer.points[point_buffer.runs[run].end]
        while point < end and left:
            left -= 1
            if point.time_ns <= latest:
                link = &next_run[run]
                break
            point += 1
        run = next_run[run]
    link = link if left else &next_run[metric.last]
    next_run[at] = link[0]
    link[0] = at
    if next_run[at] == NONE:
        metric.last = at
        metric.last_ns = first_of(point_buffer, at).time_ns


cdef int plan_request(
    PointBuffer point_buffer, Level metrics, Level scopes, Level resources, Py_ssize_t *next_run
) except -1:
    """Number all groups and link the runs of each metric."""
    cdef Py_ssize_t at, number, start = 0, start_size = 0
    cdef uint64_t time_ns  # 0: of a point encoded as a whole
    cdef Run *run
    cdef Node *metric
    cdef MetricGroup group
    for at in range(point_buffer.runs_count):
        if at + FETCH_GROUP < point_buffer.runs_count:
            prefetch(point_buffer.runs[at + FETCH_GROUP].group)
        run = &point_buffer.runs[at]
        next_run[at] = NONE
        if run.end > start:
            time_ns = point_buffer.points[start].time_ns
            group = <MetricGroup?>run.group
            number = metrics.number(group)
            if number == metrics.count:
                metric = add_metric(group, metrics, scopes, resources)
                metric.first = metric.last = at
                metric.last_ns = time_ns
            else:
                metric = &metrics.nodes[number]
                if time_ns and metric.last_ns > time_ns:
                    insert_run(point_buffer, metric, next_run, at)
                else:
                    next_run[metric.last] = at
                    metric.last = at
                    metric.last_ns = time_ns
            metric.data_size += run.size - start_size
        start = run.end
        start_size = run.size
    assert start == point_buffer.count, "runs must tile the arena"
    return 0


cdef void put_in_order(
    PointBuffer point_buffer, Level metrics, Level scopes, Level resources, Py_ssize_t *next_run,
    Py_ssize_t *order
) noexcept:
    """List the runs in writing order; the last is repeated for the prefetcher to look ahead."""
    cdef Py_ssize_t number, of_resource, of_scope, run = 0, count = 0
    for number in range(resources.count):
        of_resource = resources.nodes[number].first
        while of_resource != NONE:
            of_scope = scopes.nodes[of_resource].first
            while of_scope != NONE:
                run = metrics.nodes[of_scope].first
                while run != NONE:
                    order[count] = run
                    count += 1
                    run = next_run[run]
                of_scope = metrics.nodes[of_scope].following
            of_resource = scopes.nodes[of_resource].following
    run = order[count - 1] if count else 0
    for number in range(FETCH_HEAD):
        order[count + number] = run


cdef bytes write_request(
    PointBuffer point_buffer, Level metrics, Level scopes, Level resources, Py_ssize_t *next_run,
    Py_ssize_t *order
):
    """Write the measured request."""
    cdef Py_ssize_t total = 0, number
    cdef Node *resource
    cdef Node *scope
    cdef Node *metric
    cdef unsigned char *out
    for number in range(resources.count):
        resource = &resources.nodes[number]
        total += 1 + varint_size(resource.size) + resource.size
    cdef bytes request = PyBytes_FromStringAndSize(NULL, total)
    out = <unsigned char *>PyBytes_AS_STRING(request)
    cdef Py_ssize_t of_resource, of_scope
    for number in range(resources.count):
        resource = &resources.nodes[number]
        out = put(put_head(out, 0x0A, resource.size), resource.head)
        of_resource = resource.first
        while of_resource != NONE:
            scope = &scopes.nodes[of_resource]
            out = put(put_head(out, 0x12, scope.size), scope.head)
            of_scope = scope.first
            while of_scope != NONE:
                metric = &metrics.nodes[of_scope]
                out = put(put_head(out, 0x12, metric.size), metric.head)
                out = put_head(out, <unsigned char>metric.tag.data[0], metric.data_size)
                out = write_runs(point_buffer, out, metric.first, next_run, &order)
                out = put(out, metric.tail)
                of_scope = metric.following
            of_resource = scope.following
    assert out == <unsigned char *>PyBytes_AS_STRING(request) + total
    return request


cdef unsigned char *write_runs(
    PointBuffer points, unsigned char *out, Py_ssize_t at, Py_ssize_t *next_run, Py_ssize_t **order
) noexcept:
    """Write the points of one metric."""
    cdef Point *point
    cdef Point *end
    cdef Text coming
    cdef Py_ssize_t ahead
    while at != NONE:
        prefetch(first_of(points, order[0][FETCH_HEAD]).head)
        coming = text_of(<bytes>first_of(points, order[0][FETCH_REST]).head)
        ahead = LINE // 2
        while ahead < coming.size:
            prefetch(coming.data + ahead)
            ahead += LINE
        order[0] += 1
        point = first_of(points, at)
        end = &points.points[points.runs[at].end]
        while point < end:
            out = put(out, text_of(<bytes>point.head))
            if point.time_ns:
                memcpy(out, &point.time_ns, 8)
                out[8] = VALUE_TAG
                memcpy(out + 9, &point.value, 8)
                out += TAIL_BYTES
            point += 1
        at = next_run[at]
    return out
