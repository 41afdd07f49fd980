# Types that metric_types.py is compiled with: those that every new series reads.


cdef class Typing:
    cdef readonly object identity
    cdef readonly object family
    cdef readonly str part
    cdef readonly str refused
    cdef readonly str evidence
    cdef readonly bint is_plain
    cdef public long long passed


cdef class Passes:
    cdef readonly long long number


cdef class MetricName:
    cdef readonly str text
    cdef readonly bint is_info
    cdef readonly bint is_bucket
    cdef readonly bint describes
