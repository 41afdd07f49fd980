from libc.stdint cimport uint32_t, uint64_t

from relay.codec.otlp.envelope cimport RequestEnvelope


cdef struct DataPoint:
    Py_ssize_t start  # of the field's tag
    Py_ssize_t payload  # of the message behind tag and length
    Py_ssize_t end
    Py_ssize_t attributes  # of its first attribute's tag; of scattered ones their number
    Py_ssize_t attributes_end  # behind its last one; -1 if they are scattered
    uint64_t time_ns
    uint64_t start_ns
    uint64_t value  # bits of a double, of numbers
    uint32_t flags
    bint has_more  # exemplars


cdef class MetricsEnvelope(RequestEnvelope):
    cdef readonly list resources
    cdef DataPoint *points
    cdef Py_ssize_t capacity
    cdef list scattered

    cdef int grow(self) except -1
    cdef bytes attributes_of(self, DataPoint *point)
