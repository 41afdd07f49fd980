from libc.stdint cimport uint32_t


cdef enum:
    DECLARATION = 0x40000000  # bit that is set in the last number if that is of a declaration


cdef struct Prefix:
    uint32_t key_size  # bytes of the label fields
    uint32_t newest  # the number that the table got last: no other series may have it
    uint32_t numbers[1]  # in truth as many as there are labels, and one more for a declaration


cdef struct Field:
    unsigned char *data
    uint32_t size
    uint32_t mark  # of the body that it was written to last, see LabelTable.mark
    uint32_t slot  # where in that body
    uint32_t kind  # number of the bytes before its value


cdef struct Kind:
    uint32_t mark  # as in Field
    uint32_t field  # the last new one in that body


cdef class LabelTable:
    cdef dict numbers
    cdef list fields
    cdef Field *texts
    cdef Py_ssize_t capacity
    cdef dict kind_numbers
    cdef Kind *kinds
    cdef Py_ssize_t kinds_capacity
    cdef list chunks  # memory of the fields
    cdef unsigned char *chunk
    cdef Py_ssize_t chunk_left
    cdef uint32_t mark  # of the body that is written now
    cdef list declarations
    cdef dict declaration_numbers
    cdef dict groups
    cdef object symbols  # v2_encoder.SymbolTable of the fields, None until it is needed
    cdef readonly Py_ssize_t grown
    cdef readonly Py_ssize_t memory_bytes

    cdef uint32_t next_mark(self) noexcept
    cdef unsigned char *store(self, bytes field) except NULL
    cdef uint32_t kind_of(self, bytes field) except? 0
    cdef uint32_t add(self, bytes field) except? 0
    cpdef bytes place(self, bytes key, object declaration=*)


cdef class RawGroup:
    cdef readonly LabelTable table
    cdef readonly long long shard_key


cdef Py_ssize_t count_labels(bytes prefix) noexcept
