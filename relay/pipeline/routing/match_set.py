"""Match sets: the sources that series matched, the sinks they feed, and their sample counters.

All series that matched the same sources share one :class:`MatchSet`; a sample is counted there, and
the sums are added to sources and sinks when counters are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.groups import MetricGroup
from relay.codec.otlp.metrics import Kind, Temporality
from relay.codec.remote_write.raw.label_table import RawGroup
from relay.pipeline.routing.series_tally import ProjectTally, SeriesTally

PROJECT_LIMIT: Final = "project_limit"
"""The reason of samples that are dropped because their project is at a limit."""
REFUSALS_MAX: Final = 100
"""Variants of one match set from which on refused series are no longer told apart by family."""


class SourceCounter:
    """Samples that one source of one exporter has matched. Compared by identity."""

    __slots__ = ("exporter", "samples", "source")

    def __init__(self, exporter: str, source: str) -> None:
        self.exporter = exporter
        self.source = source
        self.samples = 0

    def __repr__(self) -> str:
        return f"<SourceCounter {self.exporter} {self.source} {self.samples}>"


class SinkCounter:
    """Points that one sink must account for: the left side of its ledger. Compared by identity.

    ``samples`` counts what its sources matched, ``points`` what was made of that for it: several
    samples may become one point, or none. ``exported`` samples are in a point, or in the attributes
    of one; ``refused`` ones are of series above the project's limit. ``deltas`` came as deltas, the
    last one at ``deltas_at`` (wall clock, s), and the sink takes cumulative values.
    """

    __slots__ = (
        "deltas",
        "deltas_at",
        "exported",
        "exporter",
        "group",
        "points",
        "refused",
        "retired",
        "samples",
        "sink",
    )

    def __init__(self, exporter: str, sink: str, group: str = "") -> None:
        self.exporter = exporter
        self.sink = sink
        self.group = group
        """The bound that it shares: that of its project, or of its exporter."""
        self.points = 0
        self.samples = 0
        self.exported = 0
        self.refused = 0
        self.deltas = 0
        self.deltas_at = 0.0
        self.retired = False
        """True once the sink is removed: what is dropped later has no row; nothing deletes it."""

    def __repr__(self) -> str:
        return f"<SinkCounter {self.exporter} {self.sink} {self.points}>"


CountDrops = Callable[[str, str, int, Iterable[SinkCounter]], None]
"""Counts dropped samples: family, reason, how many, and the sinks that do not get them."""

Protocol = Literal["otlp", "remoteWrite1", "remoteWrite2"]
"""The protocol that a sink's points are encoded in, with its version."""


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Options of a sink that shape its points; targets with equal options share streams.

    For remote write only ``protocol``, ``external_labels`` and ``sends_metadata`` matter. For OTLP:
    ``promoted`` labels become resource attributes. Points of a kind in ``unsupported`` are
    delivered as numbers if they came as numbers, and dropped otherwise. ``job`` and ``instance``
    stay attributes of points, besides the resource, if ``keeps_target_labels``.
    """

    temporality: Temporality = "cumulative"
    promoted: frozenset[str] = frozenset()
    unsupported: frozenset[Kind] = frozenset()
    keeps_target_labels: bool = False
    protocol: Protocol = "otlp"
    external_labels: tuple[tuple[str, str], ...] = ()
    sends_metadata: bool = False

    @property
    def is_raw(self) -> bool:
        """True if the sink takes series as they came."""
        return self.protocol != "otlp"


PLAIN = OutputOptions()


class SinkOutputSpec:
    """One sink in the pipeline: its open batches, one per shard, its counter and its options."""

    __slots__ = ("counter", "options", "shards")

    def __init__(
        self, counter: SinkCounter, shards: Sequence[OpenBatch], options: OutputOptions = PLAIN
    ) -> None:
        assert shards
        self.shards = tuple(shards)
        self.counter = counter
        self.options = options

    def shard(self, group: MetricGroup | RawGroup) -> OpenBatch:
        """Return the batch of a metric's shard.

        A metric always has the same shard, so the points of a stream never overtake each other.
        """
        return self.shards[group.shard_key % len(self.shards)]

    def __repr__(self) -> str:
        return f"<SinkOutputSpec {self.counter.exporter} {self.counter.sink}>"


class RawOutput:
    """Targets with equal options that take series as they came: they share points.

    ``cycle``: a series with shard key ``n`` has the same batches as one with ``n + cycle``.
    """

    __slots__ = ("_batches", "cycle", "options", "targets")

    def __init__(self, options: OutputOptions, targets: Sequence[SinkOutputSpec]) -> None:
        self.options = options
        self.targets = tuple(targets)
        self.cycle = math.lcm(*(len(target.shards) for target in targets))
        self._batches: dict[int, tuple[OpenBatch, ...]] = {}

    @property
    def counters(self) -> tuple[SinkCounter, ...]:
        """Counters of the targets."""
        return tuple(target.counter for target in self.targets)

    def batches(self, shard_key: int) -> tuple[OpenBatch, ...]:
        """Return the batches of all targets for a shard key, one tuple for all series."""
        way = shard_key % self.cycle
        found = self._batches.get(way)
        if found is None:
            shards = [target.shards for target in self.targets]
            found = self._batches[way] = tuple(each[way % len(each)] for each in shards)
        return found

    def __repr__(self) -> str:
        return f"<RawOutput {self.options.protocol} to {len(self.targets)} targets>"


class MatchedSource:
    """One source of one exporter, and the sinks that it feeds. Compared by identity.

    ``sequence`` is its place among all sources, in the order in which they came. ``targets`` change
    in place when only the exporter's sinks do (:meth:`feed`); its match sets are invalidated then.
    Of these, ``typed`` take OTLP points, and ``raw`` series as they came. ``alive`` is False once
    the source is no longer routed.
    """

    __slots__ = ("alive", "counter", "raw", "sequence", "targets", "typed")

    targets: tuple[SinkOutputSpec, ...]
    typed: tuple[SinkOutputSpec, ...]
    raw: tuple[SinkOutputSpec, ...]

    def __init__(
        self, counter: SourceCounter, targets: Sequence[SinkOutputSpec], sequence: int
    ) -> None:
        self.counter = counter
        self.sequence = sequence
        self.alive = True
        self.feed(targets)

    def feed(self, targets: Sequence[SinkOutputSpec]) -> None:
        """Set the sinks that the source feeds."""
        self.targets = tuple(targets)
        raw = tuple(target for target in targets if target.options.is_raw)
        self.raw = self.targets if len(raw) == len(self.targets) else raw
        # One tuple: there are thousands of sources, and of most no sink is raw.
        self.typed = (
            tuple(target for target in targets if not target.options.is_raw)
            if raw
            else self.targets
        )

    def feeds(self, targets: Sequence[SinkOutputSpec]) -> bool:
        """Return False if these are other sinks than its own, or the same with other batches."""
        own = [(one.counter, one.shards, one.options) for one in self.targets]
        return own == [(one.counter, one.shards, one.options) for one in targets]

    def __repr__(self) -> str:
        return f"<MatchedSource {self.counter.exporter} {self.counter.source}>"


class ProjectEpoch:
    """The exporters that may see a series, those of its project.

    ``version`` changes with every change of their selections.
    """

    __slots__ = ("project", "tally", "version")

    def __init__(self, project: str, version: int = 0) -> None:
        self.project = project
        self.version = version
        self.tally = ProjectTally()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.project!r} version {self.version}>"


INVALIDATED = ProjectEpoch("", -2)
"""The epoch of a match set that must not be used any more: no series is resolved at its version."""


WAYS_MAX: Final = 64
"""Ways to share out points among shards for which a match set has a list of batches."""

_NO_WAYS: Final[dict[int, tuple[OpenBatch, ...]]] = {}
_NO_VARIANTS: Final[dict[tuple[object, ...], MatchSet]] = {}
"""Of the many match sets without any, one for all: never changed."""


class MatchSet:
    """The set of sources that a series matched, shared by all series with the same set.

    A series may use it for as long as ``project_epoch.version`` is what it was resolved at.

    ``samples`` is counted once for samples in a row and passed on by :meth:`flush_counters`, so
    that neither the number of sources nor the number of sinks costs anything per sample. A sink
    appears once for each of its sources that matched: two sources that match the same series export
    it twice. To ``sinks`` every sample is a point; ``handled_sinks`` get what the series' handlers
    make, and their points are counted when they are made.

    Series that matched the same sources may still have different routes, by their types: their
    match sets are *variants* of one ``base`` and are invalidated with it. ``typed`` and ``raw`` are
    the targets of all matched sources, ``raw_outputs`` the raw ones by their options. ``tally``
    counts the series in the table, at the base. A :class:`RefusedSeries` ``refuses`` a base's.
    """

    __slots__ = (
        "_base",
        "_by_way",
        "_counters",
        "_cycle",
        "_only",
        "_ways",
        "handled",
        "handled_sinks",
        "home",
        "is_plain",
        "matched",
        "project_epoch",
        "raw",
        "raw_outputs",
        "refuses",
        "samples",
        "sinks",
        "sources",
        "tally",
        "typed",
        "variants",
    )

    def __init__(self, home: ProjectEpoch, matched: tuple[MatchedSource, ...] = ()) -> None:
        targets = [target for route in matched for target in route.targets]
        if len(matched) == 1:  # most have one source, whose tuples serve
            self.typed, self.raw = matched[0].typed, matched[0].raw
        else:
            self.typed = tuple(target for route in matched for target in route.typed)
            self.raw = tuple(target for route in matched for target in route.raw)
        self.raw_outputs = tuple(RawOutput(*alike) for alike in by_options(self.raw).items())
        self._cycle = math.lcm(*(len(target.shards) for target in self.typed))
        self._only: tuple[OpenBatch, ...] | None = None
        """The batches of all metrics if there is one shard each."""
        self._ways: list[tuple[OpenBatch, ...] | None] | None = None
        """Else those by shard key, in ``_by_way`` if these are many."""
        self._by_way = _NO_WAYS
        self._counters: dict[tuple[OpenBatch, ...], tuple[SinkCounter, ...]] | None = None
        self._base: MatchSet | None = None
        """None for itself: what refers to itself is freed by the cyclic GC alone."""
        self.home = home
        self.project_epoch = home
        self.matched = matched
        self.sources = tuple(route.counter for route in matched)
        self.sinks = tuple(target.counter for target in targets)
        self.handled_sinks: tuple[SinkCounter, ...] = ()
        self.handled = False
        """True if samples must go to the series' handlers, besides its routes."""
        self.is_plain = bool(targets) and all(target.options == PLAIN for target in targets)
        """True if there are sinks, and all want OTLP points in the default form: a route without
        batches must not exist, because the decode loop reads the first one."""
        self.samples = 0
        self.tally = SeriesTally(home.tally, is_taken=bool(matched))
        self.refuses: MatchSet | None = None
        self.variants: dict[tuple[object, ...], MatchSet] = _NO_VARIANTS

    def variant(
        self, direct: Sequence[SinkOutputSpec], handled: Sequence[SinkOutputSpec]
    ) -> MatchSet:
        """Return the variant for series that go to some sinks directly, to others processed."""
        return self._variant(
            tuple(target.counter for target in direct),
            tuple(target.counter for target in handled),
            handled=bool(handled),
        )

    def batches(self, group: MetricGroup) -> tuple[OpenBatch, ...]:
        """Return the batches of all typed targets for a metric, one tuple for all series."""
        if self._cycle == 1:
            found = self._only
            if found is None:
                found = self._only = self._shards(group)
            return found
        way = group.shard_key % self._cycle
        ways = self._ways
        if ways is None:
            if self._cycle > WAYS_MAX:
                return self._of_many(way, group)
            ways = self._ways = [None] * self._cycle
        found = ways[way]
        if found is None:
            found = ways[way] = self._shards(group)
        return found

    def _of_many(self, way: int, group: MetricGroup) -> tuple[OpenBatch, ...]:
        found = self._by_way.get(way)
        if found is None:
            if self._by_way is _NO_WAYS:
                self._by_way = {}
            found = self._by_way[way] = self._shards(group)
        return found

    def _shards(self, group: MetricGroup) -> tuple[OpenBatch, ...]:
        if len(self.typed) == 1 and self._cycle == 1:
            return self.typed[0].shards
        return tuple(target.shard(group) for target in self.typed)

    def counters_of(self, batches: tuple[OpenBatch, ...]) -> tuple[SinkCounter, ...]:
        """Return the counters of the typed targets that some batches belong to, in their order."""
        known = self._counters
        if known is None:
            known = self._counters = {}
        found = known.get(batches)
        if found is None:
            owners = {shard: target.counter for target in self.typed for shard in target.shards}
            found = known[batches] = tuple(owners[batch] for batch in batches)
        return found

    def with_processors(self) -> MatchSet:
        """Return the variant that counts the same and hands every sample to processors."""
        return self._variant(self.sinks, self.handled_sinks, handled=True)

    def _variant(
        self,
        sinks: tuple[SinkCounter, ...],
        handled_sinks: tuple[SinkCounter, ...],
        *,
        handled: bool,
    ) -> MatchSet:
        base = self.base
        key = (sinks, handled_sinks, handled)
        match_set = base.variants.get(key)
        if match_set is None:
            match_set = MatchSet(base.home, base.matched)
            match_set._base = base
            match_set.tally = base.tally
            match_set.raw_outputs = base.raw_outputs
            match_set.project_epoch = base.project_epoch
            match_set.sources = base.sources
            match_set.sinks = base.sinks if sinks == base.sinks else sinks
            same = handled_sinks == base.sinks
            match_set.handled_sinks = base.sinks if same else handled_sinks
            match_set.handled = handled
            base.add_variant((match_set.sinks, match_set.handled_sinks, handled), match_set)
        return match_set

    def refusal(self, family: str, count_drops: CountDrops) -> MatchSet:
        """Return the match set of series of a family that matched the same, and are not taken."""
        base = self.base
        if len(base.variants) >= REFUSALS_MAX:
            family = ""
        key = ("refused", family)
        found = base.variants.get(key)
        if found is None:
            found = RefusedSeries(base, family, count_drops)
            base.add_variant(key, found)
        return found

    def add_variant(self, key: tuple[object, ...], variant: MatchSet) -> None:
        """Keep a variant under what tells it from others."""
        if self.variants is _NO_VARIANTS:
            self.variants = {}
        self.variants[key] = variant

    def end_refusals(self) -> list[MatchSet]:
        """Invalidate its refusals and return them: they may still have samples to pass on."""
        ended = [one for one in self.variants.values() if one.refuses is not None]
        if ended:
            self.variants = {key: one for key, one in self.variants.items() if one.refuses is None}
        for one in ended:
            one.invalidate()
        return ended

    def every_sink(self) -> list[SinkCounter]:
        """Return the counters of all sinks that the matched sources feed, once for each source."""
        return [target.counter for route in self.matched for target in route.targets]

    def flush_counters(self) -> None:
        """Add the counts of this match set to the counters of sources and sinks."""
        if self.samples:
            for source in self.sources:
                source.samples += self.samples
            for sink in self.sinks:
                sink.points += self.samples
                sink.samples += self.samples
                sink.exported += self.samples
            for sink in self.handled_sinks:
                sink.samples += self.samples
            self.samples = 0
        for match_set in self.variants.values():
            match_set.flush_counters()

    @property
    def base(self) -> MatchSet:
        """The match set of which this one is a variant; itself if it is none."""
        return self if self._base is None else self._base

    def forget_variants(self) -> None:
        """Forget the variants of a match set that has ended, once their counts are passed on."""
        self.variants = _NO_VARIANTS

    def invalidate(self) -> None:
        """Make every series with this match set look for another one."""
        self.project_epoch = INVALIDATED
        for match_set in self.variants.values():
            match_set.invalidate()

    def __repr__(self) -> str:
        return f"<MatchSet {len(self.sources)} sources, {len(self.sinks)} sinks>"


class RefusedSeries(MatchSet):
    """The match set of series above the limits of their project: no sink gets their samples.

    They count as matched, and as dropped for each sink that would have got them.
    """

    __slots__ = ("_count_drops", "_family")

    def __init__(self, refuses: MatchSet, family: str, count_drops: CountDrops) -> None:
        super().__init__(refuses.home)
        self.refuses = refuses
        self.tally = SeriesTally(refuses.home.tally, is_taken=False, is_refused=True)
        self.project_epoch = refuses.project_epoch
        self.sources = refuses.sources
        self.handled_sinks = tuple(refuses.every_sink())
        self._family = family
        self._count_drops = count_drops

    def flush_counters(self) -> None:
        """Count its samples as matched and as dropped."""
        if self.samples:
            for sink in self.handled_sinks:
                sink.refused += self.samples
            self._count_drops(self._family, PROJECT_LIMIT, self.samples, self.handled_sinks)
        super().flush_counters()


def by_options(targets: Iterable[SinkOutputSpec]) -> dict[OutputOptions, list[SinkOutputSpec]]:
    """Return the targets with equal options together, in their order."""
    found: dict[OutputOptions, list[SinkOutputSpec]] = {}
    for target in targets:
        found.setdefault(target.options, []).append(target)
    return found


NO_MATCH = MatchSet(ProjectEpoch(""))
"""Placeholder until a series is resolved; match sets from the router replace it."""
