from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    PREFIX_HEAD = 8  # bytes of a Prefix before its numbers
    FIELD_SLACK = 16  # bytes that may be read behind a field of up to CHUNK_FIELD_BYTES_MAX
    CHUNK_FIELD_BYTES_MAX = 1 << 10  # longer fields have memory of their own
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
    cdef Field *fields
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef uint32_t *index  # open addressing by hash: number + 1, 0 for a free place
    cdef size_t index_mask
    cdef uint64_t secret
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
    cdef Py_ssize_t long_bytes  # of fields with memory of their own
    cdef Py_ssize_t long_count

    cdef uint32_t next_mark(self) noexcept
    cdef Py_ssize_t find(self, const unsigned char *data, Py_ssize_t size) noexcept
    cdef unsigned char *store(self, const unsigned char *data, Py_ssize_t size) except NULL
    cdef uint32_t kind_of(self, const unsigned char *data, Py_ssize_t size) except? 0
    cdef int enlarge_index(self) except -1
    cdef uint32_t add(self, const unsigned char *data, Py_ssize_t size) except? 0
    cdef bytes field(self, uint32_t number)
    cpdef bytes place(self, bytes key, object declaration=*)


cdef class RawGroup:
    cdef readonly LabelTable table
    cdef readonly long long shard_key


cdef inline Py_ssize_t count_labels(bytes prefix) noexcept:
    """Return the number of labels of a prefix."""
    cdef Py_ssize_t count = (PyBytes_GET_SIZE(prefix) - PREFIX_HEAD) // 4
    cdef Prefix *head = <Prefix *>PyBytes_AS_STRING(prefix)
    if count and head.numbers[count - 1] & DECLARATION:
        return count - 1
    return count
