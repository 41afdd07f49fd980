# Append a number point: the half of transaction.py that is inlined into the decode loops.
# It takes borrowed pointers: references of what the caller holds anyway took a third of it.
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint64_t

from relay.codec.otlp.batch cimport OpenBatch
from relay.codec.otlp.point_buffer cimport TAIL_BYTES, Point, PointBuffer
from relay.pipeline.batching.transaction cimport BatchTransaction


cdef inline int append_number(
    void *batch, void *group, void *head, uint64_t time_ns, uint64_t value,
    BatchTransaction transaction, long long request
) except -1:
    """Append a point to the batch; seal the batch at its limit. ``request``: the transaction's.

    ``batch`` is an OpenBatch, ``group`` a group, ``head`` bytes.
    """
    if <void *>(<OpenBatch>batch).group != group:
        if (<OpenBatch>batch).last_writer_offset == request and (
            (<OpenBatch>batch).group is not None
        ):
            (<OpenBatch>batch).point_buffer.end_run((<OpenBatch>batch).group)
            if not (<OpenBatch>batch).count:
                (<OpenBatch>batch).oldest_offset = request
                (<OpenBatch>batch).opened_at = transaction.now
            (<OpenBatch>batch).group = <object>group
        else:
            transaction.begin_run(<OpenBatch>batch, <object>group)
    cdef void *buffer = <void *>(<OpenBatch>batch).point_buffer
    if (<PointBuffer>buffer).count == (<PointBuffer>buffer).capacity:
        (<PointBuffer>buffer).grow()
    cdef Point *point = &(<PointBuffer>buffer).points[(<PointBuffer>buffer).count]
    Py_INCREF(<object>head)
    point.head = head
    point.time_ns = time_ns
    point.value = value
    (<PointBuffer>buffer).count += 1
    (<PointBuffer>buffer).size += PyBytes_GET_SIZE(<object>head) + TAIL_BYTES
    (<OpenBatch>batch).count += 1
    if (<OpenBatch>batch).count == (<OpenBatch>batch).limit:
        transaction.seal(<OpenBatch>batch)
    return 0
