"""The last changes of one kind, for watches.

A ring is bounded by events and bytes; the oldest go first. A watch that asks for a version before
the oldest event that is kept must list anew. Each project has a ring of its own, so that changes of
one do not make another's watches and lists begin anew. Together they are bounded, too: beyond that
the oldest events of the largest ring go.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from relay.apiserver.merging.managed_fields import JsonObject

EVENTS_MAX: Final = 4096
EVENTS_BYTES_MAX: Final = 64 * 1024 * 1024
ANY_PROJECT: Final = "*"


class VersionExpiredError(Exception):
    """Events after a version are no longer known."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of an object as JSON with its ``resourceVersion``.

    ``shown`` is what readers may see: Secrets without their values. ``labels`` must not be changed.
    """

    project: str
    namespace: str
    name: str
    version: int
    raw: bytes
    shown: bytes
    labels: Mapping[str, str]

    def value(self) -> JsonObject:
        """Return a new copy of the object, Secrets with their values."""
        value: JsonObject = msgspec.json.decode(self.raw)
        return value

    def shown_value(self) -> JsonObject:
        """Return a new copy of the object as readers may see it."""
        value: JsonObject = msgspec.json.decode(self.shown)
        return value


@dataclass(frozen=True, slots=True)
class StoreEvent:
    """One change: ``before`` is None for a new object, ``after`` None for one that is gone.

    ``last`` is the object as the event shows it: the last state, with the version of the change.
    """

    version: int
    before: StoredObject | None
    after: StoredObject | None
    last: StoredObject


class EventRing:
    """Events of one kind in the order of their versions."""

    def __init__(
        self,
        version: int,
        *,
        events_max: int = EVENTS_MAX,
        bytes_max: int = EVENTS_BYTES_MAX,
    ) -> None:
        self._events: deque[StoreEvent] = deque()
        self._bytes = 0
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._oldest = version
        self._waited: dict[str, asyncio.Event] = {}
        """Events that are set at the next change of a project, "*" for any."""
        self._followers: dict[str, dict[RingFollower, None]] = {}

    def __repr__(self) -> str:
        return f"<EventRing: {len(self._events)} events, {self._bytes} bytes>"

    @property
    def bytes(self) -> int:
        """Bytes of its events."""
        return self._bytes

    def forget_half(self) -> None:
        """Forget the older half of the events."""
        for _ in range((len(self._events) + 1) // 2):
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        gone = self._events.popleft()
        self._bytes -= _size(gone)
        self._oldest = gone.version

    @property
    def oldest(self) -> int:
        """The lowest version after which every event is known."""
        return self._oldest

    def append(self, event: StoreEvent) -> None:
        """Add an event and wake what waits for one."""
        self._events.append(event)
        self._bytes += _size(event)
        while len(self._events) > self._events_max or self._bytes > self._bytes_max:
            self._forget_oldest()
        for project in (event.last.project, ANY_PROJECT):
            waited = self._waited.pop(project, None)
            if waited is not None:
                waited.set()
            for follower in self._followers.get(project, ()):
                follower.notify(event.version)

    def after(self, version: int, limit: int) -> list[StoreEvent]:
        """Return at most ``limit`` events after a version; raise VersionExpiredError."""
        if version < self._oldest:
            raise VersionExpiredError
        if not self._events or self._events[-1].version <= version:
            return []
        versions = _Versions(self._events)
        start = bisect_right(versions, version)
        stop = min(start + limit, len(self._events))
        return [self._events[index] for index in range(start, stop)]

    def changed(self, project: str) -> asyncio.Event:
        """Return the event that is set at the next change in a project; "*" stands for any."""
        return self._waited.setdefault(project, asyncio.Event())

    def follow(self, project: str, follower: RingFollower) -> None:
        """Notify a follower of each change in a project, "*" for any, until :meth:`leave`."""
        self._followers.setdefault(project, {})[follower] = None

    def leave(self, project: str, follower: RingFollower) -> None:
        """Notify a follower no more."""
        followers = self._followers[project]
        del followers[follower]
        if not followers:
            del self._followers[project]


class EventRings:
    """The rings of one kind: one of each project, and "*" of all."""

    def __init__(self, version: int, *, bytes_max: int = EVENTS_BYTES_MAX) -> None:
        self._version = version
        self._bytes_max = bytes_max
        self._bytes = 0
        self._every = EventRing(version, bytes_max=bytes_max)
        self._rings: dict[str, EventRing] = {}

    def __repr__(self) -> str:
        return f"<EventRings of {len(self._rings)} projects, {self._bytes} bytes>"

    def of(self, project: str) -> EventRing:
        """Return the ring of a project, "*" for all."""
        if project == ANY_PROJECT:
            return self._every
        found = self._rings.get(project)
        if found is None:
            found = self._rings[project] = EventRing(self._version)
        return found

    def append(self, event: StoreEvent) -> None:
        """Add an event and wake what waits for one."""
        self._every.append(event)
        own = self.of(event.last.project)
        before = own.bytes
        own.append(event)
        self._bytes += own.bytes - before
        while self._bytes > self._bytes_max:
            largest = max(self._rings.values(), key=lambda ring: ring.bytes)
            before = largest.bytes
            largest.forget_half()
            self._bytes += largest.bytes - before


class RingFollower:
    """Waits for changes of one project; those of others cost it nothing."""

    __slots__ = ("_first", "_woken")

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._first = 0

    def notify(self, version: int) -> None:
        """Note a change."""
        if not self._first:
            self._first = version
            self._woken.set()

    def wake(self) -> None:
        """End a wait although nothing has changed."""
        self._woken.set()

    def begin(self) -> None:
        """Wait for changes from now on."""
        self._first = 0
        self._woken.clear()

    async def wait(self, timeout_s: float) -> int:
        """Return the version of the first change since :meth:`begin`, 0 for none."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            pass
        return self._first


def _size(event: StoreEvent) -> int:
    """Return the bytes that an event keeps: a Secret's values, too, which nobody is shown."""
    last = event.last
    return len(last.raw) + (0 if last.shown is last.raw else len(last.shown))


class _Versions:
    """The versions of events, for bisection."""

    def __init__(self, events: deque[StoreEvent]) -> None:
        self._events = events

    def __len__(self) -> int:
        return len(self._events)

    def __getitem__(self, index: Any) -> int:
        return self._events[index].version
