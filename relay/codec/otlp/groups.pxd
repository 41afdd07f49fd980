# Nothing changes a group once it is made.
cimport cython
from libc.stdint cimport uint32_t


cdef class Numbered:
    cdef int number  # in the request that was encoded last
    cdef readonly uint32_t shard_key


@cython.final
cdef class ResourceGroup(Numbered):
    cdef readonly bytes encoded


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


cdef uint32_t crc_shift(Py_ssize_t size) noexcept
cdef uint32_t crc_behind(uint32_t before, uint32_t crc, uint32_t shift) noexcept
