# cython: boundscheck=False, wraparound=False, cdivision=True
"""Append records to the batch of one sink: the inner loop of logs and traces."""

from relay.codec.otlp.batch cimport OpenBatch
from relay.codec.otlp.envelope cimport Envelope
from relay.codec.otlp.record_buffer cimport RecordBuffer, RecordGroup
from relay.pipeline.batching.transaction cimport BatchTransaction


def append_records(
    BatchTransaction transaction not None, target, RecordGroup group not None,
    Envelope envelope not None, Py_ssize_t first, Py_ssize_t stop,
):
    """Append a row of records to the batch of their resource's shard; seal full batches."""
    cdef tuple shards = target.shards
    cdef OpenBatch batch = shards[group.shard_key % len(shards)]
    cdef Py_ssize_t end
    while first < stop:
        if batch.group is not group:
            transaction.begin_run(batch, group)
        end = min(stop, first + <Py_ssize_t>(batch.limit - batch.count))
        (<RecordBuffer?>batch.point_buffer).append(envelope, first, end)
        batch.count += end - first
        first = end
        if batch.count == batch.limit:
            transaction.seal(batch)
