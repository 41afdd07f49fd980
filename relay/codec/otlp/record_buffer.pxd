from relay.codec.otlp.envelope cimport Envelope
from relay.codec.otlp.point_buffer cimport PointBuffer


cdef class RecordGroup:
    cdef readonly bytes resource
    cdef readonly bytes scope
    cdef readonly Py_ssize_t shard_key
    cdef Py_ssize_t row  # its first one in the request that was written last


cdef class RecordBuffer(PointBuffer):
    cdef char *data
    cdef Py_ssize_t data_capacity
    cdef Py_ssize_t expected_bytes

    cdef int reserve(self, Py_ssize_t size) except -1
    cdef void note_heads(self, RecordGroup group) noexcept
    cpdef append(self, Envelope envelope, Py_ssize_t first, Py_ssize_t stop)
