"""Write Events about the API's objects, one a series with a count, as on Kubernetes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Callable
from itertools import islice
from typing import Final

import msgspec

from relay.apiserver.http.changes import Changer, file_of
from relay.apiserver.http.request_target import ResourceTarget
from relay.apiserver.lasting_failure import LastingFailure
from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.objects.kinds import ResourceKind, stored_kind
from relay.apiserver.objects.object_bytes import metadata_of
from relay.apiserver.objects.writes import WriteOptions
from relay.apiserver.store.errors import StoreUnusableError
from relay.apiserver.store.event_ring import StoredObject
from relay.config.exporter.load_result import ObjectKey
from relay.control.kubernetes.status_body import FIELD_MANAGER
from relay.control.replicas.event_schedule import DueEvent, EventSchedule, ToldEvents
from relay.control.replicas.event_writer import InvolvedObject, event_document
from relay.control.replicas.transitions import Happening

_log: Final = logging.getLogger("relay.api")
_EVENT: Final = stored_kind("events")
_OPTIONS: Final = WriteOptions(FIELD_MANAGER, force=True)
_IDLE_S: Final = 3600.0
WRITTEN_AT_ONCE: Final = 50
"""Events that are written at once: they share transactions."""
WRITTEN_PER_S_MAX: Final = 50.0
"""Most Events a second: an Event costs a millisecond of CPU, as an Exporter does."""

Found = tuple[ResourceKind, StoredObject]


class ObjectEvents:
    """Writes Events while :meth:`run` runs. Lives on the event loop.

    ``find`` returns a stored object by its key, None if it is gone. ``clock`` is monotonic,
    ``wall`` the wall clock; s.
    """

    def __init__(
        self,
        changer: Callable[[], Changer],
        find: Callable[[ObjectKey], Found | None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._changer = changer
        self._find = find
        self._clock = clock
        self._wall = wall
        self._failure = LastingFailure(_log, "Events", clock)
        self._schedule = EventSchedule()
        self._host = socket.gethostname()
        self._mark = secrets.token_hex(8)
        """Of this life of the process: a later one counts in Events of its own."""
        self._told = ToldEvents()
        self._woken = asyncio.Event()

    def add(self, key: ObjectKey, uid: str, what: Happening) -> None:
        """Note something to be told; ``uid`` is that of the stored object."""
        self._schedule.add(key, uid, what, now=self._clock(), at=self._wall())
        self._woken.set()

    async def run(self) -> None:
        """Write what is due, some at once, until cancelled. A bug costs one Event."""
        while True:
            self._woken.clear()
            due = list(islice(iter(self._take, None), WRITTEN_AT_ONCE))
            if due:
                await asyncio.gather(*map(self._write, due))
                # An Exporter of a thousand that are applied at once has its Events later, or none.
                await asyncio.sleep(len(due) / WRITTEN_PER_S_MAX)
                continue
            at = self._schedule.next_at()
            wait_s = _IDLE_S if at is None else max(at - self._clock(), 0.001)
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    def _take(self) -> DueEvent | None:
        return self._schedule.take(self._clock())

    async def _write(self, event: DueEvent) -> None:
        try:
            await self._apply(event)
        except StoreUnusableError as error:
            self._failure.failed(error)
            self._schedule.failed(event, self._clock())
        except ApiRefusalError as error:
            # Its namespace is being deleted, or the project has no room for more.
            _log.info("an Event is refused: %s", error)
        except Exception:
            _log.exception("bug in the relay: an Event was not written")

    async def _apply(self, event: DueEvent) -> None:
        series = event.series
        found = self._find(series.key)
        if found is None or _uid_of(found[1]) != series.uid:
            return  # the object is gone, or another one has its name
        kind, one = found
        about = InvolvedObject(
            kind.api_version, kind.kind, one.namespace, one.name, str(one.version)
        )
        whole = self._told.counted(event)
        document = event_document(about, whole, relay=self._host, mark=self._mark)
        metadata = document["metadata"]
        target = ResourceTarget(_EVENT, metadata["namespace"], metadata["name"])
        await self._changer().apply(
            target,
            one.project,
            document,
            _OPTIONS,
            dry_run=False,
            in_background=True,
            of_file=bool(file_of(one)),
        )
        self._failure.succeeded()
        self._told.note(whole)

    def __repr__(self) -> str:
        return f"<ObjectEvents {self._schedule!r}>"


def _uid_of(one: StoredObject) -> str:
    return str(msgspec.json.decode(metadata_of(one.raw)).get("uid", ""))
