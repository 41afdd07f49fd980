# cython: boundscheck=False, wraparound=False, cdivision=True
"""Growable columnar buffer of one batch's points, encoded to a request at the end.

* A number point is a reference to its series' prefix, a time and a value: labels are copied once,
  into the request.
* A *run* assigns a row of points to a :class:`~relay.codec.otlp.groups.MetricGroup`; grouping
  costs a step per run.
* Appended points can be removed again (:meth:`PointBuffer.cut`) until the buffer is encoded.
* ``points`` and ``runs`` own a reference to each object in them. Those objects never refer to a
  buffer, so the type needs no GC support.
* The request is written by :mod:`relay.codec.otlp.point_request`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memcmp, memcpy

from relay.codec.otlp.point_request cimport encode_points
from relay.codec.resizing cimport resized
from relay.codec.prefetch cimport prefetch

cdef enum:
    FIRST_POINTS = 32
    FIRST_RUNS = 8
    FETCH_HEAD = 12  # prefetch distance in points


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
        self.points = <Point *>resized(self.points, capacity, sizeof(Point))
        self.capacity = capacity
        return 0

    cdef int grow_runs(self) except -1:
        """Enlarge the array of runs."""
        cdef Py_ssize_t capacity = self.runs_capacity * 2
        if not capacity:
            capacity = max(self.expected_runs, <Py_ssize_t>FIRST_RUNS)
        self.runs = <Run *>resized(self.runs, capacity, sizeof(Run))
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
            if self.runs_count > FETCH_HEAD:
                prefetch(self.runs[self.runs_count - FETCH_HEAD].group)
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
        resource, or per part of a large one, in order of first appearance. Points of a metric keep
        their order, except for late runs.
        """
        return encode_points(
            self.points, self.count, self.size, self.runs, self.runs_count
        )

    def __repr__(self):
        return f"<PointBuffer {self.count} points in {self.runs_count} runs>"
