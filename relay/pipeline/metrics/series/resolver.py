"""Resolves a series: its routes, its handlers, and the counters of both.

Runs once per series, and again when something changed that the result depends on: exporters, the
metric's type, the resource of its target, the sources that take its family as a whole. For every
source that matched and every sink that it feeds, one of these happens:

0. The sink takes series as they came (:mod:`relay.pipeline.metrics.raw`): a route, whatever the
   type. The others are *typed* targets:
1. The sink wants the samples as they are, numbers: a route, which costs a prefix and sixteen bytes
   a sample.
2. Samples must pass through state first: deltas, or the members of a histogram or summary that the
   source takes as a whole. That is a handler.
3. OTLP cannot express them, or they only describe other series (``target_info``): a handler that
   counts.
4. Native histograms come on series like any other and are told apart by their samples only: they
   have a route of their own, made when the first one comes
   (:mod:`relay.pipeline.metrics.series.native_routes`).

Targets with equal options share everything that is made for them but their batches. A series above
the limits of its project has neither routes nor handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from relay.codec.otlp.data_points import encode_attributes
from relay.codec.otlp.groups import MetricGroup
from relay.codec.otlp.metrics import Kind, MetricIdentity
from relay.codec.remote_write.label_parser import SeriesLabels
from relay.codec.remote_write.v1 import Labels
from relay.pipeline.batching.emitter import NumberHandler, SampleProcessor, SinkOutput, Stream
from relay.pipeline.batching.unfinished import WaitingList
from relay.pipeline.drop_counters import DropTable
from relay.pipeline.metrics.histograms.assembler import Assembly, Discard, Enrolment
from relay.pipeline.metrics.metadata.metadata_wait import MetadataWait
from relay.pipeline.metrics.metadata.metric_types import (
    NOTHING_SAID,
    TYPE_NUMBERS,
    UNKNOWN,
    MetricName,
    Typing,
)
from relay.pipeline.metrics.metadata.project_types import Declaration
from relay.pipeline.metrics.metadata.type_store import TypeStore
from relay.pipeline.metrics.raw.routes import RawRoutes, has_metadata
from relay.pipeline.metrics.series.routes_after_wait import (
    first_samples,
    give_routes,
    hand_over,
    is_current,
    prepare,
)
from relay.pipeline.metrics.series.series import Series, set_route
from relay.pipeline.metrics.temporality.delta import DeltaStore
from relay.pipeline.metrics.temporality.wanted import as_wanted
from relay.pipeline.metrics.translate.attribute_names import METADATA_LABELS
from relay.pipeline.metrics.translate.info_samples import Described
from relay.pipeline.metrics.translate.target_info import (
    KEY_LABELS,
    TARGET_INFO,
    Resource,
    TargetInfoStore,
    TargetKey,
)
from relay.pipeline.metrics.translate.translator import Translator
from relay.pipeline.routing.match_set import MatchedSource, MatchSet, SinkOutputSpec, by_options
from relay.pipeline.routing.route import Route, VersionedDependency
from relay.pipeline.routing.router import Router

VERSION_MASK = 0x7FFFFFFF
"""A series keeps as much of its dependencies' versions: that they differ is all that counts."""

View = Callable[[], tuple[SeriesLabels, str]]
"""Returns a series' public labels and its project."""

_ASKED_FOR = (*METADATA_LABELS, *KEY_LABELS, "quantile")
"""Labels that are looked up for every series."""


class Learned(NamedTuple):
    """State learned from series on which the routes of others depend."""

    types: TypeStore
    resources: TargetInfoStore


class Resolver:
    """Makes routes and handlers; owns no series and no points."""

    def __init__(  # noqa: PLR0913 - a composition point: every setting is named once, here
        self,
        router: Router,
        translator: Translator,
        learned: Learned,
        deltas: DeltaStore,
        waiting: WaitingList,
        *,
        wait_s: float,
        first_sight_s: float,
        families_max: int,
        samples_max: int,
    ) -> None:
        self.drops = DropTable()
        self.assembly = Assembly(
            router,
            learned.resources,
            self.streams,
            waiting,
            self.drops,
            wait_s=wait_s,
            families_max=families_max,
            samples_max=samples_max,
        )
        self.first_sight = MetadataWait(
            learned.types,
            waiting,
            partial(prepare, self),
            partial(is_current, self),
            partial(give_routes, self),
            wait_s=first_sight_s,
            families_max=families_max,
        )
        self._has_wait = self.first_sight.enabled
        self._passes = self.first_sight.passes
        self._assembly_changes = self.assembly.changes
        self.raw = RawRoutes(learned.types)
        learned.types.told = self._told
        self.router = router
        self._translator = translator
        self.types = learned.types
        self._latest = learned.types.platform
        self._latest_target: tuple[tuple[str | None, ...], TargetKey] = ((), ())
        self.resources = learned.resources
        self._deltas = deltas
        self._changed = False

    def resolve(
        self,
        series: Series,
        labels: SeriesLabels,
        project: str,
        metric: MetricName,
        declared: Declaration | None = None,
    ) -> None:
        """Set all fields of a new series, named ``metric``, that depend on others than its key.

        ``declared`` is the declaration that came with it.
        """
        name = series.name
        types = self._latest
        if project != types.project:
            types = self._latest = self.types.of(project)
        series.types = types
        resource: Resource | None = None
        values = labels.values_of(_ASKED_FOR)
        type_name, unit, job, instance, quantile = values
        if values is not self._latest_target[0]:  # as those of the series before mostly are
            self._latest_target = (values, (job, instance))
        key = self._latest_target[1]
        if types.teaches:
            # A target is kept as long as it is used: find it before learning about it.
            if metric.describes:
                resource = self.resources.find(labels, project)
                self.resources.learn(labels, project)
            elif quantile is not None:
                self._changed |= types.see_sibling(name, "quantile")
            elif metric.is_bucket and ("le" in labels or "vmrange" in labels):
                self._changed |= types.see_sibling(name, "bucket")
            if type_name is not None or unit is not None:
                own = self.types.declaration(TYPE_NUMBERS.get(type_name or "", 0), "", unit or "")
                if own is not None:
                    series.declared = own = types.believed(own)
                    self._changed |= types.declare(name, own)
                elif not unit:
                    # Unknown type, "unknown" included: the declaration has texts only.
                    self._changed |= types.learn(name, NOTHING_SAID)
            if declared is not None:
                series.declared = declared = types.believed(declared)
                self._changed |= types.declare(name, declared)
        match_set, matched = self.router.match(labels, project)
        if matched:
            tally = match_set.tally
            if tally.project.is_limited and not tally.project.takes(series.key, known=False):
                match_set, matched = match_set.refusal(name, self.drops.count), ()
        series.match_set = match_set
        if matched or resource is not None:
            self._attach(series, labels, project, matched, key, False)
        else:
            # No sink takes it: a new series has no routes as it is.
            series.resolved_version = match_set.project_epoch.version

    def re_resolve(self, series: Series, view: View) -> None:
        """Bring a resolved series up to date, as cheaply as possible."""
        own = series.match_set.base
        before = own.refuses or own
        match_set, matched = self.router.match_changed_only(before, series.resolved_version, view)
        is_known = bool(own.matched) and own.home is match_set.home
        if matched and not match_set.home.tally.takes(series.key, known=is_known):
            match_set, matched = match_set.refusal(series.name, self.drops.count), ()
        if match_set is not own:
            own.tally.leave()
            match_set.tally.enter()
        if match_set is own and self._is_translated(series):
            series.resolved_version = match_set.project_epoch.version
            return
        is_plain = before.is_plain and match_set.is_plain and matched
        if is_plain and series.routes and not series.handlers and self._is_translated(series):
            # Other sinks, the same points.
            _, group, prefix = series.routes[0]
            assert isinstance(group, MetricGroup), "only typed targets are plain"
            series.match_set = match_set
            series.native = None
            series.routes = ((match_set.batches(group), group, prefix),)
            series.resolved_version = match_set.project_epoch.version
            return
        labels, project = view()
        waits = self.first_sight.find(series, project) is not None
        series.match_set = match_set
        series.routes = ()
        series.handlers = ()
        series.metric_type = series.native = None
        series.dependencies = ()
        self._attach(series, labels, project, matched, labels.values_of(KEY_LABELS), waits)

    def declare(self, series: Series, declared: Declaration) -> None:
        """Set the declaration of a series that was resolved before."""
        series.declared = declared
        if has_metadata(series.dependencies):
            series.dependency_version = -1  # the declaration stands in its prefixes
        first = self.first_sight.find(series, series.types.project) or first_samples(series)
        if first is not None:
            first.declared = declared

    def is_fresh(self, series: Series) -> bool:
        """Return True if nothing changed that the routes of a good series depend on."""
        match_set = series.match_set
        if series.resolved_version != match_set.project_epoch.version:
            return False
        return self._is_translated(series)

    def _is_translated(self, series: Series) -> bool:
        if series.metric_type is not None:
            typing = self._typing(series)
            if typing is not series.metric_type and typing != series.metric_type:
                return False
        return _seen(series.dependencies) == series.dependency_version

    def _told(self, project: str, family: str) -> None:
        """Pass on that metadata of a family changed; see :attr:`TypeStore.told`."""
        self.first_sight.learned(project, family)
        self.raw.metadata.learned(project, family)

    def _typing(self, series: Series) -> Typing:
        """Return the typing of a series by its name and declaration."""
        types = series.types
        if series.declared is None:
            known = types.young.get(series.name)
            if known is not None:
                return known
        return types.typing(series.name, series.declared)

    def sweep_raw(self, tick: float, live: int) -> bool:
        """Look after raw routes and refused series; return True if series may need new routes.

        ``live``: the number of series; ``tick``: the monotonic clock, s.
        """
        changed = False
        if self.raw.is_used:
            self.raw.metadata.tick(tick)
            renewed = self.raw.renew(live)
            if renewed:
                self.router.renew_raw()
            changed = self.raw.metadata.take_changed() | renewed
        return changed | self.router.readmit(tick)

    def pop_changed(self) -> bool:
        """Return True if state that other series depend on changed since the last call."""
        if not (self._changed or self.resources.changed or self._assembly_changes.pending):
            return False
        self._changed = False
        # Call all: each resets its own flag.
        self.resources.take_changed()
        self.assembly.take_changed()
        return True

    def streams(
        self,
        labels: Labels,
        project: str,
        identity: MetricIdentity,
        targets: Iterable[SinkOutputSpec],
    ) -> tuple[Stream, ...]:
        """Return the streams of one identity, one for all targets with equal options."""
        kind = identity.kind
        wanting = [target for target in targets if kind not in target.options.unsupported]
        resource = self.resources.find(dict(labels), project)
        streams = []
        for options, alike in by_options(wanting).items():
            wanted = as_wanted(identity, options)
            translation = self._translator.translate(
                labels,
                target=resource.attributes,
                promoted=options.promoted,
                keeps_target_labels=options.keeps_target_labels,
            )
            group = self._translator.group(translation, wanted)
            encoded = encode_attributes(translation.attributes, wanted.kind)
            outlets = tuple(SinkOutput(target.shard(group), target.counter) for target in alike)
            delta = None
            if wanted.temporality == "delta":
                # Sorted: the delta state must be found again after a restart.
                place = (project, labels, sorted(options.promoted), sorted(options.unsupported))
                # Written by name only if set, so that states of other sinks keep their key.
                kept = ("keeps_target_labels",) if options.keeps_target_labels else ()
                delta = self._deltas.delta(project, (*place, *kept), wanted.kind)
            streams.append(Stream(group, encoded, outlets, self.drops, delta))
        return tuple(streams)

    def _attach(
        self,
        series: Series,
        labels: SeriesLabels,
        project: str,
        matched: tuple[MatchedSource, ...],
        key: TargetKey,
        waits: bool,
    ) -> None:
        """Make the routes and handlers of a series that matched these sources, and has none."""
        match_set = series.match_set
        is_plain = match_set.is_plain
        told: tuple[VersionedDependency, ...] = ()
        if not is_plain and match_set.raw:
            # Whatever its type, and before it is known.
            series.routes, told = self.raw.attach(
                labels.key, series.name, project, series.declared, match_set.raw_outputs
            )
            series.dependencies = told
            matched = matched if match_set.typed else ()
        if matched:
            # An info series keeps its target alive for other series that come later.
            facts = self.resources.facts(key, project)
            resource = facts[0]
            series.dependencies = facts + told if told else facts
            known: Typing | None = None
            if self._has_wait:
                if series.declared is None:
                    types = series.types
                    known = types.young.get(series.name)  # as _typing, but computing nothing
                if known is None or known.passed != self._passes.number:
                    known = None
                    if self._let_wait(series, labels, project, waits):
                        return
            self.place(series, labels, project, resource, known)
            return
        if series.name == TARGET_INFO:
            series.dependencies = self.resources.facts(key, project) + told
        series.resolved_version = series.match_set.project_epoch.version
        series.dependency_version = _seen(series.dependencies)

    def place(
        self,
        series: Series,
        labels: SeriesLabels,
        project: str,
        resource: Resource,
        known: Typing | None = None,
    ) -> None:
        """Make typed routes and handlers of a series that matched; ``known``: its typing."""
        match_set = series.match_set
        typing = known if known is not None else self._typing(series)
        series.metric_type = typing
        if typing.is_plain and match_set.is_plain:
            prefix = self._translator.prefix(labels, typing.identity, resource)
            group = self._translator.placed
            assert group is not None
            set_route(series, match_set.batches(group), group, prefix)
            series.resolved_version = match_set.project_epoch.version
            series.dependency_version = resource.version & VERSION_MASK
            return
        reason = TARGET_INFO if series.name == TARGET_INFO else typing.refused
        if reason:
            series.match_set = match_set.variant(match_set.raw, match_set.typed)
            series.handlers = (self._discard(typing, reason, match_set.typed),)
        else:
            self._share_out(series, labels, project, typing, resource)
        series.resolved_version = series.match_set.project_epoch.version
        series.dependency_version = _seen(series.dependencies)

    def _discard(
        self, typing: Typing, reason: str, targets: Iterable[SinkOutputSpec]
    ) -> SampleProcessor:
        """Return the handler of samples that become no point."""
        counters = tuple(target.counter for target in targets)
        if reason == TARGET_INFO:
            return Described(self.assembly.outcomes, reason, counters)
        return Discard(self.assembly, typing.identity.name, reason, counters)

    def _let_wait(self, series: Series, labels: SeriesLabels, project: str, waits: bool) -> bool:
        """Let a series' samples wait for metadata if its type is unknown; return whether they do.

        ``waits``: samples of it wait already.
        """
        declared = series.declared
        name = series.name
        if name == TARGET_INFO:
            return False
        if declared is not None and declared.metadata.type != UNKNOWN and not waits:
            return False
        family = self.first_sight.family(name, project)
        if family is None:
            return False
        series.match_set = series.match_set.variant(series.match_set.raw, series.match_set.typed)
        first = self.first_sight.handler(family, series, labels, declared)
        hand_over(self.drops, first, series.match_set.handled_sinks)
        series.handlers = (first,)
        series.dependencies = (*series.dependencies, family.fact)
        series.resolved_version = series.match_set.project_epoch.version
        series.dependency_version = _seen(series.dependencies)
        return True

    def _share_out(
        self, series: Series, labels: SeriesLabels, project: str, typing: Typing, resource: Resource
    ) -> None:
        """Set the routes and handlers through which every sink gets a series' samples."""
        match_set = series.match_set
        enrolment, whole, delta, direct = self._deal(labels, project, typing, match_set)
        series.routes += self._routes(labels, typing.identity, direct, resource)
        handlers: list[SampleProcessor] = []
        if enrolment is not None:
            series.dependencies = (*series.dependencies, enrolment.family.fact)
            if whole:
                handlers.append(enrolment.handler)
        if delta:
            pairs = sorted(labels.items())
            streams = self.streams(pairs, project, typing.identity, delta)
            handlers.append(NumberHandler(streams, routed=bool(direct), counts=not whole))
        if handlers:
            series.match_set = match_set.variant((*match_set.raw, *direct), (*whole, *delta))
            series.handlers = tuple(handlers)

    def _deal(
        self, labels: SeriesLabels, project: str, typing: Typing, match_set: MatchSet
    ) -> tuple[Enrolment | None, list[SinkOutputSpec], list[SinkOutputSpec], list[SinkOutputSpec]]:
        """Decide for every typed target how it gets a series' samples.

        With the whole family, as deltas, or as they are.
        """
        enrolment: Enrolment | None = None
        kind: Kind | None = None
        if typing.family is not None:
            kind = typing.family.kind
            enrolment = self.assembly.enrol(labels, project, typing, match_set.matched)
        whole: list[SinkOutputSpec] = []
        delta: list[SinkOutputSpec] = []
        direct: list[SinkOutputSpec] = []
        for source in match_set.matched:
            takes_whole = enrolment is not None and source in enrolment.family.sources
            for target in source.typed:
                options = target.options
                if takes_whole and kind not in options.unsupported:
                    whole.append(target)
                elif options.temporality == "delta" and typing.identity.monotonic:
                    delta.append(target)
                else:
                    direct.append(target)
        return enrolment, whole, delta, direct

    def _routes(
        self,
        labels: SeriesLabels,
        identity: MetricIdentity,
        targets: Iterable[SinkOutputSpec],
        resource: Resource,
    ) -> tuple[Route, ...]:
        routes: list[Route] = []
        for options, alike in by_options(targets).items():
            group, prefix = self._translator.place(
                labels,
                as_wanted(identity, options),
                resource,
                options.promoted,
                options.keeps_target_labels,
            )
            routes.append((tuple(target.shard(group) for target in alike), group, prefix))
        return tuple(routes)

    def __repr__(self) -> str:
        return f"<Resolver of {self.router!r}>"


def _seen(dependencies: tuple[VersionedDependency, ...]) -> int:
    """Return the sum of the dependencies' versions, which changes with each of them."""
    version = 0
    for dependency in dependencies:
        version += dependency.version
    return version & VERSION_MASK
