# Types that transaction.py is compiled with: a request touches hundreds of batches.
cimport cython

from relay.codec.otlp.point_buffer cimport PointBuffer
from relay.codec.otlp.batch cimport OpenBatch


cdef class BatchSnapshot:
    cdef public OpenBatch batch
    cdef public PointBuffer point_buffer
    cdef Py_ssize_t points
    cdef Py_ssize_t size
    cdef Py_ssize_t runs
    cdef Py_ssize_t closed
    cdef Py_ssize_t room
    cdef public long long count
    cdef public long long oldest
    cdef public double opened_at
    cdef public long long sealed

    @cython.locals(point_buffer=PointBuffer)
    cpdef see(self, OpenBatch batch)

    @cython.locals(batch=OpenBatch)
    cpdef undo(self)


cdef class BatchTransaction:
    cdef public long long request
    cdef public double now
    cdef public unsigned long long latest_ns
    cdef public object pace
    cdef public bint bounded
    cdef public list tallies
    cdef public dict dropped
    cdef public list examples
    cdef public list touches
    cdef public list sealed
    cdef public Py_ssize_t histograms
    cdef public Py_ssize_t exemplars
    cdef public Py_ssize_t exemplars_refused
    cdef public Py_ssize_t exemplars_sent
    cdef public Py_ssize_t exemplars_lost
    cdef public Py_ssize_t slow_path_entries
    cdef public bint learned
    cdef public Py_ssize_t expansion_bytes
    cdef public bint has_metadata
    cdef public list deferred
    cdef public list native
    cdef public list orphan_exemplars
    cdef public list lost
    cdef public Py_ssize_t buckets
    cdef public Py_ssize_t batch_growth_bytes


@cython.locals(touch=BatchSnapshot)
cpdef begin_run(OpenBatch batch, object group, BatchTransaction transaction)

cpdef append_point(
    OpenBatch batch, object group, bytes point, object origin, BatchTransaction transaction
)

cpdef seal_batch(OpenBatch batch, BatchTransaction transaction)


@cython.locals(touch=BatchSnapshot, batch=OpenBatch)
cpdef end_runs(BatchTransaction transaction)
