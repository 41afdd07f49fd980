# Types that series_tally.py is compiled with: every new series is counted.

cdef class ProjectTally:
    cdef public long long taken
    cdef public long long refused
    cdef public object series_max
    cdef public long long share_max
    cdef public set reserved
    cdef readonly bint is_limited


cdef class SeriesTally:
    cdef public long long series
    cdef readonly ProjectTally project
    cdef bint _is_taken
    cdef bint _is_refused

    cpdef enter(self)
    cpdef leave(self)
