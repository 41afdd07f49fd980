# Write a snappy block whose copies the caller already knows (snappy, format_description.txt).
#
# The caller counts the position in the uncompressed block. A literal or a copy is open until the
# other begins, so neighbours join. Room must be made before: every function only writes.
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memmove

cdef enum:
    NEAR = 1 << 16  # offsets below it take a copy of three bytes
    COPY_MAX = 64  # bytes of one copy
    LITERAL_SHORT = 60  # bytes that a literal of one byte of tag holds


cdef struct Block:
    unsigned char *out
    unsigned char *literal  # tag of the open literal, or NULL
    uint64_t copy_offset
    uint64_t copy_size  # of the open copy, 0 without one


cdef inline void put_copy(Block *block) noexcept:
    """Write the open copy."""
    cdef unsigned char *out = block.out
    cdef uint64_t offset = block.copy_offset, left = block.copy_size, size
    while left:
        size = left if left < COPY_MAX else COPY_MAX
        if offset >= NEAR:
            out[0] = <unsigned char>(3 | ((size - 1) << 2))
            out[1] = <unsigned char>offset
            out[2] = <unsigned char>(offset >> 8)
            out[3] = <unsigned char>(offset >> 16)
            out[4] = <unsigned char>(offset >> 24)
            out += 5
        elif offset < 2048 and 4 <= size <= 11:
            out[0] = <unsigned char>(1 | ((size - 4) << 2) | ((offset >> 8) << 5))
            out[1] = <unsigned char>offset
            out += 2
        else:
            out[0] = <unsigned char>(2 | ((size - 1) << 2))
            out[1] = <unsigned char>offset
            out[2] = <unsigned char>(offset >> 8)
            out += 3
        left -= size
    block.copy_size = 0
    block.out = out


cdef inline void close_literal(Block *block) noexcept:
    """Write the tag of the open literal."""
    cdef unsigned char *tag = block.literal
    cdef uint64_t size = <uint64_t>(block.out - tag - 1)
    cdef uint64_t last = size - 1
    cdef int more = 0, at
    block.literal = NULL
    if size <= LITERAL_SHORT:
        tag[0] = <unsigned char>(last << 2)
        return
    more = 1 if last < 1 << 8 else 2 if last < 1 << 16 else 3 if last < 1 << 24 else 4
    memmove(tag + 1 + more, tag + 1, <size_t>size)
    tag[0] = <unsigned char>((LITERAL_SHORT - 1 + more) << 2)
    for at in range(more):
        tag[1 + at] = <unsigned char>(last >> (8 * at))
    block.out += more


cdef inline void open_literal(Block *block) noexcept:
    """Begin a literal unless one is open; its bytes may then be written to ``out``."""
    if block.literal == NULL:
        if block.copy_size:
            put_copy(block)
        block.literal = block.out
        block.out += 1


cdef inline void add_literal(Block *block, const void *data, Py_ssize_t size) noexcept:
    """Write bytes as they are."""
    if not size:
        return
    open_literal(block)
    memcpy(block.out, data, <size_t>size)
    block.out += size


cdef inline void add_short(Block *block, const void *data, Py_ssize_t size) noexcept:
    """Write up to 16 bytes as they are; 16 can be read, and room is for as many."""
    open_literal(block)
    memcpy(block.out, data, 16)  # a constant size, which the compiler inlines
    block.out += size


cdef inline void add_copy(Block *block, uint64_t offset, uint64_t size) noexcept:
    """Copy ``size`` bytes from ``offset`` bytes before."""
    if block.copy_size and block.copy_offset == offset:
        block.copy_size += size
        return
    if block.literal != NULL:
        close_literal(block)
    elif block.copy_size:
        put_copy(block)
    block.copy_offset = offset
    block.copy_size = size


cdef inline void close_block(Block *block) noexcept:
    """Write what is open."""
    if block.literal != NULL:
        close_literal(block)
    elif block.copy_size:
        put_copy(block)
