from libc.stdint cimport uint64_t

from relay.pipeline.metrics.series.series cimport Series


cdef enum:
    AHEAD = 8  # series that are looked at before their turn


cdef struct Slot:
    uint64_t mark  # of the key
    void *series


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
    cdef Slot *slots
    cdef size_t mask
    cdef size_t count
    cdef bint searching  # whether series come in no order that is worth a guess

    cdef int resize(self, size_t size) except -1
    cdef Slot *slot(self, uint64_t mark) noexcept
    cdef Series find(self, uint64_t mark, const unsigned char *key, Py_ssize_t size)
    cdef int keep(self, uint64_t mark, Series series) except -1
    cdef void put(self, uint64_t mark, Series series) noexcept
    cdef int tidy(self) except -1


cdef uint64_t key_hash(const unsigned char *key, Py_ssize_t size) noexcept
cdef void prefetch_ahead(
    PrefetchWindow *scout, const unsigned char *data, Py_ssize_t end, SeriesHashIndex guesses
) noexcept
