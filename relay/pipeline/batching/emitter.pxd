# What streams.py is compiled with.
cimport cython

from relay.pipeline.routing.match_set cimport SinkTally
from relay.codec.otlp.batch cimport OpenBatch


cdef class Outlet:
    cdef public OpenBatch batch
    cdef public SinkTally tally


cdef class Emission:
    cdef public object intake
    cdef public object origin
    cdef public long long own
    cdef public long long position
    cdef public double tick
    cdef public object gate
    cdef public bint collecting
    cdef object _positions
    cdef Py_ssize_t _held
    cdef list _taken
    cdef list _released
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

    cpdef bint push(self, object point, object origin, Emission emission, Py_ssize_t samples=*)
    cpdef push_body(self, bytes body, object origin, Emission emission, Py_ssize_t samples)

    @cython.locals(outlet=Outlet, tally=SinkTally)
    cpdef _append(self, bytes encoded, object origin, Emission emission, Py_ssize_t samples)
