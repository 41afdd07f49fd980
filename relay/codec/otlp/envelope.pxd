from libc.stdint cimport uint64_t


cdef struct Field:
    uint64_t number
    int wire_type
    Py_ssize_t start
    Py_ssize_t payload
    Py_ssize_t end


cdef class Reader:
    cdef const unsigned char *data
    cdef object pause
    cdef Py_ssize_t steps

    cdef uint64_t varint(self, Py_ssize_t *at, Py_ssize_t stop) except? 0
    cdef int read(self, Field *field, Py_ssize_t at, Py_ssize_t stop) except -1


cdef class Head:
    cdef const unsigned char *data
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef Py_ssize_t size
    cdef list before

    cdef int add(self, Field *field) except -1
    cdef bytes last(self)
    cdef bytes whole(self)


cdef struct Slice:
    Py_ssize_t start  # of the field's tag
    Py_ssize_t payload  # of the message behind tag and length
    Py_ssize_t end


cdef class Envelope:
    cdef readonly bytes body
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t oversized
    cdef readonly list resources
    cdef Slice *records
    cdef Py_ssize_t capacity

    cdef int grow(self) except -1
