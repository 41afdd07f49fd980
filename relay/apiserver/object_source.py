"""The API's objects as a source of resources, beside files and Kubernetes.

Each project is a control plane of its own. One object's change reads that object again and no
other; many at once give one state. A Secret is looked up when an Exporter refers to it. Objects
that are served for files are left out: they have a source already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from relay.apiserver.http.changes import file_of
from relay.apiserver.store.database import ObjectKeyInStore
from relay.apiserver.store.event_ring import ANY_PROJECT, StoredObject, VersionExpiredError
from relay.apiserver.store.served_objects import ServedObjects
from relay.config.exporter.load_result import SourceName
from relay.config.exporter.types import names_of
from relay.config.inventory_manifests import InventoryLoad
from relay.control.cluster.finalizers import FINALIZER, FINALIZER_MANAGER
from relay.control.cluster.plane_objects import PlaneObjects, origins_of, taken_namespaces
from relay.control.cluster.resources import EXPORTING, NAMESPACES, SECRETS
from relay.control.kubernetes.objects import ApiObject, ApiResource, ObjectKey, read_object
from relay.control.reconcile.resource_source import SourceResources
from relay.runtime.event_loop import WorkSlice, run_in_thread, yield_to_loop
from relay.sink.spill.owner import Owner

DEBOUNCE_S: Final = 0.1
"""Time from a change to the state with it, in which others may join it; s."""
PAUSE_SHARE: Final = 10.0
"""Pause after a state, as a multiple of the time that it took, while changes go on.

What follows from a state takes some three times as long as itself: beside 10,000 Exporters, most of
a second. Without a pause a thousand that are applied one by one would keep the relay busy with it.
"""
PAUSE_MAX_S: Final = 2.0
_EVENTS: Final = 1000
_RESOURCES: Final = {
    f"{one.plural}.{one.group}" if one.group else one.plural: one
    for one in (*EXPORTING, NAMESPACES, SECRETS)
}
"""Kinds that make a difference, by their names in the store."""

_FINALIZER_MANAGER: Final = FINALIZER_MANAGER.encode()
_DELETED: Final = b'"deletionTimestamp"'
_FINALIZER: Final = FINALIZER.encode()

_Changed = dict[ApiResource, dict[ObjectKey, StoredObject | None]]
"""Objects that changed by kind and name; None: gone."""
_Found = dict[str, _Changed]
"""Objects that changed, by project."""


class LeavingObject(NamedTuple):
    """A deleted object that the relay's finalizer holds; ``is_held_by_other``: another relay's."""

    key: ObjectKeyInStore
    object: ApiObject
    is_held_by_other: bool


@dataclass(slots=True)
class _ProjectObjects:
    """The objects of one project as they were read last, and the Secrets that were given."""

    objects: PlaneObjects
    secrets: dict[ObjectKey, int] = field(default_factory=dict)
    """Versions of the Secrets that were given; 0 for one that does not exist."""


class ApiResources:
    """Resources of every project of the API. Lives on the event loop."""

    name: Final[SourceName] = "api"

    def __init__(self, objects: ServedObjects, *, debounce_s: float = DEBOUNCE_S) -> None:
        self._objects = objects
        self._debounce_s = debounce_s
        self._projects: dict[str, _ProjectObjects] = {}
        self._positions: dict[str, int] = {}
        """Version up to which each kind was read; a kind that is missing was never read."""
        self._lock = asyncio.Lock()
        self._state = SourceResources(0, ())
        self._given = 0
        self._next_at_s = 0.0
        """Time before which no further state is made; monotonic."""
        self._leaving: dict[ObjectKeyInStore, None] = {}
        """Objects that seemed to be deleted and held by the relay's finalizer."""

    def __repr__(self) -> str:
        return f"<ApiResources: {len(self._projects)} projects, version {self._state.version}>"

    async def read(self) -> SourceResources:
        """Return all objects as they are now."""
        state = await self._update()
        self._given = state.version
        return state

    async def changes(self) -> AsyncGenerator[SourceResources, None]:
        """Yield all objects after each change since the last time, without end."""
        while True:
            waiting = [self._objects.ring(kind).changed(ANY_PROJECT) for kind in _RESOURCES]
            if not self._has_changes():
                await _first(waiting)
            await asyncio.sleep(max(self._debounce_s, self._next_at_s - time.monotonic()))
            began_s = time.monotonic()
            state = await self._update()
            ended_s = time.monotonic()
            self._next_at_s = ended_s + pause_after(ended_s - began_s)
            if state.version > self._given:
                self._given = state.version
                yield state

    def leaving(self) -> list[LeavingObject]:
        """Return the objects that are deleted, and held by the relay's finalizer among others."""
        found: list[LeavingObject] = []
        for key in list(self._leaving):
            stored = self._objects.get(key)
            one = None if stored is None else _object(_RESOURCES[key.kind], stored)
            if stored is not None and one and one.deleting and FINALIZER in one.finalizers:
                found.append(LeavingObject(key, one, _FINALIZER_MANAGER in stored.raw))
            else:
                del self._leaving[key]
        return found

    def is_deleted(self, owner: Owner) -> bool:
        """Return whether an object is no longer there, or only for finalizers."""
        if owner.control_plane != self._control_plane:
            return False  # another database's: it was moved, or lost
        kind, project, *names = names_of(owner.exporter)
        for stored, resource in _RESOURCES.items():
            if resource.kind == kind:
                key = ObjectKeyInStore(stored, project, *names)
                if key in self._objects.unreachable:
                    return False
                found = self._objects.get(key)
                one = None if found is None else _object(resource, found)
                if one is not None and one.uid == owner.uid and not one.deleting:
                    return False
        return True

    @property
    def _control_plane(self) -> str:
        return f"{self.name} {self._objects.identity}"

    def _has_changes(self) -> bool:
        for kind, position in self._positions.items():
            try:
                if self._objects.ring(kind).after(position, 1):
                    return True
            except VersionExpiredError:
                return True
        return not self._positions

    async def _update(self) -> SourceResources:
        async with self._lock:
            found: _Found = {}
            for kind, resource in _RESOURCES.items():
                self._collect(kind, resource, found)
            # Secrets count where they are referred to, and are looked up there.
            secrets = [changes.pop(SECRETS, {}) for changes in found.values()]
            touched = [name for name, changes in found.items() if changes]
            has_changed = await self._apply({name: found[name] for name in touched})
            if any(secrets) or has_changed:
                has_changed |= await self._apply_secrets()
            if has_changed or not self._state.version:
                self._state = await self._next_state()
            return self._state

    def _collect(self, kind: str, resource: ApiResource, found: _Found) -> None:
        """Add what has changed of a kind since it was read last."""
        ring, current = self._objects.ring(kind), self._objects.version
        position = self._positions.get(kind)
        try:
            while position is not None and (events := ring.after(position, _EVENTS)):
                for event in events:
                    self._note_leaving(kind, event.last)
                    _put(found, resource, event.last, gone=event.after is None)
                position = events[-1].version
        except VersionExpiredError:
            position = None
        if position is None:
            self._collect_all(kind, resource, found)
        self._positions[kind] = current

    def _collect_all(self, kind: str, resource: ApiResource, found: _Found) -> None:
        """Add every object of a kind; what is known and not there is gone."""
        for name, project in self._projects.items():
            for key in project.objects.keys_of(resource):
                found.setdefault(name, {}).setdefault(resource, {})[key] = None
        for name in self._objects.projects(kind):
            for one in self._objects.listed(kind, name):
                self._note_leaving(kind, one)
                _put(found, resource, one, gone=False)

    def _note_leaving(self, kind: str, one: StoredObject) -> None:
        if _DELETED in one.raw and _FINALIZER in one.raw:
            self._leaving[ObjectKeyInStore(kind, one.project, one.namespace, one.name)] = None

    async def _apply(self, found: _Found) -> bool:
        for name in found:
            if name not in self._projects:
                made = PlaneObjects("", name, source=self.name, control_plane=self._control_plane)
                self._projects[name] = _ProjectObjects(made)
        if not found:
            return False
        work = [(self._projects[name].objects, changes) for name, changes in found.items()]
        return await run_in_thread(
            lambda: sum(objects.apply(_decoded(changes), {}) for objects, changes in work) > 0
        )

    async def _apply_secrets(self) -> bool:
        """Give every project the Secrets that it refers to, where they are others than before."""
        work = []
        pace = WorkSlice()
        for name, project in self._projects.items():
            secrets: dict[ObjectKey, ApiObject | None] = {}
            wanted = project.objects.references
            for key in wanted:
                if pace.is_over:
                    await pace.rest()
                stored = self._objects.get(ObjectKeyInStore("secrets", name, *key))
                version = 0 if stored is None else stored.version
                if project.secrets.get(key, -1) != version:
                    project.secrets[key] = version
                    secrets[key] = None if stored is None else _object(SECRETS, stored)
            for key in [key for key in project.secrets if key not in wanted]:
                del project.secrets[key]
                secrets[key] = None
            if secrets:
                work.append((project.objects, secrets))
        if not work:
            return False
        return await run_in_thread(
            lambda: sum(objects.apply({}, secrets) for objects, secrets in work) > 0
        )

    async def _next_state(self) -> SourceResources:
        removed, added = taken_namespaces(one.objects for one in self._projects.values())
        inventory = self._state.inventory
        if removed or added:
            index = await run_in_thread(lambda: inventory.index.with_changes(removed, added))
            inventory = InventoryLoad(index=index)
        planes = (one.objects for _, one in sorted(self._projects.items()))
        origins = origins_of(planes, self._state.origins)
        return SourceResources(self._state.version + 1, origins, (), inventory)


def pause_after(took_s: float) -> float:
    """Return the pause after a state that took so long to make, s."""
    return min(took_s * PAUSE_SHARE, PAUSE_MAX_S)


def _object(resource: ApiResource, stored: StoredObject) -> ApiObject:
    made = read_object(stored.raw, resource)
    assert isinstance(made, ApiObject), f"a stored object is whole: {made}"
    return made


def _decoded(changes: _Changed) -> dict[ApiResource, dict[ObjectKey, ApiObject | None]]:
    found: dict[ApiResource, dict[ObjectKey, ApiObject | None]] = {}
    for resource, objects in changes.items():
        found[resource] = {}
        for key, stored in objects.items():
            yield_to_loop()
            found[resource][key] = None if stored is None else _object(resource, stored)
    return found


def _put(found: _Found, resource: ApiResource, one: StoredObject, *, gone: bool) -> None:
    """Add an object; one that is served for a file counts as gone."""
    changes = found.setdefault(one.project, {}).setdefault(resource, {})
    changes[one.namespace, one.name] = None if gone or file_of(one) else one


async def _first(events: list[asyncio.Event]) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
