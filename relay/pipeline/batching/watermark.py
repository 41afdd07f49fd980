"""Positions of accepted requests, with reference counts, and the low watermark.

Every accepted request has a *position*, counting up. A batch holds the position of its oldest
point; a request holds its own while it is processed; samples that wait to become a point hold the
oldest of theirs. :attr:`OffsetTracker.low` is the oldest position that is held: everything before
it is delivered, rejected or given up on record. :attr:`OffsetTracker.undelivered` leaves out what
waits.

A point may be made of samples of several requests. While the last of them is needed, so is the
first, or a replay would see a part of it only: see :meth:`OffsetTracker.tie`. A journal may forget
what is before :attr:`OffsetTracker.reach`. The rules are in
:mod:`relay.pipeline.batching.unfinished`.
"""

from __future__ import annotations

from dataclasses import dataclass

TIES_MAX = 10_000
"""Above this the older half is merged into one tie: some position is held for hours."""


@dataclass(frozen=True, slots=True)
class PositionsStatistics:
    """A snapshot of the offset tracker.

    ``next`` is the next position to be given out, ``low`` the oldest one held, ``holds`` the number
    of holds.
    """

    next: int
    low: int
    holds: int


class OffsetTracker:
    """Counts holders by position: a dictionary step per hold, amortised O(1) per position."""

    def __init__(self, *, first: int = 0) -> None:
        self._next = first
        self._low = first
        self._undelivered = first
        self._held: dict[int, int] = {}
        self._waiting: dict[int, int] = {}
        """Holds of samples that wait, which are among ``_held``, too."""
        self._holds = 0
        self._version = 0
        self._ties: dict[int, int] = {}

    def begin(self) -> int:
        """Give out the next position and hold it."""
        position = self._next
        self._next = position + 1
        assert position not in self._held
        self._held[position] = 1
        self._holds += 1
        self._version += 1
        return position

    def advance(self, position: int) -> None:
        """Let the next position given out be this one; those in between stay unused."""
        assert position >= self._next, (position, self._next)
        if self.undelivered == self._next:
            self._undelivered = position
        self._next = position
        self._version += 1
        if not self._held:  # else releasing the oldest hold will step over the gap
            self._low = position

    def hold(self, position: int, times: int = 1) -> None:
        """Hold a position once more, or so many times; it must not be older than :meth:`low`."""
        # A point that waited leaves with a position that may have been finished without it.
        self._undelivered = min(self._undelivered, position)
        self._hold(position, times)

    def hold_waiting(self, position: int, times: int = 1) -> None:
        """Hold a position like :meth:`hold`, for samples that wait to become a point."""
        self._waiting[position] = self._waiting.get(position, 0) + times
        self._hold(position, times)

    def release_waiting(self, position: int) -> None:
        """Give up one hold of :meth:`hold_waiting`."""
        count = self._waiting[position]
        if count > 1:
            self._waiting[position] = count - 1
        else:
            del self._waiting[position]
        self.release(position)

    def _hold(self, position: int, times: int) -> None:
        assert self._low <= position < self._next, (self._low, position, self._next)
        self._held[position] = self._held.get(position, 0) + times
        self._holds += times
        self._version += 1

    def release(self, position: int) -> None:
        """Give up one hold."""
        count = self._held[position]
        self._holds -= 1
        self._version += 1
        if count > 1:
            self._held[position] = count - 1
            return
        del self._held[position]
        if not self._held:
            self._low = self._next
        elif position == self._low:
            while self._low < self._next and self._low not in self._held:
                self._low += 1

    def give_up(self, position: int, *, is_replayed: bool) -> None:
        """Undo :meth:`begin` for a request that has failed or was broken off.

        A replayed one is acknowledged: its position is given out again, so that it does not count
        as finished if the replay ends with it. Others have no part in anything.
        """
        assert position == self._next - 1
        self.release(position)
        if is_replayed:
            assert position not in self._held
            self._next = position
            self._low = min(self._low, position)
            self._undelivered = min(self._undelivered, position)

    def tie(self, first: int, last: int) -> None:
        """Need the request at ``first`` for as long as the one at ``last`` is needed."""
        known = self._ties.get(last)
        if known is None:
            self._ties[last] = first
            if len(self._ties) > TIES_MAX:
                self._drop_ties()
        elif first < known:
            self._ties[last] = first

    def reach_of(self, position: int) -> int:
        """Return where a replay has to begin to read for everything from ``position`` on."""
        firsts = [first for last, first in self._ties.items() if last >= position]
        return min(position, *firsts) if firsts else position

    @property
    def reach(self) -> int:
        """The oldest position that a replay may have to read."""
        return self.reach_of(self._low)

    def _drop_ties(self) -> None:
        """Drop ties that are not needed any more, and merge the older half of too many."""
        low = self._low
        ties = {last: first for last, first in self._ties.items() if last >= low}
        if len(ties) > TIES_MAX // 2:
            older = sorted(ties)[: len(ties) // 2]
            ties[older[-1]] = min(ties[last] for last in older)
            for last in older[:-1]:
                del ties[last]
        self._ties = ties

    @property
    def low(self) -> int:
        """The oldest held position, or the next one to be given out where nothing is held."""
        return self._low

    @property
    def undelivered(self) -> int:
        """Like :attr:`low`, without what samples hold that wait."""
        held, waiting = self._held, self._waiting
        position = self._undelivered
        while position < self._next and held.get(position) == waiting.get(position):
            position += 1
        self._undelivered = position
        return position

    @property
    def following(self) -> int:
        """The next position to be given out."""
        return self._next

    @property
    def version(self) -> int:
        """Version that changes with every hold and release."""
        return self._version

    def statistics(self) -> PositionsStatistics:
        """Return a snapshot."""
        return PositionsStatistics(self._next, self._low, self._holds)

    def __repr__(self) -> str:
        return f"<OffsetTracker {self._low}..{self._next}, {self._holds} holds>"
