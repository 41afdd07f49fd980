"""The index of all series of an origin by their keys."""
from libc.stdint cimport uint32_t, uint64_t

from relay.pipeline.metrics.series.series cimport Series


cdef enum:
    AHEAD = 8  # series that are looked at before their turn
    SHARD_BITS = 9
    SHARD_COUNT = 1 << SHARD_BITS  # with a million series, growing one takes some 20 us


cdef struct Shard:
    uint64_t *slots  # the address of a series, and 16 bits of its mark above; 0 in a free slot
    uint32_t size
    uint32_t count


cdef struct UpcomingSeries:  # a series with a usual sample, further on in the body
    Py_ssize_t start
    Py_ssize_t key_size
    uint64_t mark
    uint64_t time_ns
    uint64_t value


cdef struct PrefetchWindow:
    Py_ssize_t pos
    int first
    int count
    UpcomingSeries coming[AHEAD]


cdef class SeriesHashIndex:
    cdef Shard shards[SHARD_COUNT]
    cdef bint searching  # whether series come in no order that is worth a guess

    cdef Series find(self, uint64_t mark, const unsigned char *key, Py_ssize_t size)
    cpdef Series of_key(self, bytes key)
    cpdef add(self, uint64_t mark, Series series)
    cpdef remove(self, uint64_t mark, Series series)
    cdef const uint64_t *place(self, uint64_t mark) noexcept
    cdef void *guess(self, uint64_t mark) noexcept
    cpdef list part(self, int number)


cpdef uint64_t hash_of(bytes key)
cdef uint64_t key_hash(const unsigned char *key, Py_ssize_t size) noexcept
cdef void prefetch_next(
    PrefetchWindow *upcoming, const unsigned char *data, Py_ssize_t pos, Py_ssize_t end,
    SeriesHashIndex index
) noexcept
cdef void prefetch_ahead(
    PrefetchWindow *scout, const unsigned char *data, Py_ssize_t end, SeriesHashIndex guesses
) noexcept
