# Types that transaction.py is compiled with.
cimport cython

from relay.codec.otlp.batch cimport OpenBatch
from relay.codec.otlp.point_buffer cimport PointBuffer
from relay.pipeline.batching.watermark cimport OffsetTracker


@cython.final
cdef class BatchSnapshot:
    cdef public OpenBatch batch
    cdef public PointBuffer point_buffer
    cdef Py_ssize_t points
    cdef Py_ssize_t size
    cdef Py_ssize_t closed_runs
    cdef Py_ssize_t closed_rest
    cdef Py_ssize_t memory_bytes
    cdef public long long count
    cdef public long long oldest_offset
    cdef public double opened_at
    cdef public long long generation

    @cython.locals(point_buffer=PointBuffer)
    cpdef take(self, OpenBatch batch)

    @cython.locals(batch=OpenBatch)
    cpdef restore(self)


@cython.final
cdef class BatchTransaction:
    cdef public long long request
    cdef public double now
    cdef public unsigned long long latest_ns
    cdef public object pace
    cdef public bint bounded
    cdef public list sample_counts
    cdef public dict dropped
    cdef public list examples
    cdef public list snapshots
    cdef public list sealed
    cdef public Py_ssize_t histograms
    cdef public Py_ssize_t exemplars
    cdef public Py_ssize_t exemplars_refused
    cdef public Py_ssize_t exemplars_sent
    cdef public Py_ssize_t exemplars_lost
    cdef public Py_ssize_t slow_path_entries
    cdef public Py_ssize_t slow_path_check_at
    cdef public bint learned
    cdef public Py_ssize_t expansion_bytes
    cdef public bint has_metadata
    cdef public list deferred
    cdef public list native
    cdef public bint is_processed
    cdef public list orphan_exemplars
    cdef public list lost
    cdef public list omitted
    cdef public Py_ssize_t buckets
    cdef public Py_ssize_t batch_growth_bytes
    cdef Py_ssize_t _held
    cdef list _held_before
    cdef list _released

    @cython.locals(snapshot=BatchSnapshot)
    cpdef begin_run(self, OpenBatch batch, object group)
    cpdef append_sample(
        self, OpenBatch batch, object group, bytes head, bytes stamp, bytes value
    )
    cpdef append_point(self, OpenBatch batch, object group, object point, object origin)
    cpdef append_late(
        self, OpenBatch batch, object group, bytes head, bytes stamp, bytes value, object origin
    )
    cdef _make_way(self, OpenBatch batch, object group, object origin)
    cdef _count_point(self, OpenBatch batch)

    @cython.locals(point_buffer=PointBuffer)
    cpdef append_rider(self, OpenBatch batch, object group, object rider)
    cpdef seal(self, OpenBatch batch)
    cpdef hold(self, long long position)
    cpdef release(self, long long position)

    @cython.locals(snapshot=BatchSnapshot, batch=OpenBatch, fresh=cython.bint)
    cpdef commit(self, OffsetTracker offsets, object schedule, double tick)
    cdef _hand_over_positions(self, OffsetTracker offsets)

    @cython.locals(samples=Py_ssize_t)
    cpdef Py_ssize_t flush_counts(self) except -1

    @cython.locals(snapshot=BatchSnapshot)
    cpdef rollback(self)
