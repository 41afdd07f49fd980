# Types that plan.py is compiled with.
from relay.pipeline.metrics.series.series cimport Series


cdef class Plan:
    cdef public str name
    cdef public object match_set
    cdef public tuple ways
    cdef public tuple routes
    cdef public bint tells_start
    cdef public object converts
    cdef public tuple omitted


cdef class OtlpStream:
    cdef public bytes attributes
    cdef public Series series
    cdef public Plan plan
    cdef public long long generation
    cdef public object match_set
