"""The open batches of a sink, one per shard. Pure."""

from __future__ import annotations

from relay.codec.otlp.batch import BatchOwner, OpenBatch
from relay.codec.otlp.point_buffer import PointBuffer
from relay.codec.otlp.record_buffer import RecordBuffer
from relay.codec.remote_write.raw.buffer import RawPointBuffer
from relay.config.exporter.types import Endpoint, OtlpHttp, PrometheusRemoteWrite, Sink

UNBATCHED_POINTS_MAX = 1 << 30
"""Limit of an open batch where batching is off: it is sealed at the end of each request instead."""
UNBATCHED_RECORDS_MAX = 10_000
"""The same for log records and spans, whose heads may all differ: they are encoded in 10 ms."""


def open_batches(owner: BatchOwner, config: Sink) -> tuple[OpenBatch, ...]:
    """Return new batches for a sink with this configuration."""
    batch = config.batch
    return tuple(
        OpenBatch(
            owner,
            limit=batch.points_max if batch.enabled else _unbatched_max(config.endpoint),
            shard=shard,
            timeout_s=batch.timeout_s if batch.enabled else 0.0,
            new_buffer=_buffer_of(config.endpoint),
        )
        for shard in range(config.endpoint.concurrency)
    )


def _buffer_of(endpoint: Endpoint) -> type[PointBuffer]:
    if isinstance(endpoint, PrometheusRemoteWrite):
        return RawPointBuffer
    return RecordBuffer if _has_records(endpoint) else PointBuffer


def _unbatched_max(endpoint: Endpoint) -> int:
    return UNBATCHED_RECORDS_MAX if _has_records(endpoint) else UNBATCHED_POINTS_MAX


def _has_records(endpoint: Endpoint) -> bool:
    return isinstance(endpoint, OtlpHttp) and endpoint.signal != "metrics"
