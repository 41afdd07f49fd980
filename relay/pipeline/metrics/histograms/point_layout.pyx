# cython: boundscheck=False, wraparound=False, cdivision=True
"""Encodes histogram and summary points from a layout computed once for their components.

:mod:`relay.pipeline.metrics.histograms.build_point` looks at every point with care. In the usual
case nearly all of that depends on the members alone: their order, their bounds, the encoding of
those, and that none of them is odd. A *layout* is what comes of it. It reads values that lie in
*slots*, one for each member, and knows which member's each one is. Rules:

* A layout reads full slots only, and exists only for members that can make a good point
  (:func:`~relay.pipeline.metrics.histograms.build_point.classic_layout`).
* Returns None for irregular values (NaN, negative, fractional, non-monotonic); the caller then uses
  the validating slow path. For regular values both give the same bytes.
* A point is written as its values are read, and thrown away where one of them is odd.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

import struct

from relay.codec.otlp.data_points import STALE, HistogramPoint, SummaryPoint
from relay.codec.protobuf import field_bytes, varint

COUNT_MAX = float(1 << 64)
"""Counts are below this: OTLP's have 64 bits."""

cdef enum:
    ABSENT = -1
    TIME_BYTES = 9  # of a time, a count or a sum: tag and eight bytes
    PAIR_BYTES = 20  # of a quantile: tag, 18, tag and eight bytes twice

cdef double _COUNT_MAX = COUNT_MAX
cdef uint64_t STALE_BITS
memcpy(&STALE_BITS, PyBytes_AS_STRING(STALE), 8)


cdef inline char *value_at(list slots, Py_ssize_t place) except NULL:
    """The eight bytes of a value."""
    assert place < PyList_GET_SIZE(slots), "a set has room for all members"
    cdef bytes value = slots[place]
    assert value is not None and PyBytes_GET_SIZE(value) == 8
    return PyBytes_AS_STRING(value)


cdef inline bint whole_at(list slots, Py_ssize_t place, uint64_t *whole) except -1:
    """Read a count; return False if the value is not one."""
    cdef double number
    memcpy(&number, value_at(slots, place), 8)
    if not (0.0 <= number < _COUNT_MAX):
        return False
    whole[0] = <uint64_t>number
    return <double>whole[0] == number


cdef inline bint is_stale(const char *value) noexcept:
    cdef uint64_t bits
    memcpy(&bits, value, 8)
    return bits == STALE_BITS


cdef inline char *put(char *out, unsigned char tag, const void *eight) noexcept:
    """Write a field of eight bytes."""
    out[0] = <char>tag
    memcpy(out + 1, eight, 8)
    return out + TIME_BYTES


cdef inline Py_ssize_t place_or_absent(place) except -2:
    return ABSENT if place is None else place


cdef class Places:
    """Slot numbers, as an array."""

    cdef Py_ssize_t *at
    cdef Py_ssize_t count

    def __cinit__(self, places):
        self.count = len(places)
        self.at = <Py_ssize_t *>PyMem_Malloc(<size_t>max(self.count, 1) * sizeof(Py_ssize_t))
        if self.at == NULL:
            raise MemoryError
        cdef Py_ssize_t n
        for n in range(self.count):
            self.at[n] = places[n]

    def __dealloc__(self):
        PyMem_Free(self.at)


cdef class ClassicLayout:
    """Layout of cumulative buckets.

    ``places`` are the slots of finite bounds, ascending; ``top`` is that of +Inf, or None;
    ``count`` and ``total`` those of ``_count`` and ``_sum``, the latter None if absent.
    """

    cdef tuple _bounds
    cdef bytes _counts_head
    cdef bytes _tail
    cdef Places _places
    cdef Py_ssize_t _top
    cdef Py_ssize_t _count
    cdef Py_ssize_t _total

    def __init__(self, tuple bounds not None, places, top, Py_ssize_t count, total):
        assert len(places) == len(bounds)
        assert bounds or top is not None, "what picks one value picks no tuple"
        packed = struct.pack(f"<{len(bounds)}d", *bounds)
        self._bounds = bounds
        self._counts_head = b"\x32" + varint(8 * (len(bounds) + 1))  # bucket_counts (6)
        self._tail = field_bytes(b"\x3a", packed) if bounds else b""  # explicit_bounds (7)
        self._places = Places(places)
        self._top = place_or_absent(top)
        self._count = count
        self._total = place_or_absent(total)

    def encode(self, list slots not None, long long time_ns, long long start_ns):
        """Encode the point without attributes; None if a value is irregular."""
        cdef Py_ssize_t head = PyBytes_GET_SIZE(self._counts_head)
        cdef Py_ssize_t tail = PyBytes_GET_SIZE(self._tail)
        cdef Py_ssize_t size = 2 * TIME_BYTES + head + 8 * (self._places.count + 1) + tail
        cdef uint64_t whole, total = 0
        if start_ns:
            size += TIME_BYTES
        if self._total != ABSENT:
            memcpy(&total, value_at(slots, self._total), 8)
            if total == STALE_BITS:
                return None
            size += TIME_BYTES
        if not whole_at(slots, self._count, &whole):
            return None
        cdef bytes body = PyBytes_FromStringAndSize(NULL, size)
        cdef char *out = PyBytes_AS_STRING(body)
        if start_ns:
            out = put(out, 0x11, &start_ns)
        out = put(out, 0x19, &time_ns)
        out = put(out, 0x21, &whole)
        if self._total != ABSENT:
            out = put(out, 0x29, &total)
        memcpy(out, PyBytes_AS_STRING(self._counts_head), <size_t>head)
        out += head
        if not self._write_counts(slots, whole, out):
            return None
        out += 8 * (self._places.count + 1)
        memcpy(out, PyBytes_AS_STRING(self._tail), <size_t>tail)
        assert out + tail == PyBytes_AS_STRING(body) + size
        return body

    def point(self, list slots not None, long long time_ns, long long start_ns):
        """Return the point as a value; None if a value is irregular."""
        cdef uint64_t whole, count
        cdef Py_ssize_t n
        cdef bytes total = None
        if self._total != ABSENT:
            if is_stale(value_at(slots, self._total)):
                return None
            total = slots[self._total]
        if not whole_at(slots, self._count, &whole):
            return None
        cdef bytes packed = PyBytes_FromStringAndSize(NULL, 8 * (self._places.count + 1))
        if not self._write_counts(slots, whole, PyBytes_AS_STRING(packed)):
            return None
        counts = []
        for n in range(self._places.count + 1):
            memcpy(&count, PyBytes_AS_STRING(packed) + 8 * n, 8)
            counts.append(count)
        return HistogramPoint(time_ns, whole, total, self._bounds, tuple(counts), start_ns)

    cdef bint _write_counts(self, list slots, uint64_t whole, char *out) except -1:
        """Write each bucket's difference to the one below; return False if it is negative."""
        cdef uint64_t below = 0, cumulative, count
        cdef Py_ssize_t n
        for n in range(self._places.count):
            if not whole_at(slots, self._places.at[n], &cumulative) or cumulative < below:
                return False
            count = cumulative - below
            memcpy(out + 8 * n, &count, 8)
            below = cumulative
        if self._top != ABSENT:
            if not whole_at(slots, self._top, &cumulative) or cumulative != whole:
                return False
        if whole < below:
            return False
        count = whole - below
        memcpy(out + 8 * self._places.count, &count, 8)
        return True


cdef class SummaryLayout:
    """Layout of quantiles.

    ``places`` are their slots, ascending; ``count`` and ``total`` as in a histogram.
    """

    cdef tuple _quantiles
    cdef bytes _heads
    cdef Places _places
    cdef Py_ssize_t _count
    cdef Py_ssize_t _total

    def __init__(self, tuple quantiles not None, places, Py_ssize_t count, total):
        assert len(places) == len(quantiles)
        self._quantiles = quantiles
        # quantile_values (6), each {1 quantile, 2 value}
        self._heads = b"".join(
            [b"\x32\x12\x09" + struct.pack("<d", each) + b"\x11" for each in quantiles]
        )
        self._places = Places(places)
        self._count = count
        self._total = place_or_absent(total)

    def encode(self, list slots not None, long long time_ns, long long start_ns):
        """Encode the point without attributes; None if a value is irregular."""
        cdef uint64_t whole, total = 0
        cdef Py_ssize_t n, size = 3 * TIME_BYTES + PAIR_BYTES * self._places.count
        if not self._is_usual(slots, &whole):
            return None
        if start_ns:
            size += TIME_BYTES
        if self._total != ABSENT:
            memcpy(&total, value_at(slots, self._total), 8)
        cdef bytes body = PyBytes_FromStringAndSize(NULL, size)
        cdef char *out = PyBytes_AS_STRING(body)
        cdef const char *heads = PyBytes_AS_STRING(self._heads)
        if start_ns:
            out = put(out, 0x11, &start_ns)
        out = put(out, 0x19, &time_ns)
        out = put(out, 0x21, &whole)
        out = put(out, 0x29, &total)
        for n in range(self._places.count):
            memcpy(out, heads + (PAIR_BYTES - 8) * n, PAIR_BYTES - 8)
            memcpy(out + PAIR_BYTES - 8, value_at(slots, self._places.at[n]), 8)
            out += PAIR_BYTES
        assert out == PyBytes_AS_STRING(body) + size
        return body

    def point(self, list slots not None, long long time_ns, long long start_ns):
        """Return the point as a value; None if a value is irregular."""
        cdef uint64_t whole
        cdef double number
        cdef Py_ssize_t n
        if not self._is_usual(slots, &whole):
            return None
        total = bytes(8) if self._total == ABSENT else slots[self._total]
        pairs = []
        for n in range(self._places.count):
            memcpy(&number, value_at(slots, self._places.at[n]), 8)
            pairs.append((self._quantiles[n], number))
        return SummaryPoint(time_ns, whole, total, tuple(pairs), start_ns)

    cdef bint _is_usual(self, list slots, uint64_t *whole) except -1:
        """Read the count; return False if it is invalid or any value is stale."""
        cdef Py_ssize_t n
        for n in range(len(slots)):
            if is_stale(value_at(slots, n)):
                return False
        return whole_at(slots, self._count, whole)
