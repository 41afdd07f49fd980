"""Forget Events: those written over an hour ago, and the oldest of a project that has too many.

Warnings go last: a thousand Exporters that are applied at once must not hide why one is refused.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Final

from relay.apiserver.http.changes import Changer
from relay.apiserver.http.reads import Clock
from relay.apiserver.http.request_target import ResourceTarget
from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.objects.kinds import stored_kind
from relay.apiserver.store.errors import StoreUnusableError
from relay.apiserver.store.served_objects import ServedObjects
from relay.control.kubernetes.status_body import read_time
from relay.runtime.event_loop import give_way

_log: Final = logging.getLogger("relay.api")
EVENT_AGE_MAX_S: Final = 3600.0
EVENTS_PER_PROJECT_MAX: Final = 1000
SWEEP_S: Final = 30.0
_EVENTS: Final = "events"
_SLICE: Final = 100
DELETED_AT_ONCE: Final = 50
"""Events that are deleted at once: they share transactions."""


def last_seen(event: dict[str, Any]) -> float:
    """Return when an Event was last seen, Unix time; 0 for one that does not say."""
    text = (
        event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
    )
    return read_time(text) or 0.0


def last_written(event: dict[str, Any]) -> float:
    """Return when an Event was last written, Unix time.

    The time that Kubernetes counts its hour from, whatever its sender says that it saw when.
    """
    metadata = event["metadata"]
    times = [metadata.get("creationTimestamp")]
    times += [one.get("time") for one in metadata.get("managedFields") or ()]
    return max(read_time(text) or 0.0 for text in times)


class EventSweeper:
    """Deletes Events that nobody needs any more; ``clock`` is Unix time."""

    def __init__(self, objects: ServedObjects, changer: Changer, clock: Clock) -> None:
        self._objects = objects
        self._changer = changer
        self._clock = clock

    def __repr__(self) -> str:
        return f"<EventSweeper of {self._objects!r}>"

    async def run(self) -> None:
        """Sweep again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except StoreUnusableError as error:
                _log.warning("old Events cannot be deleted: %s", error)

    async def sweep(self) -> int:
        """Delete what is too old or too much; return how many."""
        deleted = 0
        for project in self._objects.projects(_EVENTS):
            found = await self._superfluous(project)
            for start in range(0, len(found), DELETED_AT_ONCE):
                part = found[start : start + DELETED_AT_ONCE]
                deleted += sum(await asyncio.gather(*(self._delete(one, project) for one in part)))
        return deleted

    async def _delete(self, target: ResourceTarget, project: str) -> bool:
        """Delete an Event; return False if somebody else was faster."""
        try:
            await self._changer.delete(target, project, {}, dry_run=False, in_background=True)
        except ApiRefusalError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return False
        return True

    async def _superfluous(self, project: str) -> list[ResourceTarget]:
        kind = stored_kind(_EVENTS)
        seen: list[tuple[bool, float, float, ResourceTarget]] = []
        listed = list(self._objects.listed(_EVENTS, project))
        for index in range(0, len(listed), _SLICE):
            for one in listed[index : index + _SLICE]:
                value = one.value()
                target = ResourceTarget(kind, one.namespace, one.name)
                is_warning = value.get("type") == "Warning"
                seen.append((is_warning, last_seen(value), last_written(value), target))
            await give_way()
        seen.sort(key=lambda item: item[:2])
        most = max(len(seen) - EVENTS_PER_PROJECT_MAX, 0)
        oldest = self._clock() - EVENT_AGE_MAX_S
        return [t for place, (_, _, at, t) in enumerate(seen) if at < oldest or place < most]
