# Types that emitter.py is compiled with.
cimport cython

from relay.pipeline.routing.match_set cimport SinkCounter
from relay.codec.otlp.batch cimport OpenBatch
from relay.pipeline.batching.transaction cimport BatchTransaction


cdef class SinkOutput:
    cdef public OpenBatch batch
    cdef public SinkCounter counter


cdef class Emitter:
    cdef public BatchTransaction transaction
    cdef public object origin
    cdef public long long own
    cdef public long long position
    cdef public double tick
    cdef public object gate
    cdef public bint collecting
    cdef public list withheld
    cdef object _offsets
    cdef dict _unsettled

    cpdef settle_at_end(self, object family)
    cpdef end_request(self)
    cpdef hold(self)
    cpdef release(self, long long position)


cdef class Stream:
    cdef public object group
    cdef public bytes attributes
    cdef public tuple outlets
    cdef public object drops
    cdef public object delta

    cpdef bint push(self, object point, object origin, Emitter emitter, Py_ssize_t samples=*)
    cpdef push_body(self, bytes body, object origin, Emitter emitter, Py_ssize_t samples)

    @cython.locals(outlet=SinkOutput, counter=SinkCounter, transaction=BatchTransaction)
    cpdef _append(self, bytes encoded, object origin, Emitter emitter, Py_ssize_t samples)


cdef class RouteHandler:
    cdef tuple routes
    cdef tuple counters
    cdef bint counts

    @cython.locals(
        transaction=BatchTransaction, batches=tuple, prefix=bytes, batch=OpenBatch,
        counter=SinkCounter, head=bytes, at=Py_ssize_t, place=Py_ssize_t
    )
    cpdef take(self, bytes stamp, bytes value, object extra, Emitter emitter)
