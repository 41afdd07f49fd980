# What table.py is compiled with.
cimport cython

from relay.pipeline.metrics.series.series cimport Series


cdef class _Scope:
    cdef public Series first_in_request
    cdef public tuple shards


cdef class SeriesTable:
    cdef public long long generation
    cdef Py_ssize_t _series_max
    cdef Py_ssize_t _newcomers_min
    cdef double _epoch_s
    cdef dict _scopes
    cdef readonly _Scope _scope
    cdef readonly object _newcomers
    cdef readonly list _known
    cdef Py_ssize_t _hand
    cdef double _due
    cdef double _swept_at
    cdef object _epochs
    cdef Py_ssize_t _created
    cdef Py_ssize_t _forgotten_idle
    cdef Py_ssize_t _forgotten_full

    @cython.locals(series=Series, shard=dict, at=Py_hash_t)
    cpdef Series find(self, bytes key)

    @cython.locals(shard=dict, at=Py_hash_t)
    cpdef add(self, Series series)
    cpdef invalidate(self)
