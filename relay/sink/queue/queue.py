"""A sink's undelivered requests: its shards, one budget of bytes, one limit of age. Pure.

What happens within a shard (take, settle, spill) is :mod:`relay.sink.queue.shard`. Rules here:

* When the number of shards changes, series change shards. Requests from after each change wait
  until all from before it are settled, so that no point overtakes another of its series.
* Whether a request is in memory or on disk makes no difference to budget, age and overflow.
* A request in flight, or a record being read, is inside the budget and never dropped.
* Unless ``overflow`` is ``block``, the bodies held never exceed ``bytes_max``. What is dropped:

  - ``dropOldest``: the oldest waiting requests of all shards; the new one only where dropping all
    of them would not make room for it, and then it alone.
  - ``dropNewest``: the new request.
  - ``block``: nothing. :attr:`SinkQueue.full` becomes true and the receiver refuses requests; the
    overshoot is what open batches held at that moment.
* Nothing is reported here: what is removed is returned, for the caller to count and to release.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from relay.config.exporter.types import Queue
from relay.sink.queue.disk_index import DiskIndex
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.queue.payload import STORED, EncodedRequest
from relay.sink.queue.shard import Item, QueueShard
from relay.sink.queue.usage import QueueUsage

SharedLimit = Literal["memory_full", "storage_full", "project_queue_full"]
"""A limit of several queues together: memory and disk of all, everything of one project's."""
EVICT_BYTES_MIN = 256 * 1024
"""Bytes on disk that are dropped at a time, at least, so that a sink is not asked for each
request."""
POSITION_MAX = (1 << 63) - 1

RESHARDS_MAX = 100
"""Changes of the number of shards that are told apart; of older ones the order is lost."""


class QueueStatistics(msgspec.Struct, frozen=True):
    """Everything but ``in_flight`` includes what is in flight; ``bytes`` are bodies as sent.

    ``memory_bytes`` of them are in memory; ``stored_payloads`` are on disk, in files of
    ``stored_bytes``.
    """

    payloads: int
    in_flight: int
    points: int
    bytes: int
    bytes_max: int
    memory_bytes: int = 0
    stored_payloads: int = 0
    stored_bytes: int = 0


class SinkQueue:
    """The queue of one sink. Shards are numbered from 0; ``disk`` are their indexes, by shard.

    There are ``shards`` of them, and more if the disk has more. ``memory`` counts the bytes that
    all sinks hold in memory. ``usage`` is to be read only.
    """

    def __init__(
        self,
        config: Queue,
        *,
        shards: int,
        disk: Mapping[int, DiskIndex] | None = None,
        memory: BufferedBytes | None = None,
    ) -> None:
        assert shards > 0
        self._config = config
        self._fed = shards
        self._reshards: tuple[float, ...] = ()
        """Times of the changes of the number of shards that unsettled requests are from before."""
        self.usage = QueueUsage(memory or BufferedBytes())
        stored = disk or {}
        count = max(shards, max(stored, default=-1) + 1)
        self.shards = [QueueShard(at, self.usage, stored.get(at)) for at in range(count)]
        for index in stored.values():
            self.usage.requests += index.entries
            self.usage.points += index.points
            self.usage.bytes += index.body_bytes
        self._set_drain_order()

    def reconfigure(self, config: Queue, *, shards: int, now: float) -> None:
        """Use other limits and another number of shards; shards beyond that get nothing new.

        ``now`` is wall clock, s.
        """
        self._config = config
        if shards != self._fed:
            self._fed = shards
            self.reshard(now)
        for number in range(len(self.shards), shards):
            self.shards.append(QueueShard(number, self.usage))
        self._set_drain_order()

    @property
    def reshards(self) -> tuple[float, ...]:
        """Times of the changes that unsettled requests are from before, for the next process."""
        return self._reshards

    def restore_reshards(self, reshards: Iterable[float]) -> None:
        """Note the changes of an earlier process that its records are from before."""
        self._reshards = tuple(sorted({*self._reshards, *reshards})[-RESHARDS_MAX:])

    def reshard(self, now: float) -> None:
        """Note that series are in other shards from ``now`` (wall clock, s) on."""
        at = max(now, self._reshards[-1]) if self._reshards else now
        self._reshards = (*self._reshards, at)[-RESHARDS_MAX:]

    def waits_for_reshard(self, shard: int) -> bool:
        """Return whether a shard must wait for others because the number of shards changed.

        Requests from before a change must be settled first, those from before two changes before
        those from between them.
        """
        return bool(self._reshards) and self._waits_for_others(shard)

    def _waits_for_others(self, shard: int) -> bool:
        items = [item for each in self.shards for item in (each.peek(), each.taken)]
        oldest = min((item.created_at for item in items if item is not None), default=None)
        if oldest is None:
            self._reshards = ()
            return False
        self._reshards = self._reshards[bisect_right(self._reshards, oldest) :]
        head = self.shards[shard].peek()
        return bool(self._reshards) and head is not None and head.created_at >= self._reshards[0]

    @property
    def resharding(self) -> bool:
        """True if shards may have to wait for one another."""
        return bool(self._reshards)

    @property
    def full(self) -> bool:
        """True if senders must be held back: only with overflow ``block``."""
        return self._config.overflow == "block" and self.usage.bytes >= self._config.bytes_max

    @property
    def empty(self) -> bool:
        """True if nothing waits and nothing is in flight."""
        return not self.usage.requests

    @property
    def points(self) -> int:
        """Points held, in memory and on disk."""
        return self.usage.points

    @property
    def bytes(self) -> int:
        """Bodies held, in memory and on disk."""
        return self.usage.bytes

    @property
    def memory_bytes(self) -> int:
        """Bodies held in memory."""
        return self.usage.memory_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes of the files on disk."""
        return sum(shard.disk.file_bytes for shard in self.shards)

    def push(self, request: EncodedRequest) -> list[Item]:
        """Put a request into its shard; return what was dropped, perhaps the request itself."""
        excess = self.usage.bytes + len(request.body) - self._config.bytes_max
        dropped: list[Item] = []
        if excess > 0 and self._config.overflow != "block":
            if self._config.overflow == "dropNewest" or self._is_hopeless(request):
                return [request]
            dropped = self.drop_oldest(excess)
        shard = self.shards[request.shard]
        shard.put(request)
        return dropped

    def _is_hopeless(self, request: EncodedRequest) -> bool:
        """Return whether dropping all that waits would not make room for a request."""
        taken = (shard.taken for shard in self.shards)
        held_bytes = sum(item.body_bytes for item in taken if item is not None)
        return request.body_bytes + held_bytes > self._config.bytes_max

    def shrink(self) -> list[Item]:
        """Remove what a smaller limit than before has no room for.

        With ``dropOldest`` only: a queue that drops the newest, or none, is emptied by sending.
        """
        if self._config.overflow != "dropOldest":
            return []
        return self.drop_oldest(self.usage.bytes - self._config.bytes_max)

    def evict(self, bytes_wanted: int, limit: SharedLimit) -> list[Item]:
        """Remove the oldest that count for a limit, until so many bytes are free or none waits."""
        if limit == "memory_full":
            return self.drop_unspilled(bytes_wanted)
        stored = limit == "storage_full"
        return self._drop_oldest_of(max(bytes_wanted, EVICT_BYTES_MIN), stored=stored)

    def drop_oldest(self, bytes_wanted: int) -> list[Item]:
        """Remove the oldest that wait until so many bytes are free, or nothing waits."""
        return self._drop_oldest_of(bytes_wanted, stored=False)

    def drop_unspilled(self, bytes_wanted: int) -> list[Item]:
        """Remove what waits in memory until so many bytes are free, or none waits there."""
        dropped: list[Item] = []
        for shard in self.shards:
            while bytes_wanted > 0 and (request := shard.drop_unspilled()) is not None:
                dropped.append(request)
                bytes_wanted -= request.body_bytes
        return dropped

    def free(self) -> dict[int, list[int]]:
        """Forget segments with nothing left in them; return their numbers by shard."""
        freed = {
            shard.number: shard.disk.free(keep_newest=shard.spilling)
            for shard in self.shards
            if shard.disk.file_bytes
        }
        return {shard: numbers for shard, numbers in freed.items() if numbers}

    def expire(self, now: float) -> list[Item]:
        """Remove every waiting item that is ``age_max_s`` old; ``now`` is wall clock, s."""
        expired: list[Item] = []
        for shard in self.shards:
            while (head := shard.peek()) and head.created_at + self._config.age_max_s <= now:
                expired.append(shard.drop())
        return expired

    def expires_at(self, shard: int) -> float | None:
        """Return the wall clock at which a shard's head expires; None where nothing waits."""
        found = self.shards[shard]
        head = found.peek()
        return None if head is None else head.created_at + self._config.age_max_s

    def unkept_points(self, keeps: Callable[[int, int], bool]) -> int:
        """Return the points in memory only that may have come from a position that is not kept.

        ``keeps(first, end)`` says whether all positions between the two are.
        """
        points = 0
        for shard in self.shards:
            requests = [one for one in shard.in_memory() if one.position != STORED]
            requests.sort(key=lambda request: request.position)
            ends = [*(request.position for request in requests[1:]), POSITION_MAX]
            for request, end in zip(requests, ends, strict=False):
                points += 0 if keeps(request.position, end) else request.points
        return points

    def detach_disk(self) -> tuple[dict[int, DiskIndex], int]:
        """Remove what is on disk from the queue; nothing may be in flight or being spilled.

        Returns it by shard, and how many points the queue has less.
        """
        before = self.usage.points
        indexes = {shard.number: shard.detach_disk() for shard in self.shards}
        stored = {number: index for number, index in indexes.items() if index.file_bytes}
        return stored, before - self.usage.points

    def clear(self) -> list[Item]:
        """Remove everything that waits; what is in flight stays."""
        removed: list[Item] = []
        for shard in self.shards:
            while shard.peek() is not None:
                removed.append(shard.drop())
        return removed

    def oldest_created_at(self) -> float | None:
        """Return the wall clock of the oldest first point held; None where the queue is empty."""
        if self.empty:
            return None
        heads = [item for shard in self.shards for item in (shard.peek(), shard.taken)]
        return min((item.created_at for item in heads if item is not None), default=None)

    def statistics(self) -> QueueStatistics:
        """Return a snapshot."""
        in_flight = stored_payloads = stored_bytes = 0
        for shard in self.shards:
            in_flight += shard.in_flight is not None
            stored_payloads += shard.disk.entries
            stored_bytes += shard.disk.file_bytes
        return QueueStatistics(
            payloads=self.usage.requests,
            in_flight=in_flight,
            points=self.usage.points,
            bytes=self.usage.bytes,
            bytes_max=self._config.bytes_max,
            memory_bytes=self.usage.memory_bytes,
            stored_payloads=stored_payloads,
            stored_bytes=stored_bytes,
        )

    def _drop_oldest_of(self, bytes_wanted: int, *, stored: bool) -> list[Item]:
        dropped: list[Item] = []
        while bytes_wanted > 0:
            shard = self._shard_with_oldest(stored=stored)
            if shard is None:
                break
            dropped.append(shard.drop())
            bytes_wanted -= dropped[-1].body_bytes
        return dropped

    def _shard_with_oldest(self, *, stored: bool) -> QueueShard | None:
        """Return the shard with the oldest head, among those with ``stored`` records if asked."""
        heads: Iterable[tuple[float, int]] = (
            (head.created_at, shard.number)
            for shard in self.shards
            if (head := shard.peek()) is not None and (shard.disk.entries or not stored)
        )
        oldest = min(heads, default=None)
        return None if oldest is None else self.shards[oldest[1]]

    def _set_drain_order(self) -> None:
        for shard in self.shards:
            shard.fresh_first = self._config.drain == "freshFirst"

    def __repr__(self) -> str:
        in_flight = sum(shard.in_flight is not None for shard in self.shards)
        return (
            f"<SinkQueue {self.usage.requests} requests, {in_flight} in flight, "
            f"{self.usage.bytes}/{self._config.bytes_max} bytes>"
        )
