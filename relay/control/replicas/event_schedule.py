"""Decide which Events are written when: one Event a series, with a count. Pure.

Rules:

* A series is an object, one of its sinks or none, a type and a reason. What happens again within
  :data:`SERIES_INTERVAL_S` of a write waits, and is counted by the next one, which has the newest
  message.
* At most :data:`PENDING_MAX` series wait: the oldest is given up for a new one, and counted; a
  warning only if nothing else waits.
* A write is tried :data:`ATTEMPTS_MAX` times. An Event is a courtesy.
* Nothing visits all series: a thousand may wait while hundreds are added a second.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from relay.config.exporter.load_result import ObjectKey
from relay.control.replicas.transitions import EventType, Happening

SERIES_INTERVAL_S: Final = 60.0
PENDING_MAX: Final = 1_000
REMEMBERED_MAX: Final = 5_000
ATTEMPTS_MAX: Final = 3
RETRY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class EventSeries:
    """The mark of Events that are written as one; ``uid`` is the object's."""

    key: ObjectKey
    uid: str
    sink: str
    type: EventType
    reason: str


@dataclass(frozen=True, slots=True)
class DueEvent:
    """One Event to write: ``count`` times more than before. Times are wall clock, s.

    ``attempts``: those that have failed.
    """

    series: EventSeries
    message: str
    count: int
    first_at: float
    last_at: float
    attempts: int = 0


class ToldEvents:
    """The Events that were written last, each with its whole count; the oldest are forgotten."""

    def __init__(self) -> None:
        self._events: OrderedDict[EventSeries, DueEvent] = OrderedDict()

    def __contains__(self, series: EventSeries) -> bool:
        return series in self._events

    def counted(self, event: DueEvent) -> DueEvent:
        """Return an Event that goes on counting from the one that was written before."""
        told = self._events.get(event.series)
        if told is None:
            return event
        return replace(event, count=told.count + event.count, first_at=told.first_at)

    def note(self, event: DueEvent) -> None:
        """Note that an Event was written, with its whole count."""
        self._events[event.series] = event
        self._events.move_to_end(event.series)
        while len(self._events) > REMEMBERED_MAX:
            self._events.popitem(last=False)

    def __repr__(self) -> str:
        return f"<ToldEvents of {len(self._events)} series>"


@dataclass(frozen=True, slots=True)
class EventScheduleStatistics:
    """Series that wait, and happenings that were given up since the start."""

    waiting: int
    given_up: int


class _Waiting:
    """One series with something to tell; ``place`` is its present one in the heap, 0 for none."""

    __slots__ = ("attempts", "count", "first_at", "last_at", "message", "place", "series")

    def __init__(self, series: EventSeries, at: float) -> None:
        self.series = series
        self.message = ""
        self.count = self.attempts = self.place = 0
        self.first_at = self.last_at = at


class EventSchedule:
    """The Events of all objects. ``now`` is monotonic, ``at`` the wall clock; s."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[EventSeries, _Waiting] = OrderedDict()
        self._normal: OrderedDict[EventSeries, None] = OrderedDict()
        """Those that wait and are no warnings."""
        self._by_time: list[tuple[float, int, _Waiting]] = []
        """A heap; a place that is not its series' present one counts no more."""
        self._places = itertools.count(1)
        self._written_at_s: OrderedDict[EventSeries, float] = OrderedDict()
        self._given_up = 0

    def add(self, key: ObjectKey, uid: str, what: Happening, *, now: float, at: float) -> None:
        """Note something that has happened."""
        series = EventSeries(key, uid, what.sink, what.type, what.reason)
        waiting = self._waiting.get(series)
        if waiting is None:
            if len(self._waiting) >= PENDING_MAX:
                if series.type == "Normal" and not self._normal:
                    self._given_up += 1
                    return
                oldest = self._remove(next(iter(self._normal or self._waiting)))
                self._given_up += oldest.count
                oldest.place = 0
            written_at_s = self._written_at_s.get(series)
            waiting = self._add(series, at)
            self._plan(waiting, now if written_at_s is None else written_at_s + SERIES_INTERVAL_S)
        waiting.message, waiting.last_at = what.message, at
        waiting.count += 1

    def _add(self, series: EventSeries, at: float) -> _Waiting:
        waiting = self._waiting[series] = _Waiting(series, at)
        if series.type == "Normal":
            self._normal[series] = None
        return waiting

    def _remove(self, series: EventSeries) -> _Waiting:
        self._normal.pop(series, None)
        return self._waiting.pop(series)

    def take(self, now: float) -> DueEvent | None:
        """Return the Event that has been due for longest; None: none is.

        What happens meanwhile is counted by another one.
        """
        due_at = self.next_at()
        if due_at is None or due_at > now:
            return None
        one = heapq.heappop(self._by_time)[2]
        series, one.place = one.series, 0
        self._remove(series)
        self._written_at_s[series] = now
        self._written_at_s.move_to_end(series)
        while len(self._written_at_s) > REMEMBERED_MAX:
            self._written_at_s.popitem(last=False)
        return DueEvent(series, one.message, one.count, one.first_at, one.last_at, one.attempts)

    def failed(self, event: DueEvent, now: float, *, retry_after_s: float = 0.0) -> None:
        """Note that a write failed."""
        attempts = event.attempts + 1
        newer = self._waiting.get(event.series)
        if newer is None and (attempts >= ATTEMPTS_MAX or len(self._waiting) >= PENDING_MAX):
            self._given_up += event.count
            return
        if newer is None:
            newer = self._add(event.series, event.last_at)
            newer.message = event.message
        newer.attempts = attempts
        newer.count += event.count
        newer.first_at = event.first_at
        self._plan(newer, now + max(RETRY_S, retry_after_s))

    def give_up_all(self) -> None:
        """Forget what waits: another relay leads now."""
        self._waiting.clear()
        self._normal.clear()
        self._by_time.clear()

    def next_at(self) -> float | None:
        """Return the time (monotonic, s) at which :meth:`take` has something; None: unknown."""
        heap = self._by_time
        while heap and heap[0][1] != heap[0][2].place:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _plan(self, one: _Waiting, not_before_s: float) -> None:
        one.place = next(self._places)
        heapq.heappush(self._by_time, (not_before_s, one.place, one))
        if len(self._by_time) > 2 * PENDING_MAX:
            self._by_time = [each for each in self._by_time if each[1] == each[2].place]
            heapq.heapify(self._by_time)

    def statistics(self) -> EventScheduleStatistics:
        """Return a snapshot."""
        return EventScheduleStatistics(len(self._waiting), self._given_up)

    def __repr__(self) -> str:
        return f"<EventSchedule {self.statistics()}>"
