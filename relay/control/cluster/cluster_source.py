"""Kubernetes as a source of resources: the objects of all control planes, read one by one.

Rules:

* One object's change reads that object again and no other; many at once give one state.
* An Exporter is given together with the Secrets that it refers to, if they answer in time.
* What is known of a control plane stays while it cannot be reached.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Final

from relay.config.exporter.load_result import ObjectKey, SourceName
from relay.config.exporter.loading.combine import of_project
from relay.config.exporter.types import names_of
from relay.config.inventory_manifests import InventoryLoad
from relay.config.settings.kubernetes import KubernetesSettings
from relay.control.cluster.control_plane import ControlPlane
from relay.control.cluster.plane_objects import (
    Changes,
    PlaneObjects,
    origins_of,
    taken_namespaces,
)
from relay.control.cluster.plane_set import PlaneSet
from relay.control.cluster.resources import EXPORTING
from relay.control.kubernetes.client import ApiClient
from relay.control.kubernetes.objects import ApiObject, ApiResource
from relay.control.reconcile.resource_source import SourceResources
from relay.runtime.errors import Fault
from relay.runtime.event_loop import run_in_thread
from relay.selector.inventory.store import ManifestIndex
from relay.sink.spill.owner import Owner

_log = logging.getLogger("relay.control.cluster")

DEBOUNCE_S: Final = 0.1
"""Time from a change to the state with it, in which others may join it; s."""
SECRETS_S: Final = 1.0
"""Longest wait for the answer to a new reference to a Secret; s. Longer for very many."""
SECRETS_PER_S: Final = 500
START_S: Final = 10.0
"""Longest wait for the first answer of all control planes; s."""


@dataclass(frozen=True, slots=True)
class StatusTarget:
    """Place of the status of an object; ``object`` is as last seen, with its status."""

    client: ApiClient
    resource: ApiResource
    object: ApiObject


@dataclass(frozen=True, slots=True)
class SeenObject:
    """One object as its control plane was seen to have it."""

    plane: ControlPlane
    resource: ApiResource
    object: ApiObject


@dataclass(slots=True)
class _Known:
    """The objects of one control plane as they were read last."""

    plane: ControlPlane
    objects: PlaneObjects
    trouble: str = ""
    referred: frozenset[tuple[str, str]] | None = None
    """Secrets that the control plane was told to hold; None: none yet."""


_Work = tuple[_Known, Changes, Mapping[tuple[str, str], ApiObject | None]]
"""A control plane, the objects that changed, and the Secrets that did."""


class ClusterSource:
    """The objects of all control planes. Lives on the event loop, from start to stop."""

    name: Final[SourceName] = "kubernetes"

    def __init__(
        self, settings: KubernetesSettings, planes: PlaneSet, *, debounce_s: float = DEBOUNCE_S
    ) -> None:
        projects = settings.projects
        self._label = projects.namespace_label if projects is not None else ""
        self._namespaces = settings.namespaces
        self._set = planes
        self._debounce_s = debounce_s
        self._known: dict[str, _Known] = {}
        self._lock = asyncio.Lock()
        self._dirty = asyncio.Event()
        self._waited = False
        self._index = ManifestIndex()
        self._state = SourceResources(0, ())
        self._given = 0
        """Version of the state that was given last."""
        planes.on_change = self._dirty.set

    @property
    def planes(self) -> tuple[ControlPlane, ...]:
        """The control planes, by name; each has its ``client``, for Leases among other things."""
        return self._set.planes

    @property
    def unknown(self) -> str:
        """Reason for which the objects of no control plane are known; "" if those of one are."""
        if not self.planes or any(one.is_ready for one in self.planes):
            return ""
        return next((one.trouble for one in self.planes if one.trouble), "there was no answer")

    def target(self, key: ObjectKey, uid: str = "") -> StatusTarget | None:
        """Return the place of the status of an object; None if it is not there (any more).

        ``uid`` tells two policies of one name in different API groups apart.
        """
        plane = self._set.plane(key.plane)
        if plane is None or key.source != "kubernetes":
            return None
        for resource in EXPORTING:
            found = plane.latest(resource, (key.namespace, key.name))
            is_kind = resource.kind == key.kind and key.group in ("", resource.group)
            if found is not None and is_kind and uid in ("", found.uid):
                return StatusTarget(plane.client, resource, found)
        return None

    def is_deleted(self, owner: Owner) -> bool:
        """Return whether an object is no longer there, or only for finalizers."""
        plane = self._set.plane(owner.control_plane.partition(" ")[2])
        kind, _, namespace, name = names_of(owner.exporter)
        if plane is None or (self._namespaces and namespace not in self._namespaces):
            return False  # nobody looks there
        for resource in EXPORTING:
            if resource.kind == kind:
                one = plane.latest(resource, (namespace, name))
                is_there = one is not None and one.uid == owner.uid and not one.deleting
                if is_there or not plane.is_synced(resource):
                    return False
        return True

    @property
    def revision(self) -> tuple[tuple[str, int], ...]:
        """Another value whenever an object has changed, its status alone excepted."""
        return tuple((plane.name, plane.revision) for plane in self.planes)

    def seen(self) -> list[SeenObject]:
        """Return all objects of the wanted namespaces, also those of nobody and deleted ones."""
        wanted = frozenset(self._namespaces)
        return [
            SeenObject(plane, resource, one)
            for plane in self.planes
            for resource in EXPORTING
            for one in plane.objects(resource).values()
            if not wanted or one.namespace in wanted
        ]

    async def start(self) -> None:
        """Begin to watch. Raises ConfigError if the settings' own access is faulty."""
        await self._set.start()

    async def stop(self) -> None:
        """End all watches, and write the caches."""
        await self._set.stop()

    async def read(self) -> SourceResources:
        """Return all objects as they are now; the first time, once they are known.

        That is after the first answers, at the latest after :data:`START_S`: control planes that
        have not answered by then have a fault, and their objects come later.
        """
        if not self._waited:
            self._waited = True
            await self._wait_for_planes()
        state = await self._update(START_S if not self._state.version else SECRETS_S)
        self._given = state.version
        return state

    async def changes(self) -> AsyncGenerator[SourceResources, None]:
        """Yield all objects after each change since the last time, without end."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(self._debounce_s)
            state = await self._update(SECRETS_S)
            if state.version > self._given:
                self._given = state.version
                yield state

    async def _wait_for_planes(self) -> None:
        try:
            async with asyncio.timeout(START_S):
                while not all(one.is_tried for one in self.planes):
                    self._dirty.clear()
                    await self._dirty.wait()
        except TimeoutError:
            return  # the faults of the state say which

    async def _update(self, secrets_s: float) -> SourceResources:
        """Read what has changed, and the Secrets that it refers to; return the present state."""
        async with self._lock:
            self._dirty.clear()
            has_changed = self._follow_planes()
            touched = await self._apply()
            if touched:
                due = max(one.plane.secrets.due for one in touched)
                wait_s = min(START_S, secrets_s + due / SECRETS_PER_S)
                await asyncio.gather(*(one.plane.secrets.settle(wait_s) for one in touched))
                await self._apply()
            faults = self._faults()
            if has_changed or touched or faults != self._state.faults:
                self._state = await self._next_state(faults)
            return self._state

    def _follow_planes(self) -> bool:
        """Add and remove control planes; return whether any has come or gone."""
        present = {plane.name: plane for plane in self.planes}
        gone = [name for name, one in self._known.items() if present.get(name) is not one.plane]
        for name in gone:
            known = self._known.pop(name)
            self._index = self._index.with_changes(known.objects.namespaces, ())
        for name, plane in present.items():
            if name not in self._known:
                objects = PlaneObjects(
                    name,
                    plane.project,
                    namespace_label=self._label,
                    namespaces=self._namespaces,
                )
                self._known[name] = _Known(plane, objects)
        return bool(gone)

    async def _apply(self) -> list[_Known]:
        """Read the objects and Secrets that have changed; return the planes that have any."""
        work: list[_Work] = []
        for known in self._known.values():
            changes, secrets = known.plane.take(), known.plane.secrets
            if changes or secrets.has_changes:
                work.append((known, changes, secrets.take()))
        if not work:
            return []
        touched = await run_in_thread(lambda: [one[0] for one in work if _has_effect(one)])
        for known, taken, _ in work:
            if taken and known.referred is not known.objects.references:
                known.referred = known.objects.references
                known.plane.secrets.refer_to(known.referred)
        return touched

    async def _next_state(self, faults: tuple[Fault, ...]) -> SourceResources:
        removed, added = taken_namespaces(known.objects for known in self._known.values())
        index = self._index
        if removed or added:
            index = await run_in_thread(lambda: self._index.with_changes(removed, added))
        inventory = self._state.inventory
        if index is not inventory.index:
            self._index = index
            inventory = InventoryLoad(index=index)
        planes = (known.objects for _, known in sorted(self._known.items()))
        origins = origins_of(planes, self._state.origins)
        return SourceResources(self._state.version + 1, origins, faults, inventory)

    def _faults(self) -> tuple[Fault, ...]:
        """Return the faults of kubeconfigs, Namespaces, and control planes of unknown content."""
        faults = [*self._set.faults]
        for name, known in sorted(self._known.items()):
            plane, trouble = known.plane, known.plane.trouble
            if trouble:
                # Until it is reached the first reason stays: it is logged and counted once.
                known.trouble = known.trouble or trouble
                origin = f"kubernetes {name}".rstrip()
                message = f"its objects are not known yet: {known.trouble}"
                faults += of_project(plane.project, (Fault("", message, origin),))
            else:
                known.trouble = ""
            faults += known.objects.faults
        return tuple(faults)

    def __repr__(self) -> str:
        return f"<ClusterSource {self._set!r}, version {self._state.version}>"


def _has_effect(work: _Work) -> bool:
    """Apply changes; return whether they make a difference. A bug costs one control plane only."""
    known, changes, secrets = work
    try:
        return known.objects.apply(changes, secrets)
    except Exception:
        known.plane.bugs += 1
        _log.exception("bug in the relay: objects are not read", extra={"plane": known.plane.name})
        return False
