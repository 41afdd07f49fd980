# Types that match_set.py is compiled with: a sink is counted for every histogram.

cdef class SinkCounter:
    cdef public str exporter
    cdef public str sink
    cdef public str group
    cdef public long long points
    cdef public long long samples
    cdef public long long exported
    cdef public long long refused
    cdef public long long deltas
    cdef public double deltas_at
