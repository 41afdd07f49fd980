"""Give the API's objects the statuses that the relay judges.

* Conditions are stored when they change, by the field manager that writes them to Kubernetes, so
  that watches see them. After a restart they go on from what is stored.
* What happens between two conditions is told by Events.
* Usage, counters and times are added when an object is read, and never change a version.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final, Protocol

import msgspec

from relay.apiserver.http.changes import Changer, file_of
from relay.apiserver.http.request_target import ResourceTarget
from relay.apiserver.lasting_failure import LastingFailure
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.object_events import ObjectEvents
from relay.apiserver.objects.failures import ApiRefusalError
from relay.apiserver.objects.kinds import ResourceKind, served_kinds
from relay.apiserver.objects.object_bytes import metadata_of, overlaid, status_of
from relay.apiserver.objects.writes import WriteOptions
from relay.apiserver.store.database import ObjectKeyInStore
from relay.apiserver.store.errors import StoreUnusableError
from relay.apiserver.store.event_ring import StoredObject
from relay.apiserver.store.served_objects import ServedObjects
from relay.config.exporter.load_result import ObjectKey
from relay.config.exporter.types import ResourceKind as ObjectKind
from relay.control.kubernetes.status_body import (
    FIELD_MANAGER,
    condition_document,
    figures_document,
    own_part,
)
from relay.control.replicas.transitions import happenings
from relay.control.replicas.written_status import read_object_status
from relay.control.status.conditions import StatusCondition
from relay.control.status.judged import JudgedObjects
from relay.control.status.object_status import ObjectStatus
from relay.runtime.event_loop import WorkSlice

_log: Final = logging.getLogger("relay.api")
WRITTEN_AT_ONCE: Final = 50
"""Statuses that are written at once: they share transactions."""
RETRY_S: Final = 5.0
"""Pause after a status that could not be stored, as the disk is full; s."""
_KINDS: Final = tuple(kind for kind in served_kinds() if kind.is_custom)
_OPTIONS: Final = WriteOptions(FIELD_MANAGER, force=True)
_CONDITIONS: Final = "conditions"
SHOWN_BYTES_MAX: Final = 64 * 1024 * 1024
"""Most bytes of statuses that are kept as they were shown: of some 20,000 objects."""
_encoder: Final = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True)
class _Shown:
    """The status of a version of an object, which stays as it is as long as the mark does."""

    one: StoredObject
    mark: object
    status: bytes


class JudgedStatuses(JudgedObjects, Protocol):
    """Judged objects that tell when a status stays as it is."""

    def settled(self, key: ObjectKey) -> object | None:
        """Return a mark that stays as long as the status does, None if it may change any time."""


class ObjectStatuses:
    """The statuses of the objects that are served. Lives on the event loop.

    ``changer`` returns what writes, once the API runs. ``clock`` is monotonic, s.
    """

    def __init__(
        self,
        objects: ServedObjects,
        changer: Callable[[], Changer],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._failure = LastingFailure(_log, "statuses", clock)
        self._changer = changer
        self._board: JudgedStatuses | None = None
        self._events = ObjectEvents(changer, self._find)
        self._told: dict[ObjectKey, tuple[str, ObjectStatus]] = {}
        """Uid and status up to which Events were noted."""
        self._dirty: dict[ObjectKey, None] = {}
        self._woken = asyncio.Event()
        self._pace = WorkSlice()
        self._shown: dict[ObjectKey, _Shown] = {}
        self._shown_bytes = 0

    async def follow(self, board: JudgedStatuses) -> None:
        """Go on from the stored conditions, and note what changes from now on."""
        self._board = board
        pace = WorkSlice()
        for key in [*board.objects()]:
            if pace.is_over:
                await pace.rest()  # requests are answered already
            if key.source == "kubernetes":
                continue
            result, found = board.result(key), self._find(key)
            if result is None or found is None:
                continue
            stored = msgspec.json.encode(status_of(found[1].raw))
            status = read_object_status(own_part(stored))
            if status.conditions:
                sinks = {sink.name: sink.conditions for sink in status.sinks}
                board.seed(key, result.uid, status.conditions, sinks)
                metadata = msgspec.json.decode(metadata_of(found[1].raw))
                self._told[key] = str(metadata.get("uid", "")), status
        board.subscribe(self._changed)
        await board.look()
        self._changed(list(board.objects()))

    def computed(self, kind: ResourceKind, one: StoredObject) -> bytes | None:
        """Return an object's status with what is as of now (JSON), None for one without any."""
        if self._board is None or not kind.is_custom:
            return None
        key = _key_of(kind, one)
        mark = self._board.settled(key)
        if mark is not None:
            shown = self._shown.get(key)
            if shown is not None and shown.one is one and shown.mark is mark:
                return shown.status
        result, status = self._board.result(key), self._board.status(key)
        if result is None or status is None or not _is_same(result.uid, one):
            return None
        made = _encoder.encode(overlaid(status_of(one.shown), figures_document(status)))
        if mark is not None:
            self._remember(key, _Shown(one, mark, made))
        return made

    def _remember(self, key: ObjectKey, shown: _Shown) -> None:
        before = self._shown.pop(key, None)
        self._shown_bytes += len(shown.status) - (len(before.status) if before else 0)
        self._shown[key] = shown
        while self._shown_bytes > SHOWN_BYTES_MAX:
            oldest = self._shown.pop(next(iter(self._shown)))
            self._shown_bytes -= len(oldest.status)

    def files_stored(self) -> None:
        """Store the conditions of the objects of files, which may have been stored anew."""
        if self._board is not None:
            self._changed([key for key in self._board.objects() if key.source == "files"])

    async def run(self) -> None:
        """Store the conditions that have changed, and write Events, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._events.run(), name="write events")
            group.create_task(self._store(), name="store statuses")

    async def _store(self) -> None:
        """Store what has changed, some at once; after a failure try again, with a pause."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            due, self._dirty = deque(self._dirty), {}
            failed: list[ObjectKey] = []
            await asyncio.gather(*(self._store_some(due, failed) for _ in range(WRITTEN_AT_ONCE)))
            if failed:
                self._changed([*failed, *due])
                await asyncio.sleep(RETRY_S)

    async def _store_some(self, due: deque[ObjectKey], failed: list[ObjectKey]) -> None:
        """Store statuses, one after the other, until none is due or one has failed."""
        while due and not failed:
            if self._pace.is_over:  # many need no write, which would be a turn of their own
                await self._objects.turns.turn(in_background=True)
                self._pace.begin()
                if not due:
                    return
            key = due.popleft()
            try:
                await self._write(key)
            except StoreUnusableError as error:
                self._failure.failed(error)
                failed.append(key)
            except ApiRefusalError as error:
                if error.code == HTTPStatus.CONFLICT:  # stored anew meanwhile: look again
                    self._changed([key])
                elif error.code != HTTPStatus.NOT_FOUND:
                    _log.error("a status is refused: %s", error, extra={"object": key.id})
            except Exception:
                extra = {"object": key.id}
                _log.exception("bug in the relay: a status was not stored", extra=extra)

    def _changed(self, keys: Sequence[ObjectKey]) -> None:
        self._dirty.update((key, None) for key in keys if key.source != "kubernetes")
        self._woken.set()

    def _find(self, key: ObjectKey) -> tuple[ResourceKind, StoredObject] | None:
        """Return the stored object of a key, which is served from the key's source."""
        for kind in _KINDS:
            if kind.kind != key.kind or (key.group and kind.group != key.group):
                continue
            place = ObjectKeyInStore(kind.storage_key, key.project, key.namespace, key.name)
            found = self._objects.get(place)
            if found is not None and bool(file_of(found)) == (key.source == "files"):
                return kind, found
        return None

    async def _write(self, key: ObjectKey) -> None:
        """Store the conditions of an object; one that is gone, or stored anew, is left alone."""
        assert self._board is not None, "nothing is due before"
        result, status, found = self._board.result(key), self._board.status(key), self._find(key)
        if found is None:
            self._forget(key)
        if result is None or status is None or found is None:
            return
        kind, one = found
        metadata = msgspec.json.decode(metadata_of(one.raw))
        generation = metadata.get("generation", 0)
        if key.source == "files":
            # A file's object has no generation of its own; that of the stored one is judged.
            status = _of_generation(status, generation)
        elif metadata.get("uid") != result.uid or not _is_of(status, generation):
            return  # the version that is stored is judged soon
        written = _stored_part(status)
        if not _has(status_of(one.raw), written):
            await self._apply(kind, one, metadata, written)
            self._failure.succeeded()
        self._tell(key, metadata["uid"], status)

    async def _apply(
        self, kind: ResourceKind, one: StoredObject, metadata: JsonObject, status: JsonObject
    ) -> None:
        """Store a status, unless the object has another version by then."""
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {
                "name": one.name,
                "namespace": one.namespace,
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "status": status,
        }
        target = ResourceTarget(kind, one.namespace, one.name, "status")
        await self._changer().apply(
            target, one.project, body, _OPTIONS, dry_run=False, in_background=True
        )

    def _forget(self, key: ObjectKey) -> None:
        self._told.pop(key, None)
        shown = self._shown.pop(key, None)
        self._shown_bytes -= len(shown.status) if shown is not None else 0

    def _tell(self, key: ObjectKey, uid: str, status: ObjectStatus) -> None:
        """Note Events of what has happened to an object since the last call."""
        known, before = self._told.get(key, ("", None))
        for what in happenings(before if known == uid else None, status):
            self._events.add(key, uid, what)
        self._told[key] = uid, status

    def __repr__(self) -> str:
        return f"<ObjectStatuses: {len(self._dirty)} due>"


def _key_of(kind: ResourceKind, one: StoredObject) -> ObjectKey:
    name: ObjectKind = "Exporter" if kind.kind == "Exporter" else "ExportPolicy"
    if file_of(one):
        return ObjectKey("files", "", name, one.project, one.namespace, one.name)
    group = "" if name == "Exporter" else kind.group
    return ObjectKey("api", "", name, one.project, one.namespace, one.name, group)


def _is_same(uid: str, one: StoredObject) -> bool:
    """Return False if what was judged is an earlier object of the same name."""
    return uid.encode() in one.raw or bool(file_of(one))


def _stored_part(status: ObjectStatus) -> JsonObject:
    """Return the conditions of a status and its sinks."""
    document: JsonObject = {_CONDITIONS: [condition_document(one) for one in status.conditions]}
    if status.sinks:
        document["sinks"] = [
            {"name": sink.name, _CONDITIONS: [condition_document(one) for one in sink.conditions]}
            for sink in status.sinks
        ]
    return document


def _is_of(status: ObjectStatus, generation: int) -> bool:
    """Return True if a generation was judged, and no earlier one."""
    return all(one.observed_generation == generation for one in status.conditions)


def _has(stored: JsonObject, written: JsonObject) -> bool:
    """Return True if a stored status has the conditions that are to be written, and no others."""
    sinks = {one.get("name"): _by_type(one) for one in stored.get("sinks", ())}
    wanted = {one["name"]: _by_type(one) for one in written.get("sinks", ())}
    return sinks == wanted and _by_type(stored) == _by_type(written)


def _by_type(section: JsonObject) -> JsonObject:
    return {one["type"]: one for one in section.get(_CONDITIONS, ())}


def _of_generation(status: ObjectStatus, generation: int) -> ObjectStatus:
    """Return a status whose conditions are of this generation."""

    def of(conditions: Sequence[StatusCondition]) -> tuple[StatusCondition, ...]:
        return tuple(replace(one, observed_generation=generation) for one in conditions)

    sinks = tuple(replace(one, conditions=of(one.conditions)) for one in status.sinks)
    return replace(status, conditions=of(status.conditions), sinks=sinks)
