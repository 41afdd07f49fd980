# Types that signals.py is compiled with: every request passes through it.
from relay.pipeline.engine cimport MetricsPipeline
from relay.pipeline.records.pipeline cimport RecordsPipeline


cdef class Signals:
    cdef readonly MetricsPipeline metrics
    cdef readonly RecordsPipeline logs
    cdef readonly RecordsPipeline traces
    cdef tuple _all
    cdef dict _by_protocol

    cpdef path_of(self, tenant)
    cdef _of(self, protocol)
