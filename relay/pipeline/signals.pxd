# Types that signals.py is compiled with: every request passes through it.
from relay.pipeline.engine cimport MetricsPipeline


cdef class Signals:
    cdef readonly MetricsPipeline metrics
    cdef readonly object logs
    cdef readonly object traces
    cdef tuple _all
    cdef dict _by_protocol

    cpdef path_of(self, tenant)
    cdef _of(self, protocol)
