# Types that series_table.py is compiled with.
cimport cython

from libc.stdint cimport uint64_t

from relay.pipeline.metrics.series.hash_index cimport SeriesHashIndex, hash_of
from relay.pipeline.metrics.series.series cimport Series, SeriesQueue
from relay.pipeline.routing.match_set cimport MatchSet
from relay.pipeline.routing.series_tally cimport SeriesTally


cdef class _Scope:
    cdef public Series first_in_request
    cdef public unsigned short number
    cdef readonly SeriesHashIndex index


cdef class _Share:
    cdef readonly str name
    cdef readonly SeriesQueue probationary
    cdef readonly list known
    cdef public Py_ssize_t hand

    @cython.locals(probationary=SeriesQueue, known=list, first=Series, count=Py_ssize_t)
    cpdef Py_ssize_t sort(self, Py_ssize_t looks_max) except -1


cdef class SeriesTable:
    cdef public long long generation
    cdef Py_ssize_t _series_max
    cdef double _epoch_s
    cdef dict _scopes
    cdef readonly _Scope _scope
    cdef readonly SeriesHashIndex index
    cdef list _numbered
    cdef dict _shares
    cdef list _order
    cdef _Share _latest
    cdef list _over
    cdef Py_ssize_t _active
    cdef Py_ssize_t _known
    cdef Py_ssize_t _turn
    cdef Py_ssize_t _swept
    cdef double _due
    cdef double _swept_at
    cdef object _epochs
    cdef Py_ssize_t _created
    cdef Py_ssize_t _forgotten_idle
    cdef Py_ssize_t _forgotten_full

    @cython.locals(series=Series)
    cpdef Series find(self, bytes key)

    cpdef add(self, Series series, str share=*)

    @cython.locals(own=_Share, match_set=MatchSet, tally=SeriesTally)
    cdef add_marked(self, Series series, str share, uint64_t mark)
    cdef _Share _share_of(self, str share)
    cpdef invalidate(self)
    cpdef outdate(self, object found)

    @cython.locals(generation=cython.longlong, known=Py_ssize_t, pace=cython.double)
    cpdef evict_idle(self, double now)

    @cython.locals(
        looks=Py_ssize_t, sorted_now=Py_ssize_t, share=_Share, probationary=SeriesQueue,
        first=Series
    )
    cdef _sweep_probationary(self, long long generation)

    @cython.locals(tally=SeriesTally, scope=_Scope)
    cdef _forget(self, Series series)
