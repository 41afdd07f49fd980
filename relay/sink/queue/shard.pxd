# Types that shard.py is compiled with: every batch is put, taken and settled.
from relay.sink.queue.payload cimport EncodedRequest
from relay.sink.queue.usage cimport QueueUsage


cdef class QueueShard:
    cdef readonly long long number
    cdef readonly object disk
    cdef readonly EncodedRequest in_flight
    cdef public object attempts
    cdef public bint fresh_first
    cdef QueueUsage _usage
    cdef object _waiting
    cdef tuple _spilling
    cdef Py_ssize_t _spilling_next
    cdef object _open
    cdef object _loading
    cdef int _turn

    cpdef put(self, EncodedRequest request)
    cpdef peek(self)
    cpdef take(self)
    cpdef settle(self, EncodedRequest request)
    cpdef give_back(self, EncodedRequest request)
    cdef EncodedRequest _pop_waiting(self)
    cdef _put_back(self, requests)
