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
