# Types that pipeline.py is compiled with: what a request costs besides its records.
cimport cython

from relay.codec.otlp.envelope cimport Envelope
from relay.pipeline.batching.flush_schedule cimport FlushSchedule
from relay.pipeline.batching.transaction cimport BatchTransaction
from relay.pipeline.records.entries cimport RecordPlan
from relay.pipeline.records.results cimport RecordsTaken, RequestCounts


cdef class RecordsPipeline:
    cdef readonly str signal
    cdef readonly str protocol
    cdef bint _has_severities
    cdef readonly object options
    cdef readonly object offsets
    cdef readonly object tenants
    cdef readonly object router
    cdef readonly object table
    cdef object _reader
    cdef readonly object drops
    cdef readonly FlushSchedule schedule
    cdef public long long grown
    cdef readonly list watches
    cdef object _gate
    cdef long long _received
    cdef long long _no_tenant
    cdef long long _oversized
    cdef long long _unmatched
    cdef object _current
    cdef long long _marks

    cpdef tuple _take(
        self, bytes body, double now, double tick, object origin, object pace, bint bounded
    )
    cpdef RecordsTaken _result(self, BatchTransaction transaction, RequestCounts counts)

    @cython.locals(plan=RecordPlan, at=Py_ssize_t, count=Py_ssize_t)
    cpdef _count(self, Envelope envelope, RequestCounts counts, object pace)
    cpdef _append(
        self, Envelope envelope, BatchTransaction transaction, object origin, RequestCounts counts
    )
