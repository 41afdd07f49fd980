"""Decide which status is written when. Pure: time is an argument (monotonic, s).

Rules:

* A changed condition is written as soon as there is room, the oldest change first, before anything
  else. A changed message waits until :data:`MESSAGE_INTERVAL_S` after the object's last write,
  counters alone until :data:`COUNTERS_INTERVAL_S` after it; both ride along with any write. The
  first counters after a changed condition wait like a message, as those written with it are of its
  first seconds.
* All writes together are at least ``1 / writes_per_s`` apart.
* A status that is as it was written is not written, whatever it was in between.
* A failed write is tried again after a pause that doubles; others go on meanwhile.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from relay.control.kubernetes.status_body import StatusParts
from relay.sink.retry.backoff import doubled_s

MESSAGE_INTERVAL_S: Final = 60.0
COUNTERS_INTERVAL_S: Final = 600.0
RETRY_S: Final = 1.0
RETRY_S_MAX: Final = 60.0
_CONDITIONS, _MESSAGES, _COUNTERS = range(3)

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class ScheduleStatistics:
    """Objects that are known, and those with a changed condition that is not written yet.

    ``oldest_s`` is since when the oldest of these waits, None if there is none.
    """

    objects: int
    waiting: int
    oldest_s: float | None


class _Entry:
    """One object: the status that is written, the wanted one, and when it is due."""

    __slots__ = (
        "failures",
        "in_flight",
        "is_new",
        "not_before_s",
        "plan",
        "since_s",
        "stamp",
        "wanted",
        "written",
        "written_at_s",
    )

    def __init__(self) -> None:
        self.wanted: StatusParts | None = None
        self.written: StatusParts | None = None
        self.written_at_s = float("-inf")
        self.since_s: float | None = None  # since when a changed condition waits
        self.not_before_s = float("-inf")
        self.failures = 0
        self.in_flight = False
        self.is_new = False  # nothing was written since its conditions
        self.plan: tuple[int, float] | None = None  # rank and time
        self.stamp = 0

    def need(self) -> tuple[int, float] | None:
        """Return rank and time of the next write; None if there is none."""
        wanted, written = self.wanted, self.written
        if self.in_flight or wanted is None or wanted == written:
            return None
        if written is None or wanted.conditions != written.conditions:
            return _CONDITIONS, max(self.since_s or 0.0, self.not_before_s)
        if self.is_new or wanted.messages != written.messages:
            return _MESSAGES, max(self.written_at_s + MESSAGE_INTERVAL_S, self.not_before_s)
        return _COUNTERS, max(self.written_at_s + COUNTERS_INTERVAL_S, self.not_before_s)


class StatusSchedule(Generic[Key]):
    """The statuses of all objects, by key."""

    def __init__(self, writes_per_s: float) -> None:
        assert writes_per_s > 0
        self._spacing_s = 1.0 / writes_per_s
        self._free_at_s = float("-inf")
        self._entries: dict[Key, _Entry] = {}
        self._later: list[tuple[float, int, Key]] = []
        self._due: tuple[list[tuple[float, int, Key]], ...] = ([], [], [])
        self._stamps = itertools.count(1)

    def known(self, key: Key, parts: StatusParts, now: float) -> None:
        """Note the status that the server has already; its age counts from now."""
        entry = self._entries.setdefault(key, _Entry())
        entry.written, entry.written_at_s = parts, now
        self._plan(key, entry, now)

    def offer(self, key: Key, parts: StatusParts, now: float) -> None:
        """Note the status that an object should have."""
        entry = self._entries.setdefault(key, _Entry())
        if parts != entry.wanted:
            entry.wanted = parts
            self._plan(key, entry, now)

    def forget(self, key: Key) -> None:
        """Drop an object that is gone."""
        self._entries.pop(key, None)

    def take(self, now: float) -> Key | None:
        """Return the object to write now, and count it as being written; None: nothing, or later.

        Each one must be followed by :meth:`written`, :meth:`failed` or :meth:`put_off`.
        """
        if now < self._free_at_s:
            return None
        self._move_due(now)
        for ready in self._due:
            while ready:
                _, stamp, key = heapq.heappop(ready)
                entry = self._entries.get(key)
                if entry is None or entry.stamp != stamp:
                    continue
                entry.in_flight, entry.plan = True, None
                self._free_at_s = now + self._spacing_s
                return key
        return None

    def written(self, key: Key, parts: StatusParts, now: float) -> None:
        """Note that this status was written."""
        entry = self._entries.get(key)
        if entry is None:
            return  # it went meanwhile
        entry.in_flight, entry.failures = False, 0
        before = entry.written
        entry.is_new = before is None or before.conditions != parts.conditions
        entry.written, entry.written_at_s = parts, now
        entry.not_before_s = float("-inf")
        entry.since_s = None
        self._plan(key, entry, now)

    def failed(self, key: Key, now: float, *, retry_after_s: float = 0.0) -> None:
        """Note that a write failed."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.failures += 1
        pause_s = doubled_s(RETRY_S, entry.failures, RETRY_S_MAX)
        entry.in_flight = False
        entry.not_before_s = now + max(pause_s, retry_after_s)
        self._plan(key, entry, now)

    def put_off(self, key: Key, until: float, now: float) -> None:
        """Note that a write was not tried, and not to be before a time; its room is free again."""
        self._free_at_s = min(self._free_at_s, now)
        entry = self._entries.get(key)
        if entry is not None:
            entry.in_flight, entry.not_before_s = False, until
            self._plan(key, entry, now)

    def spend(self, now: float) -> float:
        """Take one write's room for something else; return 0.0, or how long to wait for it (s).

        Changed conditions that are due go first.
        """
        self._move_due(now)
        due = self._due[_CONDITIONS]
        self._drop_stale(due)
        if now < self._free_at_s or due:
            return max(self._free_at_s - now, self._spacing_s)
        self._free_at_s = now + self._spacing_s
        return 0.0

    def next_at(self, now: float) -> float | None:
        """Return the time at which :meth:`take` may have something; None: not before a change."""
        self._move_due(now)
        for ready in self._due:
            self._drop_stale(ready)
            if ready:
                return max(self._free_at_s, now)
        self._drop_stale(self._later)
        return max(self._free_at_s, self._later[0][0]) if self._later else None

    def statistics(self) -> ScheduleStatistics:
        """Return a snapshot."""
        since = [one.since_s for one in self._entries.values() if one.since_s is not None]
        return ScheduleStatistics(len(self._entries), len(since), min(since, default=None))

    def _plan(self, key: Key, entry: _Entry, now: float) -> None:
        wanted, written = entry.wanted, entry.written
        differs = wanted is not None and (
            written is None or wanted.conditions != written.conditions
        )
        if not differs:
            entry.since_s = None
        elif entry.since_s is None:
            entry.since_s = now
        plan = entry.need()
        if plan == entry.plan:
            return
        entry.plan = plan
        entry.stamp = next(self._stamps)  # older places in the heaps count no more
        if plan is not None:
            heapq.heappush(self._later, (plan[1], entry.stamp, key))
        if len(self._later) > 2 * len(self._entries) + 100:
            self._later = [one for one in self._later if self._is_current(one)]
            heapq.heapify(self._later)

    def _move_due(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            place = heapq.heappop(self._later)
            if not self._is_current(place):
                continue
            entry = self._entries[place[2]]
            assert entry.plan is not None
            rank = entry.plan[0]
            since_s = entry.since_s if rank == _CONDITIONS else None
            order_s = place[0] if since_s is None else since_s
            heapq.heappush(self._due[rank], (order_s, place[1], place[2]))

    def _drop_stale(self, heap: list[tuple[float, int, Key]]) -> None:
        while heap and not self._is_current(heap[0]):
            heapq.heappop(heap)

    def _is_current(self, place: tuple[float, int, Key]) -> bool:
        entry = self._entries.get(place[2])
        return entry is not None and entry.stamp == place[1]

    def __repr__(self) -> str:
        return f"<StatusSchedule {self.statistics()}>"
