"""A sink's batch while it grows, and after it is sealed.

An open batch is written by the pipeline's transactions alone, field by field, so it has no method
to append a point. Invariants:

* The points behind the last closed run of ``point_buffer`` belong to ``group``.
* ``count`` equals the number of points in the buffer and never exceeds ``limit``: at ``limit`` the
  transaction seals the batch before the next point.
* ``oldest_offset`` is the ingest position of the oldest point, and the batch holds that position
  until every one of its points is delivered, rejected, expired, dropped or safely on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from relay.codec.otlp.groups import MetricGroup
from relay.codec.otlp.point_buffer import PointBuffer
from relay.codec.otlp.record_buffer import RecordGroup
from relay.codec.remote_write.raw.buffer import RawPointBuffer
from relay.codec.remote_write.raw.label_table import RawGroup


class SealedBatch(msgspec.Struct, frozen=True, gc=False):
    """Points of a sealed batch; ``opened_at``: wall clock of the first point's arrival, s."""

    point_buffer: PointBuffer
    count: int
    oldest: int
    opened_at: float


class BatchOwner(Protocol):
    """The sink that a batch belongs to."""

    exporter_id: str
    sink_id: str

    @property
    def shards(self) -> Sequence[OpenBatch]:
        """Its open batches, one for each shard."""
        ...

    def offer(self, sealed: SealedBatch, shard: int) -> None:
        """Take over a sealed batch of this shard. Never raises, never blocks."""
        ...


class OpenBatch:
    """The open batch of one shard of one sink.

    ``timeout_s`` is how long after its first point the batch leaves at the latest; 0: with its
    request. ``new_buffer`` makes the buffer of its format: a PointBuffer for metrics in OTLP.
    """

    __slots__ = (
        "count",
        "generation",
        "group",
        "last_writer_offset",
        "limit",
        "new_buffer",
        "oldest_offset",
        "opened_at",
        "point_buffer",
        "shard",
        "sink",
        "timeout_s",
    )

    def __init__(
        self,
        sink: BatchOwner | None,
        *,
        limit: int,
        shard: int = 0,
        timeout_s: float = 5.0,
        new_buffer: Callable[[], PointBuffer] = PointBuffer,
    ) -> None:
        assert limit > 0
        self.sink = sink
        """Its owner; None once the sink is removed."""
        self.shard = shard
        self.limit = limit
        self.timeout_s = timeout_s
        self.new_buffer = new_buffer
        self.point_buffer = new_buffer()
        self.group: MetricGroup | RawGroup | RecordGroup | None = None
        self.count = 0
        self.oldest_offset = -1
        self.opened_at = 0.0
        self.last_writer_offset = -1
        """Position of the transaction that wrote to this batch last."""
        self.generation = 0
        """Number of times that it was sealed."""

    def seal(self) -> SealedBatch | None:
        """Take the points out and start empty; None where there are none."""
        if not self.count:
            return None
        if self.group is not None:
            self.point_buffer.close_run(self.group)
        sealed = SealedBatch(self.point_buffer, self.count, self.oldest_offset, self.opened_at)
        self.point_buffer = self.new_buffer()
        if self.count == self.limit:  # so will the next, not so one that waited for its timeout
            self.point_buffer.expect_as_many(sealed.point_buffer)
        self.group = None
        self.count = 0
        self.oldest_offset = -1
        self.generation += 1
        return sealed

    def drop_riders(self) -> int:
        """Drop what waits for a first point; return the number of exemplars in it."""
        assert not self.count
        point_buffer = self.point_buffer
        self.point_buffer = self.new_buffer()
        self.generation += 1
        return point_buffer.count_exemplars() if isinstance(point_buffer, RawPointBuffer) else 0

    def __repr__(self) -> str:
        return f"<OpenBatch {self.sink!r}/{self.shard} {self.count}/{self.limit} points>"


def memory_bytes_of(batches: list[OpenBatch]) -> int:
    """Return the bytes that open batches take in memory."""
    memory_bytes = 0
    for batch in batches:
        memory_bytes += batch.point_buffer.room()
    return memory_bytes
