# Types that histogram.py is compiled with: every request and every batch is observed.
cdef class Durations:
    cdef tuple _bounds_s
    cdef list _counts
    cdef double _sum_s

    cpdef observe(self, double seconds)
