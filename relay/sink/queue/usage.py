"""Totals of the shards of one queue. Pure."""

from __future__ import annotations

from typing import Protocol

from relay.sink.queue.fair_share import BufferedBytes


class Sized(Protocol):
    """Something queued, in memory or on disk."""

    @property
    def points(self) -> int:
        """Return its points."""

    @property
    def body_bytes(self) -> int:
        """Return the size of its body, as it is sent."""


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

    def add(self, item: Sized) -> None:
        """Count a request or record that comes."""
        self.requests += 1
        self.points += item.points
        self.bytes += item.body_bytes

    def remove(self, item: Sized) -> None:
        """Count a request or record that leaves."""
        self.requests -= 1
        self.points -= item.points
        self.bytes -= item.body_bytes

    def buffer(self, body_bytes: int) -> None:
        """Count bytes that come into memory, or, where negative, leave it."""
        self.memory_bytes += body_bytes
        self._process.used += body_bytes

    def __repr__(self) -> str:
        return f"<QueueUsage {self.requests} requests, {self.bytes} bytes>"
