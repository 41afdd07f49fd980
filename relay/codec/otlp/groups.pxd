# Types that groups.py is compiled with. Nothing changes a group once it is made.
cimport cython


cdef class Numbered:
    cdef Py_ssize_t number  # in the request that was encoded last


@cython.final
@cython.no_gc
cdef class ResourceGroup(Numbered):
    cdef object __weakref__
    cdef public bytes encoded
    cdef public long long shard_key


@cython.final
@cython.no_gc
cdef class ScopeGroup(Numbered):
    cdef object __weakref__
    cdef public bytes encoded
    cdef public ResourceGroup resource


@cython.final
@cython.no_gc
cdef class MetricGroup(Numbered):
    cdef object __weakref__
    cdef public ScopeGroup scope
    cdef public bytes head
    cdef public bytes data_tag
    cdef public bytes data_tail
    cdef public long long shard_key
    cdef public object identity
