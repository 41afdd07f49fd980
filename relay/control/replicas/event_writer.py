"""Write Events to the control planes of their objects, within the budget of status writes.

An Event is core/v1, in its object's namespace, named after its object, series and writer. What
happens again is counted by the same Event while this relay leads; another leader writes its own, so
that no right to read Events is needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from relay.config.exporter.load_result import ObjectKey
from relay.control.cluster.cluster_source import StatusTarget
from relay.control.kubernetes.errors import (
    AbsentError,
    KubernetesError,
    WriteConflictError,
)
from relay.control.kubernetes.objects import ApiResource
from relay.control.kubernetes.status_body import written_time
from relay.control.replicas.event_schedule import (
    DueEvent,
    EventSchedule,
    EventScheduleStatistics,
    ToldEvents,
)
from relay.control.replicas.transitions import Happening
from relay.runtime.excerpt import clipped

EVENTS: Final = ApiResource("", "v1", "events", "Event")
COMPONENT: Final = "telemetry-relay"
MERGE: Final = "application/merge-patch+json"
MESSAGE_CHARS_MAX: Final = 1000
"""Longest message; the newer Events API allows 1,024 bytes."""
_NAME_CHARS_MAX = 230
_IDLE_S = 3600.0


@dataclass(frozen=True, slots=True)
class InvolvedObject:
    """The object of an Event; its uid is in the Event's series."""

    api_version: str
    kind: str
    namespace: str
    name: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class EventStatistics:
    """Events written and failed writes since the start, and the last failure's reason or ""."""

    schedule: EventScheduleStatistics
    written: int
    failed: int
    last_error: str


class EventWriter:
    """Writes Events while :meth:`run` runs. Lives on the event loop.

    ``find`` returns an object by key and uid, None if it is gone; ``spend`` takes room of the
    budget (:meth:`~relay.control.kubernetes.status_schedule.StatusSchedule.spend`). ``relay`` names
    this relay in the Events, ``mark`` this life of its process. ``clock`` is monotonic, ``wall``
    the wall clock; s.
    """

    def __init__(
        self,
        find: Callable[[ObjectKey, str], StatusTarget | None],
        spend: Callable[[float], float],
        *,
        relay: str,
        mark: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._schedule = EventSchedule()
        self._find = find
        self._spend = spend
        self._relay = relay
        self._mark = mark
        self._told = ToldEvents()
        self._clock = clock
        self._wall = wall
        self._woken = asyncio.Event()
        self._written = self._failed = 0
        self._last_error = ""

    def add(self, key: ObjectKey, uid: str, what: Happening) -> None:
        """Note something to be told as an Event."""
        self._schedule.add(key, uid, what, now=self._clock(), at=self._wall())
        self._woken.set()

    def statistics(self) -> EventStatistics:
        """Return a snapshot."""
        return EventStatistics(
            self._schedule.statistics(), self._written, self._failed, self._last_error
        )

    async def run(self) -> None:
        """Write what is due, one at a time, until cancelled; then forget what waits."""
        try:
            while True:
                await self._write(await self._next())
        finally:
            self._schedule.give_up_all()

    async def _next(self) -> DueEvent:
        while True:
            self._woken.clear()
            now = self._clock()
            at = self._schedule.next_at()
            wait_s = _IDLE_S if at is None else at - now
            if wait_s <= 0:
                wait_s = self._spend(now)
                event = self._schedule.take(now) if not wait_s else None
                if event is not None:
                    return event
            try:
                async with asyncio.timeout(max(wait_s, 0.001)):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _write(self, event: DueEvent) -> None:
        found = self._find(event.series.key, event.series.uid)
        if found is None or found.object.uid != event.series.uid:
            return  # the object is gone, or another one has its name
        try:
            await self._put(found, event)
        except KubernetesError as error:
            self._failed += 1
            name = "/".join(filter(None, found.object.key))
            self._last_error = f"{name}: {error}"
            retry_after_s = error.retry_after_s or 0.0
            self._schedule.failed(event, self._clock(), retry_after_s=retry_after_s)
        else:
            self._written += 1

    async def _put(self, found: StatusTarget, event: DueEvent) -> None:
        """Create the Event, or count on in the one that is there."""
        is_told = event.series in self._told
        event = self._told.counted(event)
        target, resource = found.object, found.resource
        about = InvolvedObject(
            resource.api_version,
            resource.kind,
            target.namespace,
            target.name,
            target.resource_version,
        )
        document = event_document(about, event, relay=self._relay, mark=self._mark)
        namespace, name = document["metadata"]["namespace"], document["metadata"]["name"]
        news = {word: document[word] for word in ("count", "lastTimestamp", "message")}
        try:
            if is_told:
                await self._patch(found, namespace, name, news)
            else:
                await self._create(found, namespace, document)
        except WriteConflictError:  # an answer got lost, or the series was forgotten
            await self._patch(found, namespace, name, news)
        except AbsentError:  # Events are kept for an hour
            await self._create(found, namespace, document)
        self._told.note(event)

    async def _create(self, found: StatusTarget, namespace: str, document: object) -> None:
        await found.client.request("POST", EVENTS.path(namespace), document=document)

    async def _patch(self, found: StatusTarget, namespace: str, name: str, news: object) -> None:
        path = EVENTS.path(namespace, name)
        await found.client.request("PATCH", path, document=news, content_type=MERGE)

    def __repr__(self) -> str:
        return f"<EventWriter {self._written} written, {self._failed} failed>"


def event_document(
    about: InvolvedObject, event: DueEvent, *, relay: str, mark: str
) -> dict[str, Any]:
    """Return an Event as core/v1 has it.

    ``relay`` names its writer, ``mark`` that life of the writer's process: each has Events of its
    own.
    """
    series = event.series
    words = f"{series.uid}\n{series.sink}\n{series.type}\n{series.reason}\n{mark}"
    digest = hashlib.blake2b(words.encode(), digest_size=8).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{about.name[:_NAME_CHARS_MAX].rstrip('-.')}.{digest}",
            "namespace": about.namespace or "default",
        },
        "involvedObject": {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
            "uid": series.uid,
            "resourceVersion": about.resource_version,
        },
        "type": series.type,
        "reason": series.reason,
        "message": clipped(event.message, MESSAGE_CHARS_MAX),
        "source": {"component": COMPONENT, "host": relay},
        "reportingComponent": COMPONENT,
        "reportingInstance": relay,
        "firstTimestamp": written_time(event.first_at),
        "lastTimestamp": written_time(event.last_at),
        "count": event.count,
    }
