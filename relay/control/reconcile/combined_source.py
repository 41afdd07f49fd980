"""Make one desired state of several sources: files, Kubernetes, the API, in this order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from relay.config.exporter.load_result import SOURCE_ORDER, LoadResult, SourceName
from relay.config.exporter.loading.combine import Combiner, OriginResources
from relay.config.exporter.secrets import SecretStore
from relay.config.inventory_manifests import InventoryLoad
from relay.control.reconcile.desired_state import DesiredState, Namespace
from relay.control.reconcile.resource_source import ResourceSource, SourceResources
from relay.runtime.event_loop import run_in_thread
from relay.selector.inventory.store import ManifestIndex
from relay.sink.spill.owner import Owner


class CombinedSource:
    """A source of desired states. ``combiner`` checks the resources of all against each other.

    ``lock`` is held while they are, and by a source whose own work touches them. Only the sources
    that are ``watched`` give changes; all, if None.
    """

    def __init__(
        self,
        sources: Sequence[ResourceSource],
        combiner: Combiner,
        lock: asyncio.Lock,
        *,
        watched: frozenset[SourceName] | None = None,
    ) -> None:
        self._sources = tuple(sorted(sources, key=lambda one: SOURCE_ORDER.index(one.name)))
        self._combiner = combiner
        self._watched = watched
        self._lock = lock
        self._news = asyncio.Event()
        self._rotated: frozenset[Namespace] | None = frozenset()
        self._parts: dict[SourceName, SourceResources] = {}
        self._origins: tuple[tuple[OriginResources, ...], ...] = ()
        """Those of ``_loaded``, by source."""
        self._faults: object = None
        self._loaded = LoadResult((), (), SecretStore())
        self._inventory = InventoryLoad()
        self._version = 0

    async def load(self) -> DesiredState:
        """Read all sources as they are now, and return the state."""
        for source in self._sources:
            self._note(source.name, await source.read())
        async with self._lock:
            return await self._state(reread=True)

    def is_deleted(self, owner: Owner) -> bool:
        """Ask the source whose control plane had the object."""
        name = owner.control_plane.partition(" ")[0]
        return any(one.name == name and one.is_deleted(owner) for one in self._sources)

    def origins_of(self, name: SourceName) -> tuple[OriginResources, ...]:
        """Return what a source gave last: the same object while no resource has changed."""
        part = self._parts.get(name)
        return () if part is None else part.origins

    async def changes(self) -> AsyncGenerator[DesiredState, None]:
        """Yield the state after each change of a source, without end."""
        watches = [
            asyncio.create_task(self._follow(source), name=f"watch {source.name}")
            for source in self._sources
            if self._watched is None or source.name in self._watched
        ]
        try:
            while True:
                await self._next(watches)
                async with self._lock:
                    state = await self._state()
                yield state
        finally:
            for one in watches:
                one.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _follow(self, source: ResourceSource) -> None:
        async with aclosing(source.changes()) as parts:
            async for part in parts:
                self._note(source.name, part)

    def _note(self, name: SourceName, part: SourceResources) -> None:
        """Keep what a source has, unless something newer is known."""
        known = self._parts.get(name)
        if known is not None and part.version <= known.version:
            return
        self._parts[name] = part
        self._renew(part.rotated)

    def _renew(self, rotated: frozenset[Namespace] | None) -> None:
        """Note that a state is to be made, and the Secrets that it has to renew."""
        if rotated is None or self._rotated is None:
            self._rotated = None
        else:
            self._rotated |= rotated
        self._news.set()

    async def _next(self, watches: Sequence[asyncio.Task[None]]) -> None:
        """Wait until a source has something new; raise the failure of one whose watch has ended."""
        waiting = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait((waiting, *watches), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        for one in watches:
            if one.done():
                one.result()  # raises what ended it
                raise AssertionError(f"{one.get_name()}: changes have no end")

    async def _state(self, *, reread: bool = False) -> DesiredState:
        """Combine what all sources have; ``reread``: all Secrets are read again anyway.

        Where that fails, the next change is there at once.
        """
        self._news.clear()
        rotated, self._rotated = self._rotated, frozenset()
        try:
            await self._combine()
        except BaseException:
            self._renew(rotated)
            raise
        self._version += 1
        renewed = frozenset[Namespace]() if reread else rotated
        return DesiredState(self._version, self._loaded, self._inventory, renewed)

    async def _combine(self) -> None:
        """Set what is loaded, and the inventory."""
        parts = [self._parts[one.name] for one in self._sources if one.name in self._parts]
        origins = tuple(part.origins for part in parts)
        faults = tuple(fault for part in parts for fault in part.faults)
        is_same = len(origins) == len(self._origins) and all(
            one is other for one, other in zip(origins, self._origins, strict=True)
        )
        if not is_same or faults != self._faults:
            flat = [one for part in origins for one in part]
            self._loaded = await run_in_thread(lambda: self._combiner.combine(flat, faults))
            self._origins, self._faults = origins, faults
        await self._combine_inventories([part.inventory for part in parts])

    async def _combine_inventories(self, loads: Sequence[InventoryLoad]) -> None:
        """Set the inventory: the same object as long as no part of it has changed."""
        if len(loads) == 1:
            self._inventory = loads[0]
            return
        assert len(loads) <= 2, "files and Kubernetes have objects of the inventory"
        token = tuple(one.index.token for one in loads)
        faults = tuple(fault for one in loads for fault in one.faults)
        if token == self._inventory.index.token and faults == self._inventory.faults:
            return
        index, base = self._inventory.index, self._inventory.index

        def layered() -> ManifestIndex:
            return loads[0].index.over(loads[1].index, base=base)

        if token != index.token:
            index = await run_in_thread(layered)
        objects = tuple(one for load in loads for one in load.objects)
        self._inventory = InventoryLoad(objects, faults, index)

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self._sources)
        return f"<CombinedSource of {names}, version {self._version}>"
