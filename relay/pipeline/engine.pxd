# Types that engine.py is compiled with: what a request calls once.
cimport cython

from relay.pipeline.batching.emitter cimport Emitter
from relay.pipeline.batching.flush_schedule cimport FlushSchedule
from relay.pipeline.batching.transaction cimport BatchTransaction
from relay.pipeline.batching.watermark cimport OffsetTracker
from relay.pipeline.metrics.series.lookup cimport SeriesLookup
from relay.pipeline.metrics.series.resolver cimport Resolver
from relay.pipeline.metrics.series.series_table cimport SeriesTable
from relay.pipeline.metrics.translate.target_info cimport TargetInfoStore
from relay.pipeline.routing.router cimport Router


cdef class MetricsPipeline:
    cdef readonly SeriesTable table
    cdef readonly object inventory
    cdef readonly Router router
    cdef readonly object types
    cdef readonly object translator
    cdef readonly TargetInfoStore resources
    cdef readonly object deltas
    cdef readonly OffsetTracker offsets
    cdef readonly object waiting
    cdef readonly Resolver resolver
    cdef readonly object assembly
    cdef readonly object drops
    cdef readonly object first_sight
    cdef readonly FlushSchedule schedule
    cdef readonly SeriesLookup lookup
    cdef dict _received
    cdef dict _dropped
    cdef public object exemplar_buffer
    cdef readonly object streams
    cdef dict _decoders
    cdef readonly object _gate
    cdef long long _marks
    cdef double _future_max_s
    cdef object _current
    cdef readonly long long grown
    cdef object __weakref__

    cpdef object _latest_ns(self, double now)

    @cython.locals(transaction=BatchTransaction, position=cython.longlong)
    cdef tuple _take(
        self, bytes body, double now, double tick, object origin, object protocol, object pace,
        bint bounded=*
    )

    @cython.locals(before=Py_ssize_t)
    cdef _consume(
        self, bytes body, BatchTransaction transaction, object origin, object decoder
    )
    cdef Py_ssize_t _learned(self) except -1

    @cython.locals(emitter=Emitter, is_plain=cython.bint)
    cdef list _finish_request(self, BatchTransaction transaction, double tick, object protocol)
    cdef Emitter _emitter(self, BatchTransaction transaction, double tick)
    cdef _commit(self, BatchTransaction transaction, double tick)
    cdef _sweep(self, double tick)
    cdef _invalidate_stale_routes(self)
