cimport cython

from relay.codec.otlp.point_buffer cimport Arena


cdef class OpenBatch:
    cdef public Arena arena
    cdef public object group
    cdef public long long count
    cdef public long long limit
    cdef public long long request
    cdef public long long oldest
    cdef public double opened_at
    cdef public long long sealed
    cdef public double timeout_s
    cdef public object owner
    cdef public long long lane


@cython.locals(batch=OpenBatch, room=Py_ssize_t)
cpdef room_of(list batches)
