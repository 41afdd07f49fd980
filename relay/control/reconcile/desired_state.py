"""Interface of a source of the desired state: which exporters, objects and secrets there must be.

A source reads files, watches an API, or holds objects in memory; the
:class:`~relay.control.reconcile.reloader.Reloader` applies the states it gives.

* A state is complete: it replaces every earlier state of the source.
* Faulty objects are reported in the state and never raised. Keeping the last good version of an
  exporter in service is the reloader's task.
* Every state has a higher ``version`` than those before, in the order in which they were read.
* Parts that have not changed since the last state are the same objects (compare by identity).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec

from relay.config.exporter.load_result import LoadResult
from relay.config.exporter.secrets import SecretStore
from relay.config.inventory_manifests import InventoryLoad
from relay.runtime.errors import Fault
from relay.sink.spill.owner import Owner

Namespace = tuple[str, str]
"""Project, "" without tenancy, and namespace."""


class DesiredState(msgspec.Struct, frozen=True):
    """Everything that a source knows at one moment.

    ``loaded`` has the valid exporters with their origins, the faults of the others, and the secrets
    that both refer to; ``inventory`` the objects of the inventory and their faults. ``rotated`` are
    the namespaces whose secrets changed outside of ``loaded`` since the last state; None: any may
    have.
    """

    version: int
    loaded: LoadResult
    inventory: InventoryLoad = msgspec.field(default_factory=InventoryLoad)
    rotated: frozenset[Namespace] | None = frozenset()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults of the objects, in the source's order."""
        return (*self.loaded.faults, *self.inventory.faults)

    @property
    def secrets(self) -> SecretStore:
        """The secrets that exporters refer to."""
        return self.loaded.secrets


class DesiredStateSource(Protocol):
    """A source of the desired state. Lives on the event loop; long work runs in threads."""

    async def load(self) -> DesiredState:
        """Read the state as it is now, and return it even if nothing has changed.

        Never raise for the contents of objects.
        """
        ...

    def changes(self) -> AsyncGenerator[DesiredState, None]:
        """Yield the state after each change since the last state that was given, without end.

        A failure ends the iterator; calling this again continues. At most one iterator may be in
        use, and it must be closed when it is abandoned.
        """
        ...

    def is_deleted(self, owner: Owner) -> bool:
        """Return whether the object to which a sink belongs is known to be deleted for good.

        Asked only for objects of control planes; safe in another thread.
        """
        ...
