# Types that queue.py is compiled with: every batch is put into it, and each step looks at it.
cimport cython

from relay.sink.queue.payload cimport EncodedRequest
from relay.sink.queue.shard cimport QueueShard
from relay.sink.queue.usage cimport QueueUsage


cdef class SinkQueue:
    cdef object _config
    cdef Py_ssize_t _fed
    cdef readonly tuple _reshards
    cdef readonly QueueUsage usage
    cdef readonly list shards

    cpdef bint waits_for_reshard(self, Py_ssize_t shard) except -1

    @cython.locals(shard=QueueShard)
    cpdef list push(self, EncodedRequest request)

    @cython.locals(shard=QueueShard)
    cpdef list expire(self, double now)

    @cython.locals(found=QueueShard)
    cpdef expires_at(self, Py_ssize_t shard)
