"""A sink's batch while it grows, and after it is sealed.

:class:`OpenBatch` is written by the kernel alone, field by field, which is why it has no method to
append a point. The rules the kernel keeps:

* The points that stand in the arena behind its last closed run belong to ``group``.
* ``count`` equals the number of points in the arena and never exceeds ``limit``: at ``limit`` the
  kernel calls :meth:`OpenBatch.seal` before the next point.
* ``oldest`` is the ingest position of the request that wrote the first point, and the batch holds
  that position until every one of its points is delivered, rejected, expired, dropped or safely on
  disk.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.codec.otlp.metrics import MetricGroup
from relay.codec.otlp.point_buffer import PointBuffer


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """Points that leave together. ``opened_at`` is the wall clock of the first point's arrival, in
    s."""

    point_buffer: PointBuffer
    count: int
    oldest: int
    opened_at: float

    def encode(self) -> bytes:
        """The ExportMetricsServiceRequest, uncompressed."""
        return self.point_buffer.encode()


class OpenBatch:
    """One lane of one sink; see the module's rules. ``owner`` is the sink, opaque to the kernel.

    ``timeout_s`` is how long after its first point the batch leaves at the latest; 0: with its
    request.
    """

    __slots__ = (
        "count",
        "generation",
        "group",
        "last_writer_offset",
        "limit",
        "oldest_offset",
        "opened_at",
        "point_buffer",
        "shard",
        "sink",
        "timeout_s",
    )

    def __init__(
        self, owner: object, *, limit: int, shard: int = 0, timeout_s: float = 5.0
    ) -> None:
        assert limit > 0
        self.sink = owner
        self.shard = shard
        self.limit = limit
        self.timeout_s = timeout_s
        self.point_buffer = PointBuffer()
        self.group: MetricGroup | None = None
        self.count = 0
        self.oldest_offset = -1
        self.opened_at = 0.0
        self.last_writer_offset = -1
        """Position of the request that touched this batch last; the kernel's own mark."""
        self.generation = 0
        """How often it was sealed; tells one filling from the next."""

    def seal(self) -> SealedBatch | None:
        """Take the points out and start afresh; None where there are none."""
        if not self.count:
            return None
        if self.group is not None:
            self.point_buffer.close_run(self.group)
        sealed = SealedBatch(self.point_buffer, self.count, self.oldest_offset, self.opened_at)
        self.point_buffer = PointBuffer()
        self.group = None
        self.count = 0
        self.oldest_offset = -1
        self.generation += 1
        return sealed

    def __repr__(self) -> str:
        return f"<OpenBatch {self.sink!r}/{self.shard} {self.count}/{self.limit} points>"


def memory_bytes_of(batches: list[OpenBatch]) -> int:
    """Bytes that the open batches take in memory; there may be ten thousand, looked at often."""
    room = 0
    for batch in batches:
        room += batch.point_buffer.room()
    return room
