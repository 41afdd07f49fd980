# Numbers as protobuf writes them.
from libc.stdint cimport uint64_t


cdef inline Py_ssize_t varint_size(uint64_t value) noexcept:
    cdef Py_ssize_t size = 1
    while value > 127:
        value >>= 7
        size += 1
    return size
