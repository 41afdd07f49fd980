# Types that route.py is compiled with: a new series asks for the version of its target.

cdef class RouteChanges:
    cdef public bint pending


cdef class VersionedDependency:
    cdef public long long version
