"""Totals of the shards of one queue. Pure."""

from __future__ import annotations

from relay.sink.queue.fair_share import BufferedBytes


class QueueUsage:
    """Totals of one queue, in flight included. Its shards alone change them.

    ``bytes`` are bodies in memory and on disk, ``memory_bytes`` those in memory; the latter count
    in the process's total, too.
    """

    __slots__ = ("_process", "bytes", "memory_bytes", "points", "requests")

    def __init__(self, process: BufferedBytes) -> None:
        self._process = process
        self.requests = 0
        self.points = 0
        self.bytes = 0
        self.memory_bytes = 0

    def add(self, points: int, body_bytes: int) -> None:
        """Count a request that comes, its body in memory."""
        self.requests += 1
        self.points += points
        self.bytes += body_bytes
        self.buffer(body_bytes)

    def remove(self, points: int, body_bytes: int) -> None:
        """Count a request that leaves, its body in memory."""
        self.forget(points, body_bytes)
        self.buffer(-body_bytes)

    def forget(self, points: int, body_bytes: int) -> None:
        """Count a record that leaves, which is on disk only."""
        self.requests -= 1
        self.points -= points
        self.bytes -= body_bytes

    def buffer(self, body_bytes: int) -> None:
        """Count bytes that come into memory, or, where negative, leave it."""
        self.memory_bytes += body_bytes
        self._process.used += body_bytes

    def __repr__(self) -> str:
        return f"<QueueUsage {self.requests} requests, {self.bytes} bytes>"
