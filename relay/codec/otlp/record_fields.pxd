from libc.stdint cimport uint64_t

from relay.codec.otlp.envelope cimport Envelope


cdef struct Field:
    uint64_t number
    int wire_type
    uint64_t value  # of a varint
    const unsigned char *payload
    const unsigned char *end


cdef const unsigned char *read_field(
    const unsigned char *at, const unsigned char *stop, Field *field
) noexcept


cpdef Py_ssize_t without_severity(
    Envelope envelope, Py_ssize_t first, Py_ssize_t stop, pause
) except -1
