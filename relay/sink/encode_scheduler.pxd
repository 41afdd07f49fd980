# Types that encode_scheduler.py is compiled with: every batch passes through it. Methods that are
# passed on as callbacks are not declared.
cimport cython

from relay.sink.queue.encoding cimport BatchBodies, SharedBodyCache, requests_of


cdef class CompressThread:
    cdef object _thread
    cdef dict _waiting
    cdef object __weakref__

    cdef bint try_add(self, BatchBodies bodies, on_ready) except -1


cdef class EncodeScheduler:
    cdef object _tick
    cdef object _jobs
    cdef double _left_s
    cdef bint _turn_requested
    cdef readonly CompressThread compress_thread
    cdef readonly SharedBodyCache bodies

    cpdef submit(self, job)

    @cython.locals(began=cython.double)
    cdef _do_first(self)
    cdef _await_turn(self)


cdef class _Encoded:
    cdef readonly object sealed
    cdef readonly Py_ssize_t shard
    cdef object kind
    cdef object compression
    cdef readonly BatchBodies bodies
    cdef Py_ssize_t room


cdef class EncodeBacklog:
    cdef object _batches
    cdef tuple _compressing
    cdef object _config
    cdef object _bytes_max
    cdef object _delivery
    cdef EncodeScheduler _encode_scheduler
    cdef object _memory
    cdef object _target

    cpdef add(self, sealed, Py_ssize_t shard)

    @cython.locals(bodies=BatchBodies, one=_Encoded, room=Py_ssize_t)
    cdef _encode(self, sealed, Py_ssize_t shard, target)

    @cython.locals(one=_Encoded)
    cdef _queue_ready(self)
    cdef _queue(self, _Encoded one, target)
