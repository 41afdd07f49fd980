# Types that router.py is compiled with: every new series is matched.
cimport cython

from relay.codec.remote_write.label_parser cimport SeriesLabels
from relay.pipeline.routing.match_set cimport MatchSet, ProjectEpoch


cdef class _Project(ProjectEpoch):
    cdef public long long exporters
    cdef public object index
    cdef public tuple labels_read
    cdef public dict sources
    cdef public dict dependents
    cdef public dict match_sets
    cdef public dict by_route
    cdef public object changes
    cdef public MatchSet unmatched
    cdef public tuple latest_values
    cdef public tuple latest_answer


cdef class Router:
    cdef public object series_max
    cdef double _readmit_at
    cdef public object tenancy
    cdef object _compiler
    cdef public object inventory
    cdef readonly dict _projects
    cdef _Project _latest
    cdef dict _exporters
    cdef dict _source_counters
    cdef _Project _without_exporters
    cdef list _retired
    cdef readonly dict _answers
    cdef long long _sequence
    cdef bint _unsettled
    cdef public object pause
    cdef public bint held

    @cython.locals(
        at=_Project, own=SeriesLabels, values=tuple, answer=tuple, found=tuple,
        match_set=MatchSet, version=cython.longlong
    )
    cpdef tuple match(self, object labels, str project)
    cpdef bint apply_inventory_changes(self) except -1
