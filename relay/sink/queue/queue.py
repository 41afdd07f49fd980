"""A sink's undelivered payloads: lanes in order, one budget of bytes, one limit of age. Pure.

Rules:

* Within a lane payloads leave in the order they came; :mod:`relay.sink.queue.shard` has the fine
  print. A payload that has to be tried again goes back to the head of its lane.
* When the number of lanes changes, series change lanes. Payloads from after the change then wait
  until all from before it are dealt with, so that no point overtakes another of its series.
* Whether a payload is in memory or on disk makes no difference to budget, age and overflow.
* A payload being sent is *in flight*: outside its lane, inside the budget, never dropped. The same
  holds for a record that is being read from disk.
* Unless ``overflow`` is ``block``, the bodies held never exceed ``bytes_max``. What gives way:

  - ``dropOldest``: the oldest waiting payloads of all lanes; the new one only where dropping all of
    them would not make room for it, and then it alone.
  - ``dropNewest``: the new payload.
  - ``block``: nothing. :attr:`SinkQueue.full` becomes true and the listener refuses further input;
    the overshoot is what open batches held at that moment.
* Nothing is counted here: what was given up is returned, for the caller to count and to release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from relay.config.exporter.types import Queue
from relay.sink.queue.disk_index import DiskIndex, Entry, Place
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.queue.payload import STORED, EncodedRequest
from relay.sink.queue.shard import QueueShard

POSITION_MAX = (1 << 63) - 1

Item = EncodedRequest | Entry
"""Something that waits: in memory, or on disk."""


class QueueStatistics(msgspec.Struct, frozen=True):
    """Everything but ``in_flight`` includes what is in flight; ``bytes`` are bodies as held.

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
    """See the module's rules. Lanes are numbered from 0; ``backlogs`` are what is on disk of them.

    There are ``shards`` of them, and more where the disk has more. ``memory`` is told of every
    byte.
    """

    def __init__(
        self,
        config: Queue,
        *,
        shards: int,
        backlogs: Mapping[int, DiskIndex] | None = None,
        memory: BufferedBytes | None = None,
    ) -> None:
        assert shards > 0
        self._config = config
        self._fed = shards
        self._regrouped_at: float | None = None
        self._memory = memory or BufferedBytes()
        stored = backlogs or {}
        count = max(shards, max(stored, default=-1) + 1)
        self._shards = [QueueShard(number, stored.get(number)) for number in range(count)]
        self._payloads = sum(backlog.entries for backlog in stored.values())
        self._points = sum(backlog.points for backlog in stored.values())
        self._bytes = sum(backlog.body_bytes for backlog in stored.values())
        self.memory_bytes = 0

    def reconfigure(self, config: Queue, *, shards: int, now: float) -> None:
        """Go on with other limits and another number of lanes; those that are no longer fed are
        only emptied. ``now`` is wall clock, s."""
        self._config = config
        if shards != self._fed:
            self._fed = shards
            self.reshard(now)
        for number in range(len(self._shards), shards):
            self._shards.append(QueueShard(number))

    def reshard(self, now: float) -> None:
        """Series are in other lanes from ``now`` (wall clock, s) on."""
        self._regrouped_at = now

    def waits_for_reshard(self, shard: int) -> bool:
        """Whether the lane has to wait for others to deal with what is older than a regrouping."""
        since = self._regrouped_at
        if since is None:
            return False
        items = [item for each in self._shards for item in (each.peek(), each.taken)]
        if not any(item is not None and item.created_at < since for item in items):
            self._regrouped_at = None
            return False
        head = self._shards[shard].peek()
        return head is not None and head.created_at >= since

    @property
    def resharding(self) -> bool:
        """Whether lanes may have to wait for one another."""
        return self._regrouped_at is not None

    @property
    def shards(self) -> Sequence[QueueShard]:
        """The lanes, by number."""
        return self._shards

    @property
    def full(self) -> bool:
        """Whether the sender must be held back: only ever true where overflow is ``block``."""
        return self._config.overflow == "block" and self._bytes >= self._config.bytes_max

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._payloads

    @property
    def bytes(self) -> int:
        """Bodies held, in memory and on disk."""
        return self._bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes of the files on disk."""
        return sum(shard.backlog.file_bytes for shard in self._shards)

    def push(self, payload: EncodedRequest) -> list[Item]:
        """Append to the payload's lane; return what had to give way, perhaps the payload itself."""
        dropped: list[Item] = []
        excess = self._bytes + payload.body_bytes - self._config.bytes_max
        if excess > 0 and self._config.overflow != "block":
            taken = (shard.taken for shard in self._shards)
            held_bytes = sum(item.body_bytes for item in taken if item is not None)
            hopeless = payload.body_bytes + held_bytes > self._config.bytes_max
            if self._config.overflow == "dropNewest" or hopeless:
                return [payload]
            dropped = self.drop_oldest(excess)
        self._shards[payload.shard].append(payload)
        self._add(payload)
        self._remember(payload.body_bytes)
        return dropped

    def shrink(self) -> list[Item]:
        """Remove what a smaller limit than before has no room for. Only the oldest ever give way:
        a queue that drops the newest, or none, is emptied by sending."""
        if self._config.overflow != "dropOldest":
            return []
        return self.drop_oldest(self._bytes - self._config.bytes_max)

    def drop_oldest(self, bytes_wanted: int) -> list[Item]:
        """Remove the oldest that wait until so many bytes are free, or nothing waits."""
        dropped: list[Item] = []
        while bytes_wanted > 0:
            shard = self._oldest_lane()
            if shard is None:
                break
            dropped.append(self._drop_head(shard))
            bytes_wanted -= dropped[-1].body_bytes
        return dropped

    def drop_stored(self, bytes_wanted: int) -> list[Item]:
        """Remove the oldest on disk until so many bytes are free, or none waits there."""
        dropped: list[Item] = []
        while bytes_wanted > 0:
            shard = self._oldest_lane(stored=True)
            if shard is None:
                break
            dropped.append(self._drop_head(shard))
            bytes_wanted -= dropped[-1].body_bytes
        return dropped

    def drop_unsaved(self, bytes_wanted: int) -> list[Item]:
        """Remove what waits in memory, until so many bytes are free or none waits there."""
        dropped: list[Item] = []
        for shard in self._shards:
            while bytes_wanted > 0 and (payload := shard.drop_unsaved()) is not None:
                dropped.append(payload)
                bytes_wanted -= payload.body_bytes
                self._subtract(payload)
                self._remember(-payload.body_bytes)
        return dropped

    def take(self, shard: int) -> Item | None:
        """Take the lane's head for sending; it stays in the budget until it is settled.

        What is on disk has to be :meth:`loaded` before it can be sent.
        """
        return self._shards[shard].take(fresh_first=self._config.drain == "freshFirst")

    def loaded(self, payload: EncodedRequest) -> None:
        """What was taken from disk has been read, and is in flight."""
        self._shards[payload.shard].loaded(payload)
        self._remember(payload.body_bytes)

    def not_loaded(self, entry: Entry, *, lost: bool) -> None:
        """What was taken from disk could not be read; ``lost`` is for ever."""
        self._shards[entry.shard].not_loaded(lost=lost)
        if lost:
            self._subtract(entry)

    def is_in_flight(self, payload: EncodedRequest) -> bool:
        """Whether the payload is taken and not settled yet."""
        return self._shards[payload.shard].flying is payload

    def give_back(self, payload: EncodedRequest) -> None:
        """Return a payload in flight to the head of its lane."""
        assert self.is_in_flight(payload)
        stored = self._shards[payload.shard].give_back()
        if stored is not None:
            self._remember(-stored.body_bytes)

    def finish(self, payload: EncodedRequest) -> None:
        """Forget a payload in flight: it is delivered, refused or given up."""
        assert self.is_in_flight(payload)
        self._shards[payload.shard].finish()
        self._subtract(payload)
        self._remember(-payload.body_bytes)

    def replace(self, payload: EncodedRequest, pieces: list[EncodedRequest]) -> None:
        """Put pieces of a payload in flight in its place, at the head of its lane.

        Pieces may take slightly more bytes than the whole: the budget is exceeded rather than data
        of the same payload dropped, and the next push makes up for it.
        """
        assert self.is_in_flight(payload)
        assert sum(piece.points for piece in pieces) == payload.points
        self._shards[payload.shard].replace(pieces)
        self._subtract(payload)
        self._remember(-payload.body_bytes)
        for piece in pieces:
            assert piece.shard == payload.shard
            self._add(piece)
            self._remember(piece.body_bytes)

    def begin_save(self, shard: int) -> list[EncodedRequest]:
        """What of a lane is only in memory, to be written; [] where nothing is."""
        return self._shards[shard].begin_save()

    def commit_save(self, shard: int, places: Sequence[Place]) -> list[int]:
        """The lane's save is safely on disk; returns the positions that need no hold any more."""
        held, left = self._shards[shard].commit_save(places)
        self._remember(-sum(payload.body_bytes for payload in left))
        positions = [payload.position for payload in held if payload.position != STORED]
        for payload in held:
            payload.position = STORED
        return positions

    def fail_save(self, shard: int) -> None:
        """The lane's save did not succeed: all of it is in memory as before."""
        self._shards[shard].fail_save()

    def free(self) -> dict[int, list[int]]:
        """Forget files with nothing left in them; returns their numbers by lane."""
        freed = {
            shard.number: shard.backlog.free(keep_newest=shard.saving)
            for shard in self._shards
            if shard.backlog.file_bytes
        }
        return {shard: numbers for shard, numbers in freed.items() if numbers}

    def expire(self, now: float) -> list[Item]:
        """Remove every waiting payload that is ``age_max_s`` old; ``now`` is wall clock, s."""
        expired: list[Item] = []
        for shard in self._shards:
            while (head := shard.peek()) and head.created_at + self._config.age_max_s <= now:
                expired.append(self._drop_head(shard))
        return expired

    def unkept_points(self, keeps: Callable[[int, int], bool]) -> int:
        """Points of payloads in memory only that may have come from a position that is not kept:
        ``keeps`` says whether all between two positions are."""
        points = 0
        for shard in self._shards:
            payloads = [one for one in shard.in_memory() if one.position != STORED]
            payloads.sort(key=lambda payload: payload.position)
            ends = [*(payload.position for payload in payloads[1:]), POSITION_MAX]
            for payload, end in zip(payloads, ends, strict=False):
                points += 0 if keeps(payload.position, end) else payload.points
        return points

    def lose(self, shard: int, number: int) -> list[Item]:
        """A segment of a lane is gone: remove what waits in it."""
        lost = self._shards[shard].lose(number)
        for entry in lost:
            self._subtract(entry)
        return list(lost)

    def part(self) -> tuple[dict[int, DiskIndex], int]:
        """Give up what is on disk; nothing may be in flight or being saved. Returns it by lane, and
        how many points the queue has less."""
        backlogs: dict[int, DiskIndex] = {}
        points = self._points
        for shard in self._shards:
            waiting = shard.backlog.entries, shard.backlog.points, shard.backlog.body_bytes
            backlog, pieces = shard.part()
            if backlog.file_bytes:
                backlogs[shard.number] = backlog
            for piece in pieces:
                self._subtract(piece)
                self._remember(-piece.body_bytes)
            self._payloads -= waiting[0]
            self._points -= waiting[1]
            self._bytes -= waiting[2]
        return backlogs, points - self._points

    def clear(self) -> list[Item]:
        """Remove everything that waits; what is in flight stays."""
        removed: list[Item] = []
        for shard in self._shards:
            while shard.peek() is not None:
                removed.append(self._drop_head(shard))
        return removed

    def expires_at(self, shard: int) -> float | None:
        """Wall clock at which the lane's head grows too old; None where nothing waits."""
        head = self._shards[shard].peek()
        return None if head is None else head.created_at + self._config.age_max_s

    def oldest_created_at(self) -> float | None:
        """Wall clock of the oldest first point held, in flight or waiting; None where empty."""
        if self.empty:
            return None
        heads = [item for shard in self._shards for item in (shard.peek(), shard.taken)]
        return min((item.created_at for item in heads if item is not None), default=None)

    def _oldest_lane(self, *, stored: bool = False) -> QueueShard | None:
        """The lane with the oldest head, among those that have something on disk where asked."""
        heads: Iterable[tuple[float, int]] = (
            (head.created_at, shard.number)
            for shard in self._shards
            if (head := shard.peek()) is not None and (shard.backlog.entries or not stored)
        )
        oldest = min(heads, default=None)
        return None if oldest is None else self._shards[oldest[1]]

    def _drop_head(self, shard: QueueShard) -> Item:
        item = shard.drop()
        self._subtract(item)
        if isinstance(item, EncodedRequest):
            self._remember(-item.body_bytes)
        return item

    def _remember(self, body_bytes: int) -> None:
        self.memory_bytes += body_bytes
        self._memory.used += body_bytes

    def _add(self, item: Item) -> None:
        self._payloads += 1
        self._points += item.points
        self._bytes += item.body_bytes

    def _subtract(self, item: Item) -> None:
        self._payloads -= 1
        self._points -= item.points
        self._bytes -= item.body_bytes

    def statistics(self) -> QueueStatistics:
        """A snapshot."""
        in_flight = stored_payloads = stored_bytes = 0
        for shard in self._shards:
            in_flight += shard.flying is not None
            stored_payloads += shard.backlog.entries
            stored_bytes += shard.backlog.file_bytes
        return QueueStatistics(
            payloads=self._payloads,
            in_flight=in_flight,
            points=self._points,
            bytes=self._bytes,
            bytes_max=self._config.bytes_max,
            memory_bytes=self.memory_bytes,
            stored_payloads=stored_payloads,
            stored_bytes=stored_bytes,
        )

    def __repr__(self) -> str:
        taken = sum(shard.flying is not None for shard in self._shards)
        return (
            f"<SinkQueue {self._payloads} payloads, {taken} in flight, "
            f"{self._bytes}/{self._config.bytes_max} bytes>"
        )
