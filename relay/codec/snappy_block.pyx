# cython: boundscheck=False, wraparound=False, cdivision=True
"""Decompress snappy blocks of senders, as :mod:`relay.codec.snappy` does.

Every sample of remote write 1.0 passes through here. In a scrape a sample is some twelve elements,
most of them copies of up to 64 bytes from far behind. So an element is copied as 64 bytes whatever
its size, wherever there is room for it: the next one overwrites what is too much. A library's
copies in steps take half as long again.

What is not taken here, corrupt blocks and copies with offsets of four bytes, is left to the
library, which has the last word.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

cdef enum:  # google/snappy, format_description.txt
    KIND = 3  # bits of a tag
    LITERAL = 0
    SHORT_COPY = 1
    COPY = 2
    LITERAL_MAX = 60  # bytes of a literal whose size is in its tag
    LITERAL_LENGTH_MAX = 4  # bytes of a size behind the tag
    WIDE = 64  # no other element is longer
    STEP = 16
    LENGTH_BYTES_MAX = 4  # of a block that is read here: it is under 256 MiB


cdef Py_ssize_t read_length(const unsigned char **at, const unsigned char *end) noexcept nogil:
    """Return the length of the plain data and go behind it; -1 where it is cut off or too large."""
    cdef Py_ssize_t length = 0
    cdef int number
    cdef unsigned char byte
    for number in range(LENGTH_BYTES_MAX):
        if at[0] == end:
            return -1
        byte = at[0][0]
        at[0] += 1
        length |= <Py_ssize_t>(byte & 127) << 7 * number
        if byte < 128:
            return length
    return -1


cdef inline void repeat(
    unsigned char *to, const unsigned char *source, Py_ssize_t size
) noexcept nogil:
    """Write ``size`` bytes, and perhaps STEP more, of which ``source`` has the first few."""
    cdef unsigned char *end = to + size
    cdef unsigned char step[STEP]
    cdef Py_ssize_t distance = to - source
    while distance < STEP:
        memcpy(step, source, STEP)
        memcpy(to, step, STEP)  # twice as many are right now
        to += distance
        distance += distance
    while to < end:
        memcpy(to, source, STEP)
        to += STEP
        source += STEP


cdef bint write_plain(
    const unsigned char *at, const unsigned char *end, unsigned char *out, unsigned char *stop
) noexcept nogil:
    """Write the plain data of all elements; return False unless it is exactly what has room."""
    cdef unsigned char *to = out
    cdef const unsigned char *source
    cdef unsigned int tag
    cdef Py_ssize_t size, distance, number, length
    while at < end:
        tag = at[0]
        at += 1
        if tag & KIND == LITERAL:
            size = (tag >> 2) + 1
            if size <= LITERAL_MAX:
                if end - at >= WIDE and stop - to >= WIDE:
                    memcpy(to, at, WIDE)
                    at += size
                    to += size
                    continue
            else:
                length = size - LITERAL_MAX
                if end - at < LITERAL_LENGTH_MAX:  # the library refuses it, too
                    return False
                size = 1
                for number in range(length):
                    size += <Py_ssize_t>at[number] << 8 * number
                at += length
            if size > end - at or size > stop - to:
                return False
            memcpy(to, at, <size_t>size)
            at += size
            to += size
            continue
        if tag & KIND == COPY:
            if end - at < 2:
                return False
            size = (tag >> 2) + 1
            distance = at[0] | <Py_ssize_t>at[1] << 8
            at += 2
        elif tag & KIND == SHORT_COPY:
            if end - at < 1:
                return False
            size = 4 + (tag >> 2 & 7)
            distance = <Py_ssize_t>(tag >> 5) << 8 | at[0]
            at += 1
        else:
            return False
        if distance > to - out:
            return False
        source = to - distance
        if distance >= WIDE and stop - to >= WIDE:
            memcpy(to, source, WIDE)
        elif not distance or size > stop - to:
            return False
        elif stop - to >= WIDE + STEP:
            repeat(to, source, size)
        else:
            for number in range(size):
                to[number] = source[number]
        to += size
    return to == stop


def claimed_length(bytes block not None):
    """Return the decompressed length that a block claims; -1 where that is to be refused."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(block)
    return read_length(&at, at + PyBytes_GET_SIZE(block))


def plain_of(bytes block not None):
    """Return the data of a block; None where the library has to look at it.

    The length that it claims is allocated.
    """
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(block)
    cdef const unsigned char *end = at + PyBytes_GET_SIZE(block)
    cdef Py_ssize_t size = read_length(&at, end)
    cdef unsigned char *out
    cdef bint whole
    if size < 0:
        return None
    # No other reference exists while it is written.
    cdef bytes plain = PyBytes_FromStringAndSize(NULL, size)
    out = <unsigned char *>PyBytes_AS_STRING(plain)
    with nogil:
        whole = write_plain(at, end, out, out + size)
    return plain if whole else None
