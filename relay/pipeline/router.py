"""Which sinks a series goes to.

Exporters are added and removed one at a time. Selectors are asked through one index per project, so
that no expression, however written, is ever even compared with another project's series: under
tenancy a series belongs to the project that its tenancy label names.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from relay.pipeline.series import Plan, SinkTally, SourceTally
from relay.selector.ast import Selector
from relay.selector.index import SelectorIndex
from relay.selector.matching import compile_selector
from relay.wire.batch import OpenBatch
from relay.wire.otlp import Kind, Temporality


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """How a sink wants its points. Targets with equal options share all that is made for them.

    ``promoted`` labels become resource attributes. What is of a kind in ``unsupported`` is
    delivered as numbers where it came as numbers, and not at all otherwise.
    """

    temporality: Temporality = "cumulative"
    promoted: frozenset[str] = frozenset()
    unsupported: frozenset[Kind] = frozenset()


class Target:
    """One sink as the pipeline sees it: its open batches, one per lane, and what it was given."""

    __slots__ = ("lanes", "options", "tally")

    def __init__(
        self,
        tally: SinkTally,
        lanes: Sequence[OpenBatch],
        options: TargetOptions = TargetOptions(),
    ) -> None:
        assert lanes
        self.lanes = tuple(lanes)
        self.tally = tally
        self.options = options

    def lane(self, key: bytes) -> OpenBatch:
        """The lane of a stream: always the same for the same key, so that its points never overtake
        each other."""
        return self.lanes[zlib.crc32(key) % len(self.lanes) if len(self.lanes) > 1 else 0]

    def __repr__(self) -> str:
        return f"<Target {self.tally.exporter} {self.tally.sink}>"


@dataclass(frozen=True, slots=True, eq=False)
class SourceRoute:
    """One source of one exporter, and the sinks that it feeds. Compared by identity."""

    tally: SourceTally
    targets: tuple[Target, ...]


Targets = tuple[Target, ...]
_PlanKey = tuple[tuple[SourceRoute, ...], Targets, Targets]


@dataclass(frozen=True, slots=True)
class RouterStatistics:
    """Sizes, and samples that matched nothing since the start."""

    exporters: int
    sources: int
    plans: int
    unmatched_samples: int


class Router:
    """Answers, for a new series, which sources matched it. ``version`` moves with every change."""

    def __init__(self, *, tenancy_label: str = "") -> None:
        self.version = 0
        self._tenancy_label = tenancy_label
        self._indexes: dict[str, SelectorIndex[SourceRoute]] = {}
        self._exporters: dict[str, tuple[str, list[SourceRoute]]] = {}
        self._plans: dict[tuple[SourceRoute, ...], Plan] = {}
        self._mixed: dict[_PlanKey, Plan] = {}
        self._twins: dict[Plan, Plan] = {}
        self._tallies: dict[tuple[str, str], SourceTally] = {}
        self._unmatched = Plan((), ())

    def add(
        self, exporter: str, project: str, sources: Sequence[tuple[str, Selector, Sequence[Target]]]
    ) -> None:
        """Route the sources (name, selector, sinks) of an exporter that is not routed yet."""
        assert exporter not in self._exporters, exporter
        index = self._indexes.setdefault(project, SelectorIndex())
        routes = []
        for name, selector, targets in sources:
            tally = self._tallies.setdefault((exporter, name), SourceTally(exporter, name))
            route = SourceRoute(tally, tuple(targets))
            index.add(route, compile_selector(selector))
            routes.append(route)
        self._exporters[exporter] = (project, routes)
        self.version += 1

    def remove(self, exporter: str) -> None:
        """Stop routing an exporter; series that went to it find their routes anew.

        The counts of its sources stay, so that an exporter that is changed goes on counting.
        """
        project, routes = self._exporters.pop(exporter)
        self.fold()
        for route in routes:
            self._indexes[project].remove(route)
        gone = set(routes)
        self._plans = {key: plan for key, plan in self._plans.items() if gone.isdisjoint(key)}
        self._mixed = {key: plan for key, plan in self._mixed.items() if gone.isdisjoint(key[0])}
        used = {*self._plans.values(), *self._mixed.values()}
        self._twins = {plan: twin for plan, twin in self._twins.items() if plan in used}
        self.version += 1

    def match(self, labels: Mapping[str, str]) -> tuple[Plan, tuple[SourceRoute, ...]]:
        """The sources that take a series with these labels, in the order they were added."""
        project = labels.get(self._tenancy_label, "") if self._tenancy_label else ""
        index = self._indexes.get(project)
        matched = tuple(index.match(labels)) if index is not None else ()
        if not matched:
            return self._unmatched, ()
        plan = self._plans.get(matched)
        if plan is None:
            sinks = tuple(target.tally for route in matched for target in route.targets)
            plan = Plan(tuple(route.tally for route in matched), sinks)
            self._plans[matched] = plan
        return plan, matched

    def plan(self, matched: tuple[SourceRoute, ...], direct: Targets, handled: Targets) -> Plan:
        """The plan of series that go to some targets as they are, and to others by a handler."""
        key = (matched, direct, handled)
        plan = self._mixed.get(key)
        if plan is None:
            plan = Plan(
                tuple(route.tally for route in matched),
                tuple(target.tally for target in direct),
                tuple(target.tally for target in handled),
            )
            self._mixed[key] = plan
        return plan

    def deferring(self, plan: Plan) -> Plan:
        """The twin of a plan that counts the same and has every sample handed to handlers."""
        twin = self._twins.get(plan)
        if twin is None:
            twin = Plan(plan.sources, plan.sinks, plan.handled_sinks)
            twin.handled = True
            self._twins[plan] = twin
        return twin

    def forget(self, exporter: str) -> None:
        """Drop the counts of an exporter that will not come back."""
        assert exporter not in self._exporters, exporter
        self._tallies = {key: t for key, t in self._tallies.items() if key[0] != exporter}

    def fold(self) -> None:
        """Bring the tallies of sources and sinks up to date."""
        for plan in self._plans.values():
            plan.fold()
        for plan in self._mixed.values():
            plan.fold()
        for plan in self._twins.values():
            plan.fold()

    def tallies(self) -> Iterator[SourceTally]:
        """The tallies of all sources; call :meth:`fold` before."""
        yield from self._tallies.values()

    def statistics(self) -> RouterStatistics:
        """A snapshot."""
        sources = sum(len(routes) for _, routes in self._exporters.values())
        return RouterStatistics(
            len(self._exporters),
            sources,
            len(self._plans) + len(self._mixed),
            self._unmatched.samples,
        )

    def __repr__(self) -> str:
        return f"<Router {len(self._exporters)} exporters, version {self.version}>"
