from libc.stdint cimport uint32_t, uint64_t

from relay.codec.otlp.groups cimport MetricGroup, ScopeGroup


cdef struct Slot:
    uint64_t mark  # of scope and identity
    void *group  # NULL in a free slot


cdef enum:
    KNOWN_BITS = 11
    KNOWN_IDENTITIES = 1 << KNOWN_BITS


cdef struct Known:
    void *identity
    void *model  # a group that has it
    Py_hash_t hash
    uint32_t shift  # of a CRC before its name's


cdef class GroupTable:
    cdef Known known[KNOWN_IDENTITIES]
    cdef ScopeGroup no_scope
    cdef Slot *slots
    cdef size_t mask
    cdef Py_ssize_t count
    cdef Py_ssize_t idle_max
    cdef size_t hand  # the slot that is looked at next
    cdef int looks  # groups that are looked at with the next new one

    cpdef MetricGroup find(self, ScopeGroup scope, identity)
    cpdef fetch(self, ScopeGroup scope, identity)
    cdef Known *known_of(self, identity) except NULL
    cdef int resize(self, size_t size) except -1
    cdef void put(self, uint64_t mark, void *group) noexcept
    cdef void forget(self) noexcept
    cdef void remove(self, size_t at) noexcept
