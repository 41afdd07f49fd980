from libc.stdint cimport uint32_t


cdef enum:
    DECLARATION = 0x40000000  # bit that is set in the last number of a prefix that has a declaration


cdef struct Field:
    char *data
    Py_ssize_t size


cdef class LabelTable:
    cdef dict numbers
    cdef list fields
    cdef Field *texts
    cdef Py_ssize_t capacity
    cdef list declarations
    cdef dict declaration_numbers
    cdef dict groups
    cdef readonly Py_ssize_t grown
    cdef readonly Py_ssize_t memory_bytes

    cdef int add(self, bytes field) except -1
    cpdef bytes place(self, bytes key, object declaration=*)


cdef class RawGroup:
    cdef readonly LabelTable table
    cdef readonly long long shard_key
