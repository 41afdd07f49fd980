"""Read the desired state from the operator's files, and poll them for changes.

Files are read in a thread. They are polled, because that works on every file system: at each
interval, less often if polling takes long, and sooner while files are changing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Final

from relay.config.exporter.load_result import SourceName
from relay.config.exporter.loading.combine import Combiner
from relay.config.exporter.manifest_loader import FoundManifests, Manifests
from relay.config.exporter.mounted_secrets import MountedSecrets
from relay.config.inventory_manifests import InventoryFiles, InventoryLoad
from relay.config.settings.settings import Settings
from relay.config.yaml.file_watcher import SETTLE_S
from relay.control.reconcile.desired_state import Namespace
from relay.control.reconcile.resource_source import SourceResources
from relay.runtime.event_loop import run_in_thread
from relay.sink.spill.owner import Owner

REST_FACTOR = 20
"""Pause after a poll, in multiples of its CPU time: polling takes at most 5 % of a core."""


class FileResources:
    """The manifests, mounted secrets and inventory that the settings name.

    ``combiner`` knows which exporters lack Secrets; ``lock`` is held while it works.
    """

    name: Final[SourceName] = "files"

    def __init__(self, settings: Settings, combiner: Combiner, lock: asyncio.Lock) -> None:
        tenancy = settings.tenancy is not None
        self._manifests = Manifests(
            settings.exporters,
            secrets_root=settings.secrets,
            tenancy=tenancy,
            combiner=combiner,
        )
        self._mounted = MountedSecrets(settings.secrets, tenancy=tenancy)
        self._inventory_files = InventoryFiles(settings.inventory.manifests)
        self._interval_s = settings.watch.interval_s
        self._lock = lock
        self._version = 0
        self._found = FoundManifests((), ())
        self._inventory = InventoryLoad()

    def is_deleted(self, owner: Owner) -> bool:
        """Return False: a file may be back, with its queue to be continued."""
        return False

    async def read(self) -> SourceResources:
        """Read changed files, settled or not, and return all."""
        async with self._lock:
            inventory = await run_in_thread(self._inventory_files.load)
            self._found = await run_in_thread(self._manifests.read)
            return self._all(inventory, frozenset())

    async def changes(self) -> AsyncGenerator[SourceResources, None]:
        """Yield all whenever files have changed and settled, without end."""
        while True:
            found, cpu_s = await self._poll()
            if found is not None:
                yield found
            pause_s = SETTLE_S if self._manifests.restless else self._interval_s
            await asyncio.sleep(max(pause_s, REST_FACTOR * cpu_s))

    async def _poll(self) -> tuple[SourceResources | None, float]:
        """Poll all files; return all if something has changed, and the CPU seconds of polling."""

        def look() -> tuple[
            InventoryLoad, FoundManifests | None, frozenset[Namespace] | None, float
        ]:
            started = time.thread_time()
            inventory = self._inventory_files.load()
            found = self._manifests.read_settled(time.monotonic())
            rotated = self._mounted.changed()
            return inventory, found, rotated, time.thread_time() - started

        async with self._lock:
            inventory, found, rotated, cpu_s = await run_in_thread(look)
            if found is not None:
                self._found = found
            elif rotated == frozenset() and _is_same(inventory, self._inventory):
                return None, cpu_s
            return self._all(inventory, rotated), cpu_s

    def _all(
        self, inventory: InventoryLoad, rotated: frozenset[Namespace] | None
    ) -> SourceResources:
        if not _is_same(inventory, self._inventory):
            self._inventory = inventory
        self._version += 1
        return SourceResources(
            self._version, self._found.origins, self._found.faults, self._inventory, rotated
        )

    def __repr__(self) -> str:
        return f"<FileResources {self._manifests!r}, version {self._version}>"


def _is_same(one: InventoryLoad, other: InventoryLoad) -> bool:
    return one.index is other.index and one.faults == other.faults
