# Types that target_info.py is compiled with: every new series asks for its target.
cimport cython

from relay.codec.otlp.groups cimport ScopeGroup
from relay.pipeline.routing.route cimport VersionedDependency


@cython.final
cdef class Resource(VersionedDependency):
    cdef object __weakref__
    cdef public tuple attributes
    cdef public ScopeGroup home


cdef class TargetInfoStore:
    cdef double _idle_s
    cdef dict _restored
    cdef object _restored_until
    cdef public long long version
    cdef object _targets
    cdef Resource _none
    cdef str _latest_project
    cdef tuple _latest_target
    cdef tuple _latest
    cdef public bint changed

    @cython.locals(resource=Resource, is_latest=cython.bint)
    cpdef tuple facts(self, tuple target, str project)
    cpdef sweep(self, double tick)
