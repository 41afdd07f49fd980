"""One lane's undelivered payloads, in memory and on disk. Pure.

Rules:

* Order: what is *out*, the backlog on disk, what is being *saved*, then what is *fresh*. Everything
  leaves in that order, but for a lane that lets fresh payloads go first.
* At most one payload is in flight. One that came from the backlog or is being saved is *out* until
  it, or every piece it was cut into, is dealt with; only then is its record forgotten.
* A save writes everything that is only in memory, the payload in flight included where nothing
  stands before it. So, whatever a lane has on disk, it has nothing older in memory only, and the
  position from which a crash replays is never held back by a payload that waits.
* While a save runs its payloads can be sent and dropped as before; committing it sorts out what
  became of them. A save that fails leaves everything as if it had not been tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from relay.sink.queue.disk_index import DiskIndex, Entry, Place
from relay.sink.queue.payload import STORED, EncodedRequest

BACKLOG_SHARE = 4
"""Where fresh payloads go first, every so-manieth request is the backlog's all the same."""


@dataclass(slots=True, eq=False)
class _Out:
    """The record at the head while its payload, or its pieces, are under way.

    ``index`` is its place in the save where it is not on disk yet, else None; ``left`` counts the
    parts that are not dealt with, in flight or ``waiting``.
    """

    index: int | None
    left: int = 1
    whole: bool = True
    waiting: deque[EncodedRequest] = field(default_factory=deque)


class QueueShard:
    """See the module's rules."""

    def __init__(self, number: int, backlog: DiskIndex | None = None) -> None:
        self.number = number
        self.backlog = backlog or DiskIndex(number)
        self.flying: EncodedRequest | None = None
        self.attempts: int | None = None
        """Of the backlog's head, where it was tried since it was stored."""
        self._fresh: deque[EncodedRequest] = deque()
        self._saving: list[EncodedRequest] = []
        self._taken = 0
        self._out: _Out | None = None
        self._loading: Entry | None = None
        self._turn = 0

    @property
    def saving(self) -> bool:
        """Whether a save runs."""
        return bool(self._saving)

    @property
    def taken(self) -> EncodedRequest | Entry | None:
        """What :meth:`take` gave out and was not dealt with yet."""
        return self.flying or self._loading

    @property
    def unsaved(self) -> Sequence[EncodedRequest]:
        """What waits in memory and is not being saved."""
        return self._fresh

    def append(self, payload: EncodedRequest) -> None:
        """Add the newest payload."""
        self._fresh.append(payload)

    def peek(self) -> EncodedRequest | Entry | None:
        """The oldest thing that waits."""
        if self._out is not None and self._out.waiting:
            return self._out.waiting[0]
        entry = self.backlog.peek()
        if entry is not None:
            return entry
        if self._taken < len(self._saving):
            return self._saving[self._taken]
        return self._fresh[0] if self._fresh else None

    def drop(self) -> EncodedRequest | Entry:
        """Remove the oldest thing that waits, and return it."""
        if self._out is not None and self._out.waiting:
            payload = self._out.waiting.popleft()
            self._deal_with_part(self._out)
            return payload
        if self.backlog.entries:
            if self._loading is None:
                self.attempts = None
            return self.backlog.drop()
        if self._taken < len(self._saving):
            self._taken += 1
            return self._saving[self._taken - 1]
        return self._fresh.popleft()

    def drop_unsaved(self) -> EncodedRequest | None:
        """Remove the oldest that waits in memory and is not being saved."""
        return self._fresh.popleft() if self._fresh else None

    def take(self, *, fresh_first: bool = False) -> EncodedRequest | Entry | None:
        """Take what is to be sent next: a payload, in flight from now on, or the record that has to
        be :meth:`loaded` first. None where nothing waits."""
        assert self.taken is None, "one at a time"
        if self._out is not None:
            self.flying = self._out.waiting.popleft()
            return self.flying
        if fresh_first and self._fresh and self.backlog.entries:
            self._turn = (self._turn + 1) % BACKLOG_SHARE
            if self._turn:
                self.flying = self._fresh.popleft()
                return self.flying
        if self.backlog.entries:
            self._loading = self.backlog.open()
            return self._loading
        if self._taken < len(self._saving):
            self.flying = self._saving[self._taken]
            self._out = _Out(self._taken)
            self._taken += 1
        elif self._fresh:
            self.flying = self._fresh.popleft()
        return self.flying

    def loaded(self, payload: EncodedRequest) -> None:
        """The record that was taken has been read: its payload is in flight."""
        assert self._loading is not None
        assert payload.position == STORED
        self._loading = None
        if self.attempts is not None:
            payload.attempts = self.attempts
        self.flying = payload
        self._out = _Out(None)

    def not_loaded(self, *, lost: bool) -> None:
        """The record that was taken cannot be read: ever, where it is ``lost``."""
        assert self._loading is not None
        self._loading = None
        if lost:
            self.attempts = None
            self.backlog.finish()
        else:
            self.backlog.reopen()

    def lose(self, number: int) -> list[Entry]:
        """A segment is gone: deal with what waits in it, unread."""
        lost = self.backlog.lose(number)
        if lost and self._loading is None and self._out is None:
            self.attempts = None
        return lost

    def part(self) -> tuple[DiskIndex, list[EncodedRequest]]:
        """Give the backlog away, and go on with an empty one; nothing may be in flight. Returns the
        pieces of a record in memory, too, which the backlog has as a whole again."""
        assert self.taken is None
        assert not self._saving
        pieces: list[EncodedRequest] = []
        if self._out is not None:
            assert self._out.index is None
            pieces = list(self._out.waiting)
            self._out = None
            self.backlog.reopen()
        backlog, self.backlog = self.backlog, DiskIndex(self.number)
        return backlog, pieces

    def give_back(self) -> EncodedRequest | None:
        """Put the payload in flight back at the head.

        Returns it where it goes back to disk, so that nothing of it stays in memory.
        """
        payload = self.flying
        assert payload is not None
        self.flying = None
        out = self._out
        if out is None:
            self._fresh.appendleft(payload)
            return None
        if out.index is None and out.whole:
            self._close_out(payload)
            return payload
        out.waiting.appendleft(payload)
        return None

    def finish(self) -> None:
        """The payload in flight is dealt with."""
        assert self.flying is not None
        self.flying = None
        if self._out is not None:
            self._deal_with_part(self._out)

    def replace(self, pieces: Sequence[EncodedRequest]) -> None:
        """Put pieces of the payload in flight in its place, at the head."""
        assert self.flying is not None
        assert pieces
        self.flying = None
        if self._out is None:
            self._fresh.extendleft(reversed(pieces))
            return
        self._out.whole = False
        self._out.left += len(pieces) - 1
        self._out.waiting.extendleft(reversed(pieces))

    def begin_save(self) -> list[EncodedRequest]:
        """Everything that is only in memory, oldest first, to be written; [] where there is
        nothing."""
        assert not self._saving, "one save at a time"
        self._taken = 0
        if self.flying is not None and self._out is None and not self.backlog.entries:
            self._saving.append(self.flying)
            self._out = _Out(0)
            self._taken = 1
        self._saving += self._fresh
        self._fresh.clear()
        return list(self._saving)

    def commit_save(
        self, places: Sequence[Place]
    ) -> tuple[list[EncodedRequest], list[EncodedRequest]]:
        """The save is safely on disk, each payload in its place.

        Returns the payloads that held a position until now, and those of them that leave memory.
        """
        assert len(places) == len(self._saving)
        for payload, place in zip(self._saving, places, strict=True):
            self.backlog.append(
                place,
                points=payload.points,
                body_bytes=len(payload.body),
                created_at=payload.created_at,
            )
        waiting = self._saving[self._taken :]
        held = list(waiting)
        out = self._out
        if out is not None and out.index is not None:
            self._skip(out.index)
            self.backlog.open()
            self._skip(self._taken - out.index - 1)
            parts = [*out.waiting, *([self.flying] if self.flying is not None else [])]
            held = parts + held
            out.index = None
            if out.whole and out.waiting:
                waiting = [out.waiting[0], *waiting]
                self._close_out(out.waiting[0])
        else:
            self._skip(self._taken)
        self._end_save()
        return held, waiting

    def fail_save(self) -> None:
        """The save was not written: everything is in memory only, as before."""
        self._fresh.extendleft(reversed(self._saving[self._taken :]))
        out = self._out
        if out is not None and out.index is not None:
            self._fresh.extendleft(reversed(out.waiting))
            self._out = None
        self._end_save()

    def in_memory(self) -> Iterator[EncodedRequest]:
        """Every payload whose body is in memory, in flight or not."""
        if self._out is not None:
            yield from self._out.waiting
        if self.flying is not None:
            yield self.flying
        yield from self._saving[self._taken :]
        yield from self._fresh

    def oldest_position(self) -> int | None:
        """The oldest position that a payload holds because it is not on disk; None if none does."""
        # Only with fresh payloads first can one in flight be newer than those that wait.
        return min((p.position for p in self.in_memory() if p.position != STORED), default=None)

    def _deal_with_part(self, out: _Out) -> None:
        out.left -= 1
        if out.left:
            return
        if out.index is None:
            self.attempts = None
            self.backlog.finish()
        self._out = None

    def _close_out(self, payload: EncodedRequest) -> None:
        self.attempts = payload.attempts
        self.backlog.reopen()
        self._out = None

    def _skip(self, count: int) -> None:
        for _ in range(count):
            self.backlog.drop()

    def _end_save(self) -> None:
        self._saving = []
        self._taken = 0

    def __repr__(self) -> str:
        return (
            f"<QueueShard {self.number}: {self.backlog.entries} on disk, "
            f"{len(self._saving)} being saved, {len(self._fresh)} in memory>"
        )
