"""Tell for which objects this relay runs or drains sinks, by uid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from relay.config.exporter.types import Exporter
from relay.control.reconcile.sink_entry import SinkEntry


class SinksAndExporters(Protocol):
    """All sinks; :class:`~relay.control.reconcile.reconciler.SinkReconciler`."""

    @property
    def revision(self) -> int:
        """Incremented whenever sinks are added, removed or reconfigured."""

    @property
    def exporters(self) -> Iterable[Exporter]:
        """The running exporters."""

    def entries(self) -> Iterator[SinkEntry]:
        """Yield every sink, draining ones included."""


class HeldObjects:
    """The objects of all running and draining sinks."""

    def __init__(self, sinks: SinksAndExporters) -> None:
        self._sinks = sinks
        self._revision = -1
        self._draining: frozenset[str] = frozenset()

    def all(self) -> set[str]:
        """Return the uids of objects with a sink that runs or drains."""
        return {entry.owner.uid for entry in self._sinks.entries()} - {""}

    def draining(self) -> frozenset[str]:
        """Return the uids of objects of which nothing but draining sinks is left.

        It is asked every second for each other relay; most of the time nothing drains.
        """
        if self._draining or self._revision != self._sinks.revision:
            self._revision = self._sinks.revision
            running = {exporter.uid for exporter in self._sinks.exporters}
            self._draining = frozenset(self.all() - running)
        return self._draining

    def __repr__(self) -> str:
        return f"<HeldObjects, {len(self._draining)} draining>"
