# What request.py is compiled with.
cimport cython

from relay.pipeline.metrics.series.resolver cimport Resolver
from relay.pipeline.metrics.series.series cimport Series
from relay.pipeline.metrics.series.series_table cimport SeriesTable


cdef class SeriesLookup:
    cdef public object labels
    cdef SeriesTable _table
    cdef Resolver _resolver
    cdef object _inventory
    cdef object _info_reader
    cdef object _tenancy
    cdef public Py_ssize_t series_bytes_max
    cdef public object origin
    cdef bint _is_plain

    @cython.locals(series=Series)
    cpdef Series find(self, bytes key, RequestSeries request, object declared=*)
    cpdef tuple view(self, Series series)

    @cython.locals(series=Series, name=str)
    cdef Series _make(self, bytes key, RequestSeries request, object declared)


cdef class RequestSeries:
    cdef bytes _body
    cdef SeriesLookup _finder
    cdef object _types
    cdef bint _bounded
    cdef object _pause
    cdef public bint is_ahead
    cdef Series _faulty
    cdef Py_ssize_t _new
    cdef Py_ssize_t _new_bytes
    cdef set _said
    cdef object _protocol
    cdef public dict targets
    cdef public list held

    @cython.locals(faulty=Series, series=Series)
    cpdef Series resolve(self, bytes key, object declared=*)
    cpdef count_new(self, Py_ssize_t key_bytes)
    cpdef learn_ahead(self)
