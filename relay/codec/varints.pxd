# Protobuf varints.
from libc.stdint cimport uint64_t


cdef inline Py_ssize_t varint_size(uint64_t value) noexcept:
    cdef Py_ssize_t size = 1
    while value > 127:
        value >>= 7
        size += 1
    return size


cdef inline unsigned char *put_varint(unsigned char *out, uint64_t value) noexcept:
    """Write a varint; return the position behind it."""
    while value > 127:
        out[0] = <unsigned char>(value & 0x7F | 0x80)
        out += 1
        value >>= 7
    out[0] = <unsigned char>value
    return out + 1


cdef inline unsigned char *put_head(
    unsigned char *out, unsigned char tag, uint64_t size
) noexcept:
    """Write the tag and the length of a field; return the position of its payload."""
    out[0] = tag
    return put_varint(out + 1, size)
