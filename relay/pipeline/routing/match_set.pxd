# Types that match_set.py is compiled with.
cimport cython

from relay.codec.otlp.groups cimport MetricGroup
from relay.pipeline.routing.series_tally cimport ProjectTally, SeriesTally


# Counted for every histogram.
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
    cdef public bint retired


cdef class ProjectEpoch:
    cdef public str project
    cdef public long long version
    cdef public ProjectTally tally


# Read for every new series.
cdef class MatchSet:
    cdef public ProjectEpoch home
    cdef public ProjectEpoch project_epoch
    cdef public SeriesTally tally
    cdef public tuple matched
    cdef public bint is_plain
    cdef public bint handled
    cdef public long long samples
    cdef public tuple typed
    cdef public tuple raw
    cdef public tuple raw_outputs
    cdef public tuple sources
    cdef public tuple sinks
    cdef public tuple handled_sinks
    cdef public object refuses
    cdef public dict variants
    cdef public object _base
    cdef tuple _only
    cdef list _ways
    cdef dict _by_way
    cdef dict _counters
    cdef long long _cycle

    @cython.locals(way=Py_ssize_t, found=tuple, ways=list)
    cpdef tuple batches(self, MetricGroup group)
