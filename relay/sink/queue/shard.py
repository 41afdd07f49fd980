"""The undelivered requests of one shard, in memory and on disk, behind one interface. Pure.

The caller puts, peeks, takes and settles requests, wherever they are; only a record on disk has to
be read between :meth:`QueueShard.take` and :meth:`QueueShard.loaded`. Rules:

* Order: the *open* record, those on disk, those being *spilled*, those in memory. Requests leave in
  that order; with ``fresh_first`` those in memory may overtake.
* At most one request is in flight. One from disk, or of a running spill, keeps its record *open*
  until it, or every piece it was cut into, is settled; only then is the record forgotten.
* A spill writes everything that is only in memory, the request in flight included where nothing is
  before it. So whatever is on disk is older than what is only in memory, and a waiting request
  never holds back the position from which a crash replays.
* While a spill runs its requests may be sent and dropped; committing it takes that into account. A
  spill that fails changes nothing.
* Every change is counted in :class:`relay.sink.queue.usage.QueueUsage`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from relay.sink.queue.disk_index import NOTHING_STORED, DiskIndex, Entry, RecordPlace
from relay.sink.queue.payload import STORED, EncodedRequest
from relay.sink.queue.usage import QueueUsage

DISK_TURN = 4
"""In freshFirst mode every 4th request is taken from disk."""

Item = EncodedRequest | Entry
"""Something that waits: a request in memory, or a record on disk."""


@dataclass(slots=True, eq=False)
class _OpenRecord:
    """The record at the head while its request, or the pieces of it, are in flight or ``waiting``.

    ``index`` is its place in the running spill, None where it is on disk; ``left`` counts the parts
    that are not settled.
    """

    index: int | None
    left: int = 1
    whole: bool = True
    waiting: deque[EncodedRequest] = field(default_factory=deque)


class QueueShard:
    """The queue of one shard. ``disk`` is the index of the records of an earlier process."""

    def __init__(self, number: int, usage: QueueUsage, disk: DiskIndex | None = None) -> None:
        self.number = number
        self.disk = disk or NOTHING_STORED
        self.in_flight: EncodedRequest | None = None
        self.attempts: int | None = None
        """Failed requests of the oldest record on disk; None: as many as the record says."""
        self.fresh_first = False
        self._usage = usage
        self._waiting: deque[EncodedRequest] | None = None
        """Made with the first request, dropped with the last: of thousands of sinks most rest."""
        self._spilling: tuple[EncodedRequest, ...] = ()
        self._spilling_next = 0
        """Index of the first that was neither taken nor dropped since the spill began."""
        self._open: _OpenRecord | None = None
        self._loading: Entry | None = None
        self._turn = 0

    @property
    def spilling(self) -> bool:
        """True while a spill runs."""
        return bool(self._spilling)

    @property
    def taken(self) -> Item | None:
        """The item that :meth:`take` returned, until it is settled."""
        return self.in_flight or self._loading

    @property
    def unspilled(self) -> Sequence[EncodedRequest]:
        """Requests that wait in memory and are not being spilled."""
        return () if self._waiting is None else self._waiting

    def put(self, request: EncodedRequest) -> None:
        """Add the newest request."""
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(request)
        self._usage.add(request.points, len(request.body))

    def peek(self) -> Item | None:
        """Return the oldest item that waits."""
        if self._open is not None and self._open.waiting:
            return self._open.waiting[0]
        if self.disk.entries:
            return self.disk.peek()
        if self._spilling_next < len(self._spilling):
            return self._spilling[self._spilling_next]
        return None if self._waiting is None else self._waiting[0]

    def take(self) -> Item | None:
        """Take the next item to send; None if nothing waits.

        A request is in flight from now on; a record is to be read and passed to :meth:`loaded`.
        """
        assert self.in_flight is None, "one at a time"
        assert self._loading is None, "one at a time"
        if self._open is not None:
            self.in_flight = self._open.waiting.popleft()
            return self.in_flight
        if self.fresh_first and self._waiting is not None and self.disk.entries:
            self._turn = (self._turn + 1) % DISK_TURN
            if self._turn:
                self.in_flight = self._pop_waiting()
                return self.in_flight
        if self.disk.entries:
            self._loading = self.disk.open()
            return self._loading
        if self._spilling_next < len(self._spilling):
            self.in_flight = self._spilling[self._spilling_next]
            self._open = _OpenRecord(self._spilling_next)
            self._spilling_next += 1
        elif self._waiting is not None:
            self.in_flight = self._pop_waiting()
        return self.in_flight

    def loaded(self, request: EncodedRequest) -> None:
        """Continue with the record that was taken: its request was read, and is in flight."""
        assert self._loading is not None
        assert request.position == STORED
        self._loading = None
        if self.attempts is not None:
            request.attempts = self.attempts
        self.in_flight = request
        self._open = _OpenRecord(None)
        self._usage.buffer(len(request.body))

    def load_failed(self, *, lost: bool) -> None:
        """Put back the record that was taken and could not be read; forget it if ``lost``."""
        entry = self._loading
        assert entry is not None
        self._loading = None
        if lost:
            self.attempts = None
            self.disk.finish()
            self._usage.forget(entry.points, entry.body_bytes)
        else:
            self.disk.reopen()

    def settle(self, request: EncodedRequest) -> None:
        """Forget the request in flight: it is delivered, refused or given up."""
        assert self.in_flight is request
        self.in_flight = None
        self._usage.remove(request.points, len(request.body))
        if self._open is not None:
            self._settle_part(self._open)

    def give_back(self, request: EncodedRequest) -> None:
        """Put the request in flight back at the head.

        One that is on disk completely leaves memory.
        """
        assert self.in_flight is request
        self.in_flight = None
        if self._open is None:
            self._put_back((request,))
        elif self._open.index is None and self._open.whole:
            self._close_record(request)
            self._usage.buffer(-len(request.body))
        else:
            self._open.waiting.appendleft(request)

    def replace(self, request: EncodedRequest, pieces: Sequence[EncodedRequest]) -> None:
        """Put pieces of the request in flight in its place, at the head.

        Pieces may take slightly more bytes than the whole: the budget is exceeded rather than data
        of the same request dropped, and the next push makes up for it.
        """
        assert self.in_flight is request
        assert sum(piece.points for piece in pieces) == request.points
        self.in_flight = None
        self._usage.remove(request.points, len(request.body))
        for piece in pieces:
            assert piece.shard == self.number
            self._usage.add(piece.points, len(piece.body))
        if self._open is None:
            self._put_back(pieces)
            return
        self._open.whole = False
        self._open.left += len(pieces) - 1
        self._open.waiting.extendleft(reversed(pieces))

    def take_piece(self) -> EncodedRequest:
        """Take the first of the pieces that were put in the place of a request just now."""
        assert self.taken is None, "one at a time"
        piece = self._pop_waiting() if self._open is None else self._open.waiting.popleft()
        self.in_flight = piece
        return piece

    def drop(self) -> Item:
        """Remove and return the oldest item that waits."""
        item = self._remove_head()
        if isinstance(item, EncodedRequest):
            self._usage.remove(item.points, item.body_bytes)
        else:
            self._usage.forget(item.points, item.body_bytes)
        return item

    def drop_unspilled(self) -> EncodedRequest | None:
        """Remove and return the oldest that waits in memory and is not being spilled."""
        if self._waiting is None:
            return None
        request = self._pop_waiting()
        self._usage.remove(request.points, len(request.body))
        return request

    def lose(self, segment: int) -> list[Entry]:
        """Remove and return what waits in a segment whose file is gone."""
        lost = self.disk.lose(segment)
        if lost and self._loading is None and self._open is None:
            self.attempts = None
        for entry in lost:
            self._usage.forget(entry.points, entry.body_bytes)
        return lost

    def detach_disk(self) -> DiskIndex:
        """Remove and return the index of what is on disk, and go on with an empty one.

        Nothing may be in flight or being spilled. Pieces of a record leave memory; the record is
        whole again.
        """
        assert self.taken is None
        assert not self._spilling
        # Counted before an open record is closed: its pieces stand for it until then.
        self._usage.requests -= self.disk.entries
        self._usage.points -= self.disk.points
        self._usage.bytes -= self.disk.body_bytes
        if self._open is not None:
            assert self._open.index is None
            for piece in self._open.waiting:
                self._usage.remove(piece.points, len(piece.body))
            self._open = None
            self.disk.reopen()
        disk, self.disk = self.disk, NOTHING_STORED
        return disk

    def begin_spill(self) -> list[EncodedRequest]:
        """Return everything that is only in memory, oldest first, to be written; [] for nothing.

        End it by :meth:`commit_spill` or :meth:`fail_spill`.
        """
        assert not self._spilling, "one spill at a time"
        self._spilling_next = 0
        self._spilling = tuple(self.unspilled)
        if self.in_flight is not None and self._open is None and not self.disk.entries:
            self._spilling = (self.in_flight, *self._spilling)
            self._open = _OpenRecord(0)
            self._spilling_next = 1
        self._waiting = None
        return list(self._spilling)

    def commit_spill(self, places: Sequence[RecordPlace]) -> list[int]:
        """Continue after a spill was written and synced, each request in its place.

        Returns the ingest positions that need no hold any more.
        """
        assert len(places) == len(self._spilling)
        if places and self.disk is NOTHING_STORED:
            self.disk = DiskIndex(self.number)
        for request, place in zip(self._spilling, places, strict=True):
            self.disk.append(
                place,
                points=request.points,
                body_bytes=len(request.body),
                created_at=request.created_at,
            )
        leaving = list(self._spilling[self._spilling_next :])
        stored = list(leaving)
        record = self._open
        if record is not None and record.index is not None:
            self._skip(record.index)
            self.disk.open()
            self._skip(self._spilling_next - record.index - 1)
            in_flight = [] if self.in_flight is None else [self.in_flight]
            stored = [*record.waiting, *in_flight, *stored]
            record.index = None
            if record.whole and record.waiting:
                leaving = [record.waiting[0], *leaving]
                self._close_record(record.waiting[0])
        else:
            self._skip(self._spilling_next)
        self._end_spill()
        self._usage.buffer(-sum(len(request.body) for request in leaving))
        positions = [request.position for request in stored if request.position != STORED]
        for request in stored:
            request.position = STORED
        return positions

    def fail_spill(self) -> None:
        """Continue after a spill was not written: everything is in memory only, as before."""
        self._put_back(self._spilling[self._spilling_next :])
        record = self._open
        if record is not None and record.index is not None:
            self._put_back(tuple(record.waiting))
            self._open = None
        self._end_spill()

    def in_memory(self) -> Iterator[EncodedRequest]:
        """Iterate over every request whose body is in memory, in flight or not."""
        if self._open is not None:
            yield from self._open.waiting
        if self.in_flight is not None:
            yield self.in_flight
        yield from self._spilling[self._spilling_next :]
        yield from self.unspilled

    def oldest_position(self) -> int | None:
        """Return the oldest ingest position that a request holds because it is not on disk."""
        # Only with fresh_first can the request in flight be newer than those that wait.
        return min((p.position for p in self.in_memory() if p.position != STORED), default=None)

    def _remove_head(self) -> Item:
        if self._open is not None and self._open.waiting:
            request = self._open.waiting.popleft()
            self._settle_part(self._open)
            return request
        if self.disk.entries:
            if self._loading is None:
                self.attempts = None
            return self.disk.drop()
        if self._spilling_next < len(self._spilling):
            self._spilling_next += 1
            return self._spilling[self._spilling_next - 1]
        return self._pop_waiting()

    def _pop_waiting(self) -> EncodedRequest:
        """Take out the oldest that waits in memory; there is one."""
        assert self._waiting is not None
        request = self._waiting.popleft()
        if not self._waiting:
            self._waiting = None
        return request

    def _put_back(self, requests: Sequence[EncodedRequest]) -> None:
        """Let requests wait in memory before all others, in their order."""
        if requests:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.extendleft(reversed(requests))

    def _settle_part(self, record: _OpenRecord) -> None:
        record.left -= 1
        if record.left:
            return
        if record.index is None:
            self.attempts = None
            self.disk.finish()
        self._open = None

    def _close_record(self, request: EncodedRequest) -> None:
        self.attempts = request.attempts
        self.disk.reopen()
        self._open = None

    def _skip(self, count: int) -> None:
        for _ in range(count):
            self.disk.drop()

    def _end_spill(self) -> None:
        self._spilling = ()
        self._spilling_next = 0

    def __repr__(self) -> str:
        return (
            f"<QueueShard {self.number}: {self.disk.entries} on disk, "
            f"{len(self._spilling)} being spilled, {len(self.unspilled)} in memory>"
        )
