# Types that encoding.py is compiled with: every batch is encoded by it.
from relay.sink.queue.payload cimport EncodedRequest


# Methods that are passed on as callbacks are not declared.
cdef class BatchBodies:
    cdef object _encoder
    cdef object _compression
    cdef object _error
    cdef object _bodies
    cdef object _plain
    cdef readonly Py_ssize_t lone_exemplars
    cdef readonly Py_ssize_t pieces
    cdef readonly Py_ssize_t plain_bytes

    cpdef take(self)


cdef class SharedBodyCache:
    cdef object _batch
    cdef object _kind
    cdef object _compression
    cdef object _bytes_max
    cdef BatchBodies _bodies
    cdef readonly Py_ssize_t lone_exemplars
    cdef readonly Py_ssize_t made
    cdef readonly Py_ssize_t shared

    cpdef BatchBodies encoded(self, sealed, encoder, compression, bytes_max)
    cpdef forget(self)


cpdef list requests_of(sealed, bodies, kind, Py_ssize_t shard, compression)
