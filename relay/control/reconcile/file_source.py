"""Read the desired state from the operator's files, and poll them for changes.

Files are read in a thread. They are polled, because that works on every file system: at each
interval, less often if polling takes long, and sooner while files are changing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.manifest_loader import Manifests
from relay.config.exporter.mounted_secrets import MountedSecrets
from relay.config.exporter.secrets import SecretStore
from relay.config.inventory_manifests import InventoryFiles, InventoryLoad
from relay.config.settings.settings import Settings
from relay.config.yaml.file_watcher import SETTLE_S
from relay.control.reconcile.desired_state import DesiredState, Namespace
from relay.runtime.event_loop import run_in_thread

REST_FACTOR = 20
"""Pause after a poll, in multiples of its CPU time: polling takes at most 5 % of a core."""


class FileSource:
    """The manifests, mounted secrets and inventory that the settings name."""

    def __init__(self, settings: Settings) -> None:
        tenancy = settings.tenancy is not None
        self._manifests = Manifests(
            settings.exporters, secrets_root=settings.secrets, tenancy=tenancy
        )
        self._mounted = MountedSecrets(settings.secrets, tenancy=tenancy)
        self._inventory_files = InventoryFiles(settings.inventory.manifests)
        self._interval_s = settings.watch.interval_s
        self._lock = asyncio.Lock()
        self._version = 0
        self._loaded = LoadResult((), (), SecretStore())
        self._inventory = InventoryLoad()

    async def load(self) -> DesiredState:
        """Read changed files, settled or not, and return the state."""
        async with self._lock:
            inventory = await run_in_thread(self._inventory_files.load)
            self._loaded = await run_in_thread(self._manifests.load)
            return self._state(inventory, frozenset())

    async def changes(self) -> AsyncGenerator[DesiredState, None]:
        """Yield the state whenever files have changed and settled, without end."""
        while True:
            state, cpu_s = await self._poll()
            if state is not None:
                yield state
            pause_s = SETTLE_S if self._manifests.restless else self._interval_s
            await asyncio.sleep(max(pause_s, REST_FACTOR * cpu_s))

    async def _poll(self) -> tuple[DesiredState | None, float]:
        """Poll all files; return the state if it has changed, and the CPU seconds of polling."""

        def look() -> tuple[InventoryLoad, LoadResult | None, frozenset[Namespace] | None, float]:
            started = time.thread_time()
            inventory = self._inventory_files.load()
            loaded = self._manifests.poll(time.monotonic())
            rotated = self._mounted.changed()
            return inventory, loaded, rotated, time.thread_time() - started

        async with self._lock:
            inventory, loaded, rotated, cpu_s = await run_in_thread(look)
            if loaded is not None:
                self._loaded = loaded
            elif rotated == frozenset() and _is_same(inventory, self._inventory):
                return None, cpu_s
            return self._state(inventory, rotated), cpu_s

    def _state(
        self, inventory: InventoryLoad, rotated: frozenset[Namespace] | None
    ) -> DesiredState:
        if not _is_same(inventory, self._inventory):
            self._inventory = inventory
        self._version += 1
        return DesiredState(self._version, self._loaded, self._inventory, rotated)

    def __repr__(self) -> str:
        return f"<FileSource {self._manifests!r}, version {self._version}>"


def _is_same(one: InventoryLoad, other: InventoryLoad) -> bool:
    return one.index is other.index and one.faults == other.faults
