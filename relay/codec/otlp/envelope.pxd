cimport cython
from libc.stdint cimport uint64_t


cdef struct Field:
    uint64_t number
    int wire_type
    Py_ssize_t start
    Py_ssize_t payload
    Py_ssize_t end


@cython.final
cdef class Head:
    cdef const unsigned char *data
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef Py_ssize_t size
    cdef list before

    cdef void begin(self) noexcept
    cdef int add(self, Field *field) except -1
    cdef bytes last(self)
    cdef bytes whole(self)


@cython.final
cdef class Reader:
    cdef const unsigned char *data
    cdef object pause
    cdef Py_ssize_t steps
    cdef Py_ssize_t entries_max
    cdef Py_ssize_t head_bytes_max
    cdef Head resource  # of the one that is read
    cdef Head scope

    cdef uint64_t varint(self, Py_ssize_t *at, Py_ssize_t stop) except? 0
    cdef int read(self, Field *field, Py_ssize_t at, Py_ssize_t stop) except -1
    cdef str foreign(self, int wire_type, Py_ssize_t at, Py_ssize_t stop)
    cdef int check(self, Py_ssize_t entries) except -1


cdef struct Slice:
    Py_ssize_t start  # of the field's tag
    Py_ssize_t payload  # of the message behind tag and length
    Py_ssize_t end


cdef struct Part:  # a resource or scope
    Py_ssize_t start  # of its head
    Py_ssize_t size
    Py_ssize_t joined  # number of its head among those that are not in one piece; -1: it is
    Py_ssize_t first  # of its scopes or records
    Py_ssize_t stop


cdef struct Parts:
    Part *items
    Py_ssize_t count
    Py_ssize_t capacity


cdef class RequestEnvelope


ctypedef Py_ssize_t (*ScanScope)(
    RequestEnvelope envelope, Reader reader, list scopes, Field *whole, Py_ssize_t entries
) except -1


cdef class RequestEnvelope:
    cdef readonly bytes body
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t oversized
    cdef bint lists_scopes

    cdef int scan(
        self, bytes body, object pause, Py_ssize_t entries_max, Py_ssize_t head_bytes_max,
        ScanScope scan_scope,
    ) except -1
    cdef Py_ssize_t scan_resource(
        self, Reader reader, Field *whole, Py_ssize_t entries, ScanScope scan_scope
    ) except -1
    cdef int add_resource(self, Head head, list scopes) except -1
    cdef bint leaves_out(self, Py_ssize_t head_size, Py_ssize_t first, Reader reader) noexcept


@cython.final
cdef class Envelope(RequestEnvelope):
    cdef Slice *records
    cdef Py_ssize_t capacity
    cdef Parts resource_parts
    cdef Parts scope_parts
    cdef Py_ssize_t scopes_added  # to a resource
    cdef list joined

    cdef int grow(self) except -1
    cdef int add_part(self, Parts *parts, Head head, Py_ssize_t first, Py_ssize_t stop) except -1
    cdef bytes head_of(self, Part *part)
    cdef bint has_head(self, Part *part, bytes head) noexcept
