cimport cython

from relay.codec.otlp.point_buffer cimport PointBuffer


cdef class OpenBatch:
    cdef public PointBuffer point_buffer
    cdef public object group
    cdef public long long count
    cdef public long long limit
    cdef public long long last_writer_offset
    cdef public long long oldest_offset
    cdef public double opened_at
    cdef public long long generation
    cdef public double timeout_s
    cdef public object sink
    cdef public long long shard
    cdef public object new_buffer


@cython.locals(batch=OpenBatch, memory_bytes=Py_ssize_t)
cpdef memory_bytes_of(list batches)
