# Types that entries.py is compiled with.
from relay.codec.otlp.record_buffer cimport RecordGroup


cdef class SourcesVersion:
    cdef public long long version
    cdef public long long share_max


cdef class RecordPlan:
    cdef public tuple takes
    cdef public SourcesVersion project
    cdef public long long version
    cdef public long long inventory_version
    cdef public tuple targets
    cdef public bint has_tests

    cpdef bint is_valid(self, object inventory) except -1


cdef class ScopeEntry:
    cdef public RecordGroup group
    cdef public object attributes
    cdef public RecordPlan plan
    cdef public dict redacted


cdef class ResourceEntry:
    cdef public bytes head
    cdef public list texts
    cdef public object attributes
    cdef public str project
    cdef public Py_ssize_t shard_key
    cdef public long long records
    cdef public long long sampled
    cdef public long long without_severity
    cdef public dict scopes
    cdef public Py_ssize_t size
    cdef public Py_ssize_t scope_bytes
    cdef public Py_ssize_t place
    cdef public Py_ssize_t follower
    cdef public ScopeEntry recent


cdef class KnownResources:
    cdef public dict by_head
    cdef public list order
    cdef public Py_ssize_t first

    cpdef add(self, ResourceEntry entry)
