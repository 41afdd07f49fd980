# Nothing changes a group once it is made.
cimport cython


cdef class Numbered:
    cdef Py_ssize_t number  # in the request that was encoded last


@cython.final
cdef class ResourceGroup(Numbered):
    cdef readonly bytes encoded
    cdef readonly long long shard_key


@cython.final
cdef class ScopeGroup(Numbered):
    cdef readonly bytes encoded
    cdef readonly ResourceGroup resource


@cython.final
cdef class MetricGroup(Numbered):
    cdef readonly ScopeGroup scope
    cdef readonly bytes head
    cdef readonly bytes data_tag
    cdef readonly bytes data_tail
    cdef readonly object identity
