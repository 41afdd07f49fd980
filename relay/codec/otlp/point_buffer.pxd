from libc.stdint cimport uint64_t


cdef enum:
    TAIL_BYTES = 17  # of a point in OTLP, behind its head: time, tag of the value, value


cdef struct Point:
    void *head  # bytes: the prefix, or the whole encoded point
    uint64_t time_ns  # 0 for a point encoded as a whole: OTLP has no such time
    uint64_t value  # the bits of a double


cdef struct Run:
    void *group  # MetricGroup
    Py_ssize_t end  # number of points up to its end
    Py_ssize_t size  # their bytes, from the buffer's start


cdef class PointBuffer:
    cdef Point *points
    cdef Run *runs
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t size
    cdef Py_ssize_t finished  # bytes of encoded points that only this buffer holds
    cdef Py_ssize_t capacity
    cdef Py_ssize_t runs_count
    cdef Py_ssize_t runs_capacity
    cdef Py_ssize_t expected_points
    cdef Py_ssize_t expected_runs

    cdef int grow(self) except -1
    cdef int grow_runs(self) except -1
    cdef int end_run(self, object group) except -1
    cdef void forget(self, Py_ssize_t points, Py_ssize_t runs) noexcept
    cpdef close_run(self, group)
    cpdef expect_as_many(self, PointBuffer before)
    cpdef Py_ssize_t closed_runs(self) noexcept
    cpdef Py_ssize_t closed_rest(self) noexcept
    cpdef cut(self, Py_ssize_t count, Py_ssize_t size, Py_ssize_t runs, Py_ssize_t rest)
    cpdef Py_ssize_t room(self)
