"""Interface of a source of resources, which are yet to be checked against those of other sources.

:class:`~relay.control.reconcile.combined_source.CombinedSource` makes desired states of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec

from relay.config.exporter.load_result import SourceName
from relay.config.exporter.loading.combine import OriginResources
from relay.config.inventory_manifests import InventoryLoad
from relay.control.reconcile.desired_state import Namespace
from relay.runtime.errors import Fault
from relay.sink.spill.owner import Owner


class SourceResources(msgspec.Struct, frozen=True):
    """Everything that one source has at one moment.

    ``origins`` is the same object as long as no resource has changed, and ``inventory`` as long as
    no object of the inventory has. ``rotated`` is as in
    :class:`~relay.control.reconcile.desired_state.DesiredState`.
    """

    version: int
    origins: tuple[OriginResources, ...]
    faults: tuple[Fault, ...] = ()
    inventory: InventoryLoad = msgspec.field(default_factory=InventoryLoad)
    rotated: frozenset[Namespace] | None = frozenset()


class ResourceSource(Protocol):
    """One source of resources. Lives on the event loop; long work runs in threads.

    The rules of :class:`~relay.control.reconcile.desired_state.DesiredStateSource` hold.
    """

    @property
    def name(self) -> SourceName:
        """Name of the source, which decides the order of equal names."""
        ...

    async def read(self) -> SourceResources:
        """Return what there is now, even if nothing has changed."""
        ...

    def changes(self) -> AsyncGenerator[SourceResources, None]:
        """Yield what there is after each change since the last that was given, without end."""
        ...

    def is_deleted(self, owner: Owner) -> bool:
        """Return whether the object of one of this source's control planes is known to be deleted.

        Not so if its control plane cannot tell at the moment, if the object is still there and does
        not run, or if it was a manifest, whose file may be back. Safe in another thread.
        """
        ...
