"""Watch one control plane: its Exporters, ExportPolicies, Namespaces, and the Secrets they need.

Rules:

* Nothing that happens to one control plane concerns another; a bug costs a pause and a log line.
* At most :data:`~relay.control.kubernetes.client.CONNECTIONS_MAX` connections: the first two kinds
  that the server has keep one each; the other watches and all requests share the rest.
* What is known stays known while the server cannot be reached, or says that a kind does not exist:
  only an object's own removal removes it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from relay.control.cluster.plane_secrets import PlaneSecrets, PlaneSecretsStatistics
from relay.control.cluster.resources import (
    EXPORTING,
    NAMESPACES,
    SECRET_VERSIONS,
    SECRETS,
)
from relay.control.kubernetes.cache_file import ObjectCache
from relay.control.kubernetes.client import (
    ApiClient,
    ClientStatistics,
    ClientTimings,
    WatchTarget,
)
from relay.control.kubernetes.errors import AbsentError, KubernetesError, RequestRefusedError
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.objects import ApiObject, ApiResource, ObjectKey
from relay.control.kubernetes.reflector import Reflector, ReflectorLimits, ReflectorStatistics
from relay.control.kubernetes.slots import Use
from relay.sink.http.tls import TlsContexts

_log = logging.getLogger("relay.control.cluster")

RESTART_S: Final = 5.0
"""Pause after a bug; s."""
SILENCE_S: Final = 5.0
"""Time without an answer, from which on there is said to be none; s."""
MAIN_WATCHES: Final = 2
HEALTH_S: Final = 5.0
"""Time between two looks at whether the control plane is reached; s."""


@dataclass(frozen=True, slots=True)
class PlaneOptions:
    """Options that all control planes have in common.

    ``namespaces`` are those whose objects are wanted, all if empty. ``cache`` is the directory of
    the last known objects, None for none. ``turn_s``: least time for which one of the watches
    that share a connection keeps it, s.
    """

    namespaces: tuple[str, ...] = ()
    namespace_label: str = ""
    """Label of a Namespace that tells the project of its objects, "" if nothing has to."""
    cache: Path | None = None
    turn_s: float = 0.5
    limits: ReflectorLimits = field(default_factory=lambda: ReflectorLimits(grace_s=2.0))
    timings: ClientTimings | None = None

    @property
    def namespace(self) -> str:
        """The namespace to ask for: the only one, or "" for all."""
        return self.namespaces[0] if len(self.namespaces) == 1 else ""


@dataclass(frozen=True, slots=True)
class ControlPlaneStatistics:
    """State of one control plane; ``kinds`` are by ``plural`` or ``plural.group``.

    ``now`` is the monotonic time of the snapshot, s.
    """

    name: str
    now: float
    kinds: Mapping[str, ReflectorStatistics]
    client: ClientStatistics
    secrets: PlaneSecretsStatistics
    bugs: int


@dataclass(slots=True)
class _Kind:
    """The objects of one kind, and the state of their watch."""

    resource: ApiResource
    reflector: Reflector | None = None
    objects: dict[ObjectKey, ApiObject] = field(default_factory=dict)
    pending: dict[ObjectKey, ApiObject | None] = field(default_factory=dict)
    """Changes that were not taken yet; None: gone."""
    is_ready: bool = False
    """True once its objects are known, or the server has said that the kind does not exist."""
    is_absent: bool = False
    is_refused: bool = False
    """True if the server has said no, and not that it may say yes later."""
    error: str = ""


class ControlPlane:
    """One control plane. Lives on the event loop; :meth:`run` does the work.

    ``name`` is "" for the only one; ``project`` is that of all its objects, "" where their
    Namespaces tell it or without tenancy. ``on_change`` is called after each change.
    """

    def __init__(
        self,
        name: str,
        project: str,
        access: ClusterAccess,
        *,
        options: PlaneOptions,
        contexts: TlsContexts,
        on_change: Callable[[], None] = lambda: None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.project = project
        self.bugs = 0
        self.revision = 0
        """Incremented when an object changes, its status alone excepted."""
        self._options = options
        self._on_change = on_change
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._clock = clock
        self._kinds = {one: _Kind(one) for one in (*EXPORTING, NAMESPACES, SECRET_VERSIONS)}
        self._replaced = asyncio.Event()
        self._is_well = True
        self._began_at = clock()
        self.client = ApiClient(
            access, contexts=contexts, timings=options.timings, rng=self._rng, clock=clock
        )
        self.client.slots.turn_s = options.turn_s
        self.secrets = PlaneSecrets(
            namespace=options.namespace,
            cache=self._cache_of(SECRETS, access),
            on_change=on_change,
            clock=clock,
        )

    @property
    def access(self) -> ClusterAccess:
        """Address and credentials in use."""
        return self.client.access

    @property
    def is_ready(self) -> bool:
        """True once its objects are known, from the server or from the cache."""
        return not self._is_nowhere and all(self._kinds[one].is_ready for one in _NEEDED)

    @property
    def is_tried(self) -> bool:
        """True if waiting helps no more for now: all is known, or the server refuses the rest."""
        return all(
            one.is_ready or one.is_refused
            for one in self._kinds.values()
            if one.resource in _NEEDED
        )

    def is_synced(self, resource: ApiResource) -> bool:
        """Return whether the objects of a kind are those of the server, as its watch tells."""
        kind = self._kinds[resource]
        is_watched = kind.reflector is not None and kind.reflector.freshness == "synced"
        return is_watched or (kind.is_absent and not self._is_nowhere)

    @property
    def _is_nowhere(self) -> bool:
        """True if the server has none of the kinds, not even Namespaces: the path is wrong."""
        return all(self._kinds[one].is_absent for one in _NEEDED)

    @property
    def trouble(self) -> str:
        """Reason for which its objects are not known yet; "" if they are, or may come any time."""
        if self.is_ready:
            return ""
        if self._is_nowhere:
            return f"there is no such API at {self.access.server}: is the path right?"
        errors = (one.error for one in self._kinds.values() if not one.is_ready and one.error)
        late = self._clock() - self._began_at >= SILENCE_S
        return next(errors, "there was no answer" if late else "")

    def objects(self, resource: ApiResource) -> Mapping[ObjectKey, ApiObject]:
        """Return the objects of a kind, as last given; not to be changed."""
        return self._kinds[resource].objects

    def latest(self, resource: ApiResource, key: ObjectKey) -> ApiObject | None:
        """Return an object as last seen, with its status; None if it is not there."""
        kind = self._kinds[resource]
        if kind.reflector is not None:
            found = kind.reflector.store.objects.get(key)
            if found is not None:
                return found
        return kind.objects.get(key)

    def take(self) -> dict[ApiResource, dict[ObjectKey, ApiObject | None]]:
        """Return the objects that changed since the last call, by kind; None: gone."""
        taken: dict[ApiResource, dict[ObjectKey, ApiObject | None]] = {}
        for resource, kind in self._kinds.items():
            if kind.pending:
                taken[resource], kind.pending = kind.pending, {}
        return taken

    def replace_access(self, access: ClusterAccess) -> None:
        """Go on with another address or other credentials; what is known stays."""
        self.client.replace_access(access)
        self._replaced.set()

    def statistics(self) -> ControlPlaneStatistics:
        """Return a snapshot."""
        return ControlPlaneStatistics(
            self.name,
            self._clock(),
            {
                name_of(resource): kind.reflector.statistics()
                for resource, kind in self._kinds.items()
                if kind.reflector is not None
            },
            self.client.statistics(),
            self.secrets.statistics(),
            self.bugs,
        )

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._replaced.clear()
            try:
                await self._watch()
            except Exception:
                self.bugs += 1
                _log.exception("bug in the relay: control plane is watched anew", extra=self._as())
                await asyncio.sleep(RESTART_S)
            finally:
                await self.client.close()

    async def _watch(self) -> None:
        """Watch until another access takes the place of the present one."""
        await self.secrets.restore()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._follow(kind), name=f"follow {name_of(resource)}")
                for resource, kind in self._kinds.items()
            ]
            tasks.append(group.create_task(self.secrets.run(self.client), name="secrets"))
            tasks.append(group.create_task(self._look_after(), name="health"))
            await self._replaced.wait()
            for task in tasks:
                task.cancel()

    async def _follow(self, kind: _Kind) -> None:
        resource = kind.resource
        reflector = Reflector(
            self.client,
            self._target(kind),
            cache=None if resource is SECRET_VERSIONS else self._cache_of(resource, self.access),
            limits=self._options.limits,
            rng=self._rng,
            clock=self._clock,
            on_failure=partial(self._note_failure, kind),
        )
        kind.reflector = reflector
        async with asyncio.TaskGroup() as group:
            group.create_task(reflector.run(), name=f"reflect {name_of(resource)}")
            await reflector.ready()
            self._begin(kind, reflector)
            async with aclosing(reflector.changes()) as slices:
                async for changes in slices:
                    if resource is SECRET_VERSIONS:
                        self.secrets.observe(changes)
                    else:
                        for change in changes:
                            one = change.after or change.before
                            assert one is not None, "a change has one of the two"
                            self._put(kind, one.key, change.after)
                        self._on_change()
                    await asyncio.sleep(0)  # the next slice may be there already

    def _begin(self, kind: _Kind, reflector: Reflector) -> None:
        """Note that the objects are known; drop those that another access does not have."""
        for key in [key for key in kind.objects if key not in reflector.store.objects]:
            self._put(kind, key, None)
        # All at once: a first state that lacks some would stop their exporters.
        for key, one in reflector.store.objects.items():
            if kind.resource is not SECRET_VERSIONS:
                self._put(kind, key, one)
        kind.is_ready = True
        self._note_success(kind)

    def _note_success(self, kind: _Kind) -> None:
        """Note that the server gives the objects, perhaps again."""
        kind.is_absent, kind.is_refused, kind.error = False, False, ""
        if kind.resource is SECRET_VERSIONS:
            self.secrets.poll(polling=False)
        self._balance()
        self._on_change()

    def _put(self, kind: _Kind, key: ObjectKey, after: ApiObject | None) -> None:
        before = kind.objects.get(key)
        if after is None:
            kind.objects.pop(key, None)
        else:
            kind.objects[key] = after
        if before is None or after is None or not _is_same(before, after):
            kind.pending[key] = after
            self.revision += 1

    def _note_failure(self, kind: _Kind, error: KubernetesError) -> None:
        kind.error = str(error)
        kind.is_refused = isinstance(error, RequestRefusedError)
        if isinstance(error, AbsentError) and not kind.is_absent:
            kind.is_absent = True
            if not kind.objects:
                kind.is_ready = True
            self._balance()
        elif isinstance(error, RequestRefusedError) and kind.resource is SECRET_VERSIONS:
            self.secrets.poll(polling=True)
        elif isinstance(error, RequestRefusedError) and kind.resource is NAMESPACES:
            # Without the right to read them, only selectors by their labels find nothing.
            kind.is_ready = kind.is_ready or not self._options.namespace_label
        self._on_change()

    def _balance(self) -> None:
        """Give the connections of main watches to the first kinds that the server has."""
        for kind in self._kinds.values():
            if kind.reflector is not None:
                kind.reflector.target = self._target(kind)

    def _target(self, kind: _Kind) -> WatchTarget:
        present = [one.resource for one in self._kinds.values() if not one.is_absent]
        is_main = kind.resource in present[:MAIN_WATCHES]
        resource = kind.resource
        return WatchTarget(
            resource,
            self._options.namespace if resource.namespaced else "",
            metadata_only=resource in (NAMESPACES, SECRET_VERSIONS),
            use=Use.MAIN_WATCH if is_main else Use.SPARE_WATCH,
        )

    async def _look_after(self) -> None:
        """Log when the control plane is lost, and when it is reached again.

        A kind or a right that has come back counts from the next look on.
        """
        while True:
            await asyncio.sleep(HEALTH_S)
            for kind in self._kinds.values():
                synced = kind.reflector is not None and kind.reflector.freshness == "synced"
                if kind.is_ready and kind.error and synced:
                    self._note_success(kind)
            lost = [
                kind
                for kind in self._kinds.values()
                if kind.reflector is not None
                and kind.reflector.freshness != "synced"
                and (self._is_nowhere or not kind.is_absent)
                and kind.error
            ]
            if bool(lost) is self._is_well:
                self._is_well = not lost
                if lost:
                    extra = {**self._as(), "resource": name_of(lost[0].resource)}
                    why = self.trouble or lost[0].error
                    _log.warning("control plane is lost: %s", why, extra=extra)
                else:
                    _log.info("control plane is watched again", extra=self._as())

    def _cache_of(self, resource: ApiResource, access: ClusterAccess) -> ObjectCache | None:
        if self._options.cache is None:
            return None
        namespace = self._options.namespace if resource.namespaced else ""
        path = self._options.cache / directory_of(self.name) / name_of(resource)
        return ObjectCache(path, resource, server=access.server, namespace=namespace)

    def _as(self) -> dict[str, object]:
        return {"plane": self.name, "server": self.access.server}

    def __repr__(self) -> str:
        return f"<ControlPlane {self.name or 'cluster'} at {self.access.server}>"


_NEEDED: Final = frozenset((*EXPORTING, NAMESPACES))
"""Kinds without which nothing may be concluded from the others."""


def directory_of(plane: str) -> str:
    """Return the name of the directory with the last known objects of a control plane."""
    return plane or "cluster"


def name_of(resource: ApiResource) -> str:
    """Return ``plural``, or ``plural.group``, as kubectl says it."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _is_same(before: ApiObject, after: ApiObject) -> bool:
    return before.uid == after.uid and before.content == after.content
