"""The index, in memory, of the records that one shard of a sink has on disk. Pure.

Rules:

* Records are settled from the oldest to the newest. One record at a time may be *open*: it was read
  and is being delivered. Records behind it may be dropped meanwhile.
* A record costs 28 bytes of memory: its offset, points, size and age.
* A segment whose records are all settled is *freed*: its file can be removed. The newest is kept
  while a spill may still append to it.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass

from relay.runtime.lazy_deque import LazyDeque


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Position of a record: number of its segment, offset of its frame, end of the frame."""

    segment: int
    offset: int
    end: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A record on disk. ``body_bytes`` is its body's size; ``created_at`` wall clock, s."""

    shard: int
    segment: int
    offset: int
    points: int
    body_bytes: int
    created_at: float


class _Segment:
    """The records of one file; those before ``next`` are settled or open."""

    __slots__ = ("body_bytes", "created_at", "left", "next", "number", "offsets", "points")

    def __init__(self, number: int) -> None:
        self.number = number
        self.offsets = array("Q")
        self.points = array("I")
        self.body_bytes = array("I")
        self.created_at = array("d")
        self.next = 0
        self.left = 0
        """Points that wait."""


class DiskIndex:
    """Index of a shard's records on disk. Calls out of order are bugs, and asserted.

    ``entries``, ``points`` and ``body_bytes`` are of the records that wait, ``file_bytes`` of all
    segments that remain.
    """

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self._segments: LazyDeque[_Segment] = LazyDeque()
        self._open: Entry | None = None
        self._reopened = False
        self._sizes: dict[int, int] = {}
        self._newest = -1
        self._end = 0
        self._exhausted: dict[int, None] = {}  # an empty set takes three times as much
        self.file_bytes = 0
        self.entries = 0
        self.points = 0
        self.body_bytes = 0

    def append(
        self, place: RecordPlace, *, points: int, body_bytes: int, created_at: float
    ) -> None:
        """Append the newest record."""
        assert self is not NOTHING_STORED
        if not self._segments or self._segments[-1].number != place.segment:
            assert not self._segments or self._segments[-1].number < place.segment
            self._segments.append(_Segment(place.segment))
        segment = self._segments[-1]
        segment.offsets.append(place.offset)
        segment.points.append(points)
        segment.body_bytes.append(body_bytes)
        segment.created_at.append(created_at)
        segment.left += points
        self.file_bytes += place.end - self._sizes.get(place.segment, 0)
        self._sizes[place.segment] = place.end
        self._newest = place.segment
        self._end = place.end
        self.entries += 1
        self.points += points
        self.body_bytes += body_bytes

    def peek(self) -> Entry | None:
        """Return the oldest record that waits."""
        if self._reopened:
            return self._open
        return self._entry(self._segments[0]) if self._segments else None

    def open(self) -> Entry:
        """Take the oldest record out for delivery; it stays on disk until :meth:`finish`."""
        entry = self.peek()
        assert entry is not None
        if self._reopened:
            self._reopened = False
            self._count(entry, -1)
            return entry
        assert self._open is None, "one at a time"
        self._advance(entry)
        self._open = entry
        return entry

    def reopen(self) -> None:
        """Put the open record back at the head."""
        assert self._open is not None
        assert not self._reopened
        self._reopened = True
        self._count(self._open, +1)

    def finish(self) -> None:
        """Settle the open record."""
        assert self._open is not None
        assert not self._reopened
        self._open = None

    def drop(self) -> Entry:
        """Settle the oldest waiting record unread, and return it."""
        entry = self.peek()
        assert entry is not None
        if self._reopened:
            self.open()
            self.finish()
        else:
            self._advance(entry)
        return entry

    def free(self, *, keep_newest: bool) -> list[int]:
        """Forget segments with nothing left in them; return their numbers."""
        kept = {self._newest} if keep_newest else set()
        if self._open is not None:
            kept.add(self._open.segment)
        if self._segments:
            # A segment that was added to after it was exhausted stands first.
            kept.add(self._segments[0].number)
        freed = sorted(self._exhausted.keys() - kept)
        for number in freed:
            self.file_bytes -= self._sizes.pop(number)
            del self._exhausted[number]
        return freed

    @property
    def oldest(self) -> tuple[int, int] | None:
        """Return segment and offset of the oldest record that is not settled, or None.

        A restart continues there. It only grows; None if there never was a record.
        """
        entry = self._open or self.peek()
        if entry is not None:
            return entry.segment, entry.offset
        return (self._newest, self._end) if self._newest >= 0 else None

    @property
    def held(self) -> tuple[tuple[int, int], ...]:
        """Return each segment that holds records that are not settled, and their points."""
        held = {segment.number: segment.left for segment in self._segments}
        if self._open is not None:
            number = self._open.segment
            held[number] = held.get(number, 0) + self._open.points
        return tuple(sorted(held.items()))

    @property
    def sizes(self) -> Mapping[int, int]:
        """Return each segment that remains, with its size in bytes at least."""
        return self._sizes

    def lose(self, number: int) -> list[Entry]:
        """Settle, unread, what waits in a segment whose file is gone. An open record stays."""
        lost: list[Entry] = []
        if self._reopened and self._open is not None and self._open.segment == number:
            lost.append(self.drop())
        for segment in tuple(self._segments):
            if segment.number != number:
                continue
            while segment.next < len(segment.offsets):
                entry = self._entry(segment)
                segment.next += 1
                segment.left -= entry.points
                self._count(entry, -1)
                lost.append(entry)
            self._segments.remove(segment)
            self._exhausted[number] = None
        return lost

    def _entry(self, segment: _Segment) -> Entry:
        index = segment.next
        return Entry(
            self.shard,
            segment.number,
            segment.offsets[index],
            segment.points[index],
            segment.body_bytes[index],
            segment.created_at[index],
        )

    def _advance(self, entry: Entry) -> None:
        segment = self._segments[0]
        segment.next += 1
        segment.left -= entry.points
        if segment.next == len(segment.offsets):
            self._segments.popleft()
            self._exhausted[segment.number] = None
        self._count(entry, -1)

    def _count(self, entry: Entry, sign: int) -> None:
        self.entries += sign
        self.points += sign * entry.points
        self.body_bytes += sign * entry.body_bytes

    def __repr__(self) -> str:
        return f"<DiskIndex shard {self.shard}: {self.entries} records, {self.body_bytes} bytes>"


NOTHING_STORED = DiskIndex(-1)
"""Stands for the index of each shard that has no record on disk: without a disk, of all of them."""
