# Types that resolver.py is compiled with: those that a new series uses.
cimport cython

from relay.pipeline.metrics.series.series cimport Series
from relay.pipeline.routing.series_tally cimport SeriesTally


cdef class Resolver:
    cdef readonly object assembly
    cdef readonly object drops
    cdef readonly object first_sight
    cdef readonly object raw
    cdef object _router
    cdef object _translator
    cdef object _types
    cdef readonly object resources
    cdef object _deltas
    cdef bint _changed
    cdef object _latest

    @cython.locals(young=dict)
    cdef object _typing(self, Series series)

    @cython.locals(name=str, tally=SeriesTally)
    cpdef resolve(self, Series series, labels, str project, declared=*)
    cpdef bint is_fresh(self, Series series) except -1
    cdef bint _is_translated(self, Series series) except -1
    cpdef bint pop_changed(self) except -1

    @cython.locals(told=tuple, is_plain=cython.bint)
    cdef _attach(
        self, Series series, labels, str project, tuple matched, tuple key, bint waits
    )


@cython.locals(version=longlong)
cdef long long _seen(tuple dependencies) except -1
