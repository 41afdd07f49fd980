# Append a number point: the half of transaction.py that is inlined into the decode loops.
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint64_t

from relay.codec.otlp.batch cimport OpenBatch
from relay.codec.otlp.point_buffer cimport Point, PointBuffer
from relay.pipeline.batching.transaction cimport BatchTransaction


cdef enum:
    TAIL_BYTES = 17  # of a point in OTLP: time, tag, value


cdef inline int append_number(
    OpenBatch batch, object group, bytes head, uint64_t time_ns, uint64_t value,
    BatchTransaction transaction, long long request
) except -1:
    """Append a point to the batch; seal the batch at its limit. ``request``: the transaction's."""
    if batch.group is not group:
        if batch.last_writer_offset == request and batch.group is not None:
            batch.point_buffer.end_run(batch.group)
            if not batch.count:
                batch.oldest_offset = request
                batch.opened_at = transaction.now
            batch.group = group
        else:
            transaction.begin_run(batch, group)
    cdef PointBuffer point_buffer = batch.point_buffer
    if point_buffer.count == point_buffer.capacity:
        point_buffer.grow()
    cdef Point *point = &point_buffer.points[point_buffer.count]
    Py_INCREF(head)
    point.head = <void *>head
    point.time_ns = time_ns
    point.value = value
    point_buffer.count += 1
    point_buffer.size += PyBytes_GET_SIZE(head) + TAIL_BYTES
    batch.count += 1
    if batch.count == batch.limit:
        transaction.seal(batch)
    return 0
