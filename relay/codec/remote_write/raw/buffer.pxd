from libc.stdint cimport uint64_t

from relay.codec.otlp.point_buffer cimport PointBuffer


cdef class RawEntry:
    cdef readonly bytes prefix
    cdef readonly bytes fields
    cdef readonly tuple exemplars
    cdef readonly uint64_t time_ns
    cdef readonly bint is_point


cdef class RawPointBuffer(PointBuffer):
    cdef readonly Py_ssize_t riders_bytes

    cdef int put(self, object head, Py_ssize_t size, bint is_rider) except -1
