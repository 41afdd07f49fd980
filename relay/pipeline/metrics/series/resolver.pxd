# Types that resolver.py is compiled with: those that a new series uses.
cimport cython

from relay.codec.otlp.groups cimport MetricGroup
from relay.codec.remote_write.label_parser cimport SeriesLabels
from relay.pipeline.metrics.metadata.metric_types cimport MetricName, Passes, Typing
from relay.pipeline.metrics.metadata.project_types cimport ProjectTypes
from relay.pipeline.metrics.series.series cimport Series, set_route
from relay.pipeline.metrics.translate.target_info cimport Resource, TargetInfoStore
from relay.pipeline.metrics.translate.translator cimport Translator
from relay.pipeline.routing.match_set cimport MatchSet
from relay.pipeline.routing.route cimport RouteChanges
from relay.pipeline.routing.router cimport Router
from relay.pipeline.routing.series_tally cimport SeriesTally


cdef long long VERSION_MASK


cdef class Resolver:
    cdef readonly object assembly
    cdef readonly object drops
    cdef readonly object first_sight
    cdef readonly object raw
    cdef readonly Router router
    cdef Translator _translator
    cdef readonly object types
    cdef readonly TargetInfoStore resources
    cdef object _deltas
    cdef bint _changed
    cdef ProjectTypes _latest
    cdef tuple _latest_target
    cdef bint _has_wait
    cdef Passes _passes
    cdef RouteChanges _assembly_changes

    @cython.locals(types=ProjectTypes, known=Typing)
    cdef Typing _typing(self, Series series)

    @cython.locals(
        name=str, resource=Resource, match_set=MatchSet, matched=tuple, tally=SeriesTally,
        values=tuple, key=tuple, types=ProjectTypes
    )
    cpdef resolve(
        self, Series series, SeriesLabels labels, str project, MetricName metric, declared=*
    )

    @cython.locals(match_set=MatchSet)
    cpdef bint is_fresh(self, Series series) except -1
    cdef bint _is_translated(self, Series series) except -1
    cpdef bint pop_changed(self) except -1

    @cython.locals(changed=cython.bint, renewed=cython.bint)
    cpdef bint sweep_raw(self, double tick, Py_ssize_t live) except -1

    @cython.locals(
        match_set=MatchSet, told=tuple, facts=tuple, resource=Resource, types=ProjectTypes,
        known=Typing
    )
    cdef _attach(
        self, Series series, SeriesLabels labels, str project, tuple matched, tuple key, bint waits
    )

    @cython.locals(name=str)
    cdef bint _let_wait(
        self, Series series, SeriesLabels labels, str project, bint waits
    ) except -1

    @cython.locals(match_set=MatchSet, typing=Typing, group=MetricGroup, prefix=bytes)
    cpdef place(
        self, Series series, SeriesLabels labels, str project, Resource resource, Typing known=*
    )


@cython.locals(version=longlong)
cdef long long _seen(tuple dependencies) except -1
