# cython: boundscheck=False, wraparound=False, cdivision=True
"""Append records to the batch of one sink: the inner loop of logs and traces.

A batch is also full at :data:`BATCH_BYTES_MAX` bytes, heads included, so that encoding and
compressing it never holds the event loop.
"""

from relay.codec.otlp.batch cimport OpenBatch
from relay.codec.otlp.envelope cimport Envelope
from relay.codec.otlp.record_buffer cimport RecordBuffer, RecordGroup
from relay.pipeline.batching.transaction cimport BatchTransaction

cdef enum:
    BATCH_BYTES_MAX = 4 << 20  # 10 ms to compress


def append_records(
    BatchTransaction transaction not None, target, RecordGroup group not None,
    Envelope envelope not None, Py_ssize_t first, Py_ssize_t stop,
):
    """Append a row of records to the batch of their resource's shard; seal full batches."""
    cdef tuple shards = target.shards
    cdef OpenBatch batch = shards[group.shard_key % len(shards)]
    cdef RecordBuffer records
    cdef Py_ssize_t end, room
    while first < stop:
        if batch.group is not group:
            transaction.begin_run(batch, group)
            (<RecordBuffer?>batch.point_buffer).note_heads(group)
        records = <RecordBuffer>batch.point_buffer
        end = min(stop, first + <Py_ssize_t>(batch.limit - batch.count))
        room = BATCH_BYTES_MAX - records.size - records.finished
        if envelope.records[end - 1].end - envelope.records[first].start > room:
            end = first + 1
            while end < stop and envelope.records[end].end - envelope.records[first].start <= room:
                end += 1
        records.append(envelope, first, end)
        batch.count += end - first
        first = end
        if batch.count == batch.limit or records.size + records.finished >= BATCH_BYTES_MAX:
            transaction.seal(batch)


def append_rewritten(
    BatchTransaction transaction not None, target, RecordGroup group not None,
    bytes record not None,
):
    """Append one record that was encoded anew, with its tag and length."""
    cdef tuple shards = target.shards
    cdef OpenBatch batch = shards[group.shard_key % len(shards)]
    cdef RecordBuffer records
    if batch.group is not group:
        transaction.begin_run(batch, group)
        (<RecordBuffer?>batch.point_buffer).note_heads(group)
    records = <RecordBuffer>batch.point_buffer
    records.append_bytes(record, 1)
    batch.count += 1
    if batch.count == batch.limit or records.size + records.finished >= BATCH_BYTES_MAX:
        transaction.seal(batch)
