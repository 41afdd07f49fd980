"""The API's objects: an index in memory over the database, with versions and events.

Rules:

* Readers see what is durable, nothing else. A write is answered when it is durable.
* Writes of one object happen one after the other; those of several share a transaction.
* There is one counter of versions; events of a kind have rising ones.
* A write that fails leaves nothing behind; its version is never given again.
* An object, and all of a project, have a size that users cannot exceed; what the relay writes
  itself, in the background, is not refused.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import too_large, too_many_requests
from relay.apiserver.objects.masking import masked
from relay.apiserver.store.commit_writer import CommitStatistics, CommitWriter
from relay.apiserver.store.database import Change, ObjectDatabase, ObjectKeyInStore
from relay.apiserver.store.event_ring import (
    ANY_PROJECT,
    EventRing,
    EventRings,
    StoredObject,
    StoreEvent,
)
from relay.runtime.turn_queue import TurnQueue

_encoder: Final = msgspec.json.Encoder(order="sorted")
SECRETS: Final = "secrets"
OBJECT_BYTES_MAX: Final = 3 * 1024 * 1024
"""One object as JSON: the largest body, and its managedFields."""
PROJECT_BYTES_MAX: Final = 256 * 1024 * 1024
"""All objects of a project: they are kept in memory."""

Decide = Callable[[StoredObject | None], JsonObject | None]
"""Returns the new object, None for its deletion; an error it raises ends the write."""


class _Unchanged(Exception):  # noqa: N818 - a signal of a decision, not an error
    """A decision leaves the object as it is."""


@dataclass(frozen=True, slots=True)
class ObjectsStatistics:
    """Objects by kind, the visible version, and the writer's figures."""

    objects: dict[str, int]
    version: int
    commits: CommitStatistics


@dataclass(slots=True)
class _Partition:
    """Objects of one kind in one project, in the order of namespace and name."""

    objects: dict[tuple[str, str], StoredObject]
    order: list[tuple[str, str]]


class ServedObjects:
    """Reads and writes objects; everything but :meth:`load` runs on the event loop.

    ``turns`` are those of everything that the API does.
    """

    def __init__(
        self, database: ObjectDatabase, *, project_bytes_max: int = PROJECT_BYTES_MAX
    ) -> None:
        self._database = database
        self._project_bytes_max = project_bytes_max
        self._bytes: dict[str, int] = {}
        """Bytes of objects by project."""
        self.turns: Final = TurnQueue()
        self._partitions: dict[tuple[str, str], _Partition] = {}
        self._projects: dict[str, set[str]] = {}
        self._rings: dict[str, EventRings] = {}
        self._busy: dict[ObjectKeyInStore, asyncio.Future[None]] = {}
        self._writer = CommitWriter(database, self._committed)
        self.unreachable: frozenset[ObjectKeyInStore] = frozenset()
        """Objects that are stored, but not served with this setting of tenancy."""
        self._given = 0
        self._visible = 0
        self._began = 0

    def __repr__(self) -> str:
        return f"<ServedObjects at version {self._visible}>"

    def statistics(self) -> ObjectsStatistics:
        """Return a snapshot."""
        counts: dict[str, int] = {}
        for (kind, _), one in self._partitions.items():
            counts[kind] = counts.get(kind, 0) + len(one.order)
        return ObjectsStatistics(counts, self._visible, self._writer.statistics())

    def load(self, *, tenancy: bool | None = None) -> None:
        """Read every object of the open database; raise StoreUnusableError. Blocks.

        Objects of projects count with tenancy alone, others without alone, all with None: what
        the setting does not reach stays in the database, and in :attr:`unreachable`.
        """
        keys: dict[tuple[str, str], list[tuple[str, str]]] = {}
        unreachable: list[ObjectKeyInStore] = []
        for key, version, raw in self._database.read():
            if tenancy is not None and bool(key.project) != tenancy:
                unreachable.append(key)
                continue
            partition = self._partition(key.kind, key.project)
            place = (key.namespace, key.name)
            partition.objects[place] = _stored(key, version, raw)
            self._bytes[key.project] = self._bytes.get(key.project, 0) + len(raw)
            keys.setdefault((key.kind, key.project), []).append(place)
        for where, places in keys.items():
            self._partitions[where].order = sorted(places)
        self._given = self._visible = self._began = self._database.version()
        self.unreachable = frozenset(unreachable)

    def start(self) -> None:
        """Start writing; called on the event loop."""
        self._writer.start()

    async def stop(self) -> None:
        """Write what waits."""
        await self._writer.stop()

    @property
    def identity(self) -> int:
        """Number of the database; another one has another number."""
        return self._database.identity

    @property
    def version(self) -> int:
        """Version of what readers see."""
        return self._visible

    def _partition(self, kind: str, project: str) -> _Partition:
        found = self._partitions.get((kind, project))
        if found is None:
            found = self._partitions[kind, project] = _Partition({}, [])
            self._projects.setdefault(kind, set()).add(project)
        return found

    def get(self, key: ObjectKeyInStore) -> StoredObject | None:
        """Return an object, None if there is none."""
        found = self._partitions.get((key.kind, key.project))
        return None if found is None else found.objects.get((key.namespace, key.name))

    def count(self, kind: str, project: str) -> int:
        """Return how many objects of a kind a project has."""
        found = self._partitions.get((kind, project))
        return 0 if found is None else len(found.order)

    def projects(self, kind: str) -> list[str]:
        """Return the projects that have, or had, an object of a kind."""
        return sorted(self._projects.get(kind, ()))

    def listed(
        self, kind: str, project: str, namespace: str = "", after: tuple[str, str] = ("", "")
    ) -> Iterator[StoredObject]:
        """Yield objects after a place, in order; of one namespace, or of all for "".

        The caller must not await while it iterates.
        """
        partition = self._partitions.get((kind, project))
        if partition is None:
            return
        order = partition.order
        start = bisect_right(order, after)
        stop = len(order)
        if namespace:
            start = max(start, bisect_left(order, (namespace, "")))
            stop = bisect_left(order, (f"{namespace}\0", ""))
        for place in order[start:stop]:
            yield partition.objects[place]

    def ring(self, kind: str, project: str = ANY_PROJECT) -> EventRing:
        """Return the events of a kind in a project, or in all."""
        return self._events(kind).of(project)

    def _events(self, kind: str) -> EventRings:
        found = self._rings.get(kind)
        if found is None:
            found = self._rings[kind] = EventRings(self._began)
        return found

    async def write(
        self, key: ObjectKeyInStore, decide: Decide, *, in_background: bool = False
    ) -> StoredObject | None:
        """Write one object; return it when it is durable, or its last state if it is deleted.

        ``decide`` gets the stored object, returns the new one, and may raise; it may raise
        :meth:`unchanged` to leave the object as it is. What is written ``in_background`` waits for
        others, to share a transaction. Raise StoreUnusableError for a failed write.
        """
        await self.turns.turn(key.project, in_background=in_background)
        while key in self._busy:
            if not in_background:
                self._writer.write_now()
            await asyncio.shield(self._busy[key])
            await self.turns.turn(key.project, in_background=in_background)
        live = self.get(key)
        try:
            value = decide(live)
        except _Unchanged:
            return live
        self._given += 1
        version = self._given
        raw = None
        if value is None:
            assert live is not None, "what is deleted exists"
            made = _versioned(key, live.value(), version)
        else:
            made = _versioned(key, value, version)
            raw = made.raw
            if not in_background:
                self._check_room(key.project, len(raw), 0 if live is None else len(live.raw))
        done = self._writer.submit(Change(key, version, raw), can_wait=in_background)
        free = self._busy[key] = asyncio.get_running_loop().create_future()
        # The next write waits for this one, even if the request of this one is gone.
        done.add_done_callback(lambda _done: self._release(key, free))
        await asyncio.shield(done)
        # Those of one transaction are answered one after the other.
        await self.turns.turn(key.project, in_background=in_background)
        return made

    def _check_room(self, project: str, size: int, before: int) -> None:
        """Raise ApiRefusalError for an object that has grown beyond a limit."""
        if size <= before:
            return
        if size > OBJECT_BYTES_MAX:
            raise too_large(
                f"the object has {size} bytes with its managedFields: limit is {OBJECT_BYTES_MAX}"
            )
        if self._bytes.get(project, 0) + size - before > self._project_bytes_max:
            most = self._project_bytes_max
            raise too_many_requests(f"the objects of the project have {most} bytes already", 60)

    @staticmethod
    def unchanged() -> Exception:
        """Return the exception by which a decision leaves an object as it is."""
        return _Unchanged()

    def _release(self, key: ObjectKeyInStore, free: asyncio.Future[None]) -> None:
        del self._busy[key]
        free.set_result(None)

    def _committed(self, changes: Sequence[Change]) -> None:
        """Show changes to readers and watches."""
        for change in changes:
            key = change.key
            partition = self._partition(key.kind, key.project)
            place = (key.namespace, key.name)
            before = partition.objects.get(place)
            after: StoredObject | None = None
            if change.value is not None:
                after = _stored(key, change.version, change.value)
                partition.objects[place] = after
                if before is None:
                    insort(partition.order, place)
            elif before is not None:
                del partition.objects[place]
                del partition.order[bisect_left(partition.order, place)]
            grown = (len(after.raw) if after else 0) - (len(before.raw) if before else 0)
            self._bytes[key.project] = self._bytes.get(key.project, 0) + grown
            self._visible = change.version
            last = after
            if last is None:
                if before is None:
                    continue
                last = _versioned(key, before.value(), change.version)
            self._events(key.kind).append(StoreEvent(change.version, before, after, last))


def _versioned(key: ObjectKeyInStore, value: JsonObject, version: int) -> StoredObject:
    metadata = {**value["metadata"], "resourceVersion": str(version)}
    return _stored(key, version, _encoder.encode({**value, "metadata": metadata}))


class _Labelled(msgspec.Struct):
    labels: dict[str, str] = {}


class _WithLabels(msgspec.Struct):
    metadata: _Labelled


_labels: Final = msgspec.json.Decoder(_WithLabels)


def _stored(key: ObjectKeyInStore, version: int, raw: bytes) -> StoredObject:
    shown = raw
    if key.kind == SECRETS:
        shown = _encoder.encode(masked(msgspec.json.decode(raw)))
    labels = _labels.decode(raw).metadata.labels
    return StoredObject(key.project, key.namespace, key.name, version, raw, shown, labels)
