"""Decides which sources take the records of a resource and scope, and what is asked of each record.

* Sources are kept by project, so that no selection is ever compared with another project's records.
* A plan (:mod:`relay.pipeline.records.entries`) is made once for a resource and scope, and again
  when the sources of its project change, or objects of the inventory where one depends on these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from relay.codec.otlp.redact import Redaction
from relay.codec.remote_write.v1 import no_pause
from relay.pipeline.records.entries import RecordPlan, SourcesVersion
from relay.pipeline.records.sources import RecordRoute, Take
from relay.pipeline.routing.match_set import SinkOutputSpec, SourceCounter
from relay.selector.inventory.store import Inventory
from relay.selector.records.compile import Attributes, CompiledRecords
from relay.selector.records.selection import CATEGORY_ATTRIBUTE, RecordSelection
from relay.selector.resources.compiler import Compiler, uses_inventory

STEP: Final = 128
"""Sources of a microsecond or two that are asked between two pauses."""

PLANS_MAX: Final = 1_000
"""Plans without tests that a project remembers."""

RecordSources: TypeAlias = Sequence[tuple[str, RecordSelection, Sequence[SinkOutputSpec]]]
"""For every source of an exporter: name, selection, and the outputs that it feeds."""


class RecordProject(SourcesVersion):
    """The sources of one project."""

    __slots__ = ("_plans", "exporters")

    def __init__(self) -> None:
        super().__init__()
        self.exporters: dict[str, tuple[RecordRoute, ...]] = {}
        self._plans: dict[tuple[RecordRoute, ...], RecordPlan] = {}
        """The plans without tests, by their sources: one for many resources."""

    def change(self) -> None:
        """Make all plans invalid, and forget them: they refer to this project."""
        self.version += 1
        self._plans.clear()

    def plan(self, takes: tuple[Take, ...], inventory_version: int) -> RecordPlan:
        """Return the plan of these sources; resources share it where nothing is asked of records.

        Records are counted by plan.
        """
        plan = RecordPlan(takes, self, inventory_version=inventory_version)
        if plan.has_tests:
            return plan
        key = tuple(take.source for take in takes)
        known = self._plans.get(key)
        if known is not None and (known.version, known.inventory_version) == (
            plan.version,
            plan.inventory_version,
        ):
            return known
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
        self._plans[key] = plan
        return plan

    @property
    def sources(self) -> Iterator[RecordRoute]:
        """All sources, in the order of their exporters."""
        for sources in self.exporters.values():
            yield from sources


class RecordRouter:
    """The sources of one signal. ``category_attribute`` names the category of a log record."""

    def __init__(
        self,
        *,
        compiler: Compiler | None = None,
        inventory: Inventory | None = None,
        category_attribute: str = CATEGORY_ATTRIBUTE,
    ) -> None:
        self.compiler: Final = compiler or Compiler()
        self.inventory: Final = inventory or Inventory()
        self._category_attribute: Final = category_attribute
        self._projects: dict[str, RecordProject] = {}
        self._exporters: dict[str, str] = {}
        self._counters: dict[str, dict[str, SourceCounter]] = {}
        self._nobody: Final = RecordProject()
        """For records of projects without sources; its version grows with each new project."""

    def set_sources(self, exporter: str, project: str, sources: RecordSources) -> None:
        """Add or replace the sources of an exporter; counters of equal names go on."""
        if not sources and exporter not in self._exporters:
            return
        at = self._projects.get(project)
        if at is None:
            at = self._projects[project] = RecordProject()
            self._nobody.change()
        self._exporters[exporter] = project
        counters = self._counters.setdefault(exporter, {})
        objects = self.inventory.for_project(project)
        made = []
        for name, selection, targets in sources:
            counter = counters.setdefault(name, SourceCounter(exporter, name))
            compiled = CompiledRecords(
                selection,
                compiler=self.compiler,
                objects=objects,
                category_attribute=self._category_attribute,
            )
            asks = selection.resources is not None and uses_inventory(selection.resources)
            redaction = Redaction(selection.redactions) if selection.redactions else None
            made.append(RecordRoute(counter, selection, compiled, tuple(targets), asks, redaction))
        at.exporters[exporter] = tuple(made)
        at.change()

    def remove(self, exporter: str) -> None:
        """Stop routing an exporter; its counters stay, for :meth:`forget_counters`."""
        project = self._exporters.pop(exporter, None)
        if project is None:
            return
        at = self._projects[project]
        del at.exporters[exporter]
        at.change()
        if not at.exporters:
            del self._projects[project]

    def forget_counters(self, exporter: str) -> None:
        """Drop the counts of an exporter that was removed for good."""
        self._counters.pop(exporter, None)

    def set_share(self, project: str, share_max: int) -> None:
        """Take only ``share_max`` of ``SHARE_ALL`` parts of a project's records."""
        at = self._projects.get(project)
        if at is not None and at.share_max != share_max:
            at.share_max = share_max
            at.change()

    def counters_of(self, exporter: str) -> Mapping[str, SourceCounter]:
        """Return the counters of an exporter's sources, by name."""
        return self._counters.get(exporter, {})

    def source_counters(self) -> Iterator[SourceCounter]:
        """Yield the counters of all sources."""
        for counters in self._counters.values():
            yield from counters.values()

    def plan(
        self,
        project: str,
        resource: Attributes,
        both: Attributes,
        pause: Callable[[], None] = no_pause,
    ) -> RecordPlan:
        """Return the plan for records of a project's resource and scope."""
        at = self._projects.get(project, self._nobody)
        takes, depends = [], False
        for number, source in enumerate(at.sources):
            if not number % STEP:
                pause()
            depends = depends or source.uses_inventory
            residual = source.compiled.decide(resource, both, pause)
            if residual is not None:
                takes.append(Take(source, None if residual.asks_nothing else residual))
        return at.plan(tuple(takes), self.inventory.changes if depends else -1)

    def __repr__(self) -> str:
        return f"<RecordRouter {len(self._exporters)} exporters of {len(self._projects)} projects>"
