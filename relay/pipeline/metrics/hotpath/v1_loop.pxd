# What the loops of both versions of remote write share.
from libc.stdint cimport uint64_t

from relay.pipeline.batching.transaction cimport BatchTransaction
from relay.pipeline.metrics.series.series cimport Series


cdef enum:
    TOGETHER = 64  # points; what they need fits the processor's nearest cache but one


cdef struct Held:
    void *series
    uint64_t time_ns
    uint64_t value


cdef class PendingPoints:
    cdef Held held[TOGETHER]
    cdef int count
    cdef bint was_far  # the request had not written to the batch of the last point that was added

    cdef inline int add(
        self, Series series, uint64_t time_ns, uint64_t value, BatchTransaction transaction,
        long long request
    ) except -1
    cdef int hold(
        self, Series series, uint64_t time_ns, uint64_t value, BatchTransaction transaction,
        long long request
    ) except -1
    cdef int append(self, BatchTransaction transaction, long long request) except -1
    cdef void drop(self) noexcept


cdef bytes stamp_of(uint64_t time_ns)
cdef int append_points(
    Series series, uint64_t time_ns, uint64_t value, BatchTransaction transaction, long long request
) except -1
