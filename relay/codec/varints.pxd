# Protobuf varints.
from libc.stdint cimport uint64_t


cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    static inline Py_ssize_t relay_varint_size(uint64_t value) {
        /* One more for each seven bits: n * 9 / 64 is n / 7 for up to 64 bits. */
        return (Py_ssize_t)(((64u - (unsigned)__builtin_clzll(value | 1)) * 9u + 64u) >> 6);
    }
    #else
    static inline Py_ssize_t relay_varint_size(uint64_t value) {
        Py_ssize_t size = 1;
        while (value > 127) {
            value >>= 7;
            size++;
        }
        return size;
    }
    #endif
    """
    Py_ssize_t varint_size "relay_varint_size" (uint64_t value) noexcept nogil


cdef inline Py_ssize_t field_size(Py_ssize_t size) noexcept:
    """Return the size of a field with ``size`` bytes of content, whose tag is a byte."""
    return 1 + varint_size(<uint64_t>size) + size


cdef inline unsigned char *put_varint(unsigned char *out, uint64_t value) noexcept:
    """Write a varint; return the position behind it."""
    if value < 0x80:
        out[0] = <unsigned char>value
        return out + 1
    if value < 0x4000:
        out[0] = <unsigned char>(value | 0x80)
        out[1] = <unsigned char>(value >> 7)
        return out + 2
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
