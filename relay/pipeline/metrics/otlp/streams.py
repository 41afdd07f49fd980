"""Recognises the streams of OTLP metrics: matches each once, and plans how its points leave.

Rules:

* A stream has a series in the series table, under an origin of its own (the same bytes from remote
  write are another series): so limits, eviction and previews hold for it like for others. Streams
  that selectors cannot tell apart share a series.
* Points leave as they came to OTLP sinks that want their temporality. Delta points go nowhere else;
  cumulative ones become deltas for sinks that want these, or gauges where they do not count up.
* Sinks of remote write get the series that a metric is in Prometheus.
* The work that one request may cause by new streams is bounded, except for a replayed one. Labels
  that are too large are not remembered: after as many bytes of them as a request may have of new
  ones, its unknown streams are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from relay.codec.otlp.any_value import AttributeTexts, resource_attributes
from relay.codec.otlp.groups import MetricGroup
from relay.codec.otlp.metrics import MetricIdentity
from relay.codec.otlp.metrics_in.heads import MetricHead, read_attributes, read_metric
from relay.codec.remote_write.v1 import label_key, parse_labels
from relay.pipeline.batching.emitter import SinkOutput, Stream
from relay.pipeline.drop_counters import TEMPORALITY
from relay.pipeline.limits import Limits
from relay.pipeline.metrics.metadata.metric_types import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    SUMMARY,
)
from relay.pipeline.metrics.metadata.project_types import Declaration
from relay.pipeline.metrics.metadata.type_store import TypeStore
from relay.pipeline.metrics.otlp.converting import Conversion, PrometheusSeries
from relay.pipeline.metrics.otlp.labels import (
    name_of,
    prometheus_labels,
    resource_bytes,
    selected_labels,
    views_of,
)
from relay.pipeline.metrics.otlp.plan import OtlpStream, Plan, Way
from relay.pipeline.metrics.otlp.prometheus_names import unit_name
from relay.pipeline.metrics.otlp.stream_table import (
    MetricEntry,
    MetricsResource,
    MetricsScope,
    StreamTable,
)
from relay.pipeline.metrics.series.lookup import NEW_SERIES_BYTES_MAX, NEW_SERIES_MAX
from relay.pipeline.metrics.series.resolver import Resolver
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.metrics.series.series_table import SeriesTable
from relay.pipeline.metrics.temporality.delta import DeltaStore
from relay.pipeline.routing.match_set import (
    MatchSet,
    RawOutput,
    SinkOutputSpec,
)
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.route import Route
from relay.pipeline.routing.router import Router
from relay.pipeline.routing.tenancy import ACCOUNT_LABELS, IngestPath
from relay.runtime.errors import OverloadedError

PLANS_MAX = 16
"""Plans that a metric keeps for its streams: one for each set of sources that matched any."""
LABELS_MAX = 1 << 20
"""No limit of its own: the labels of a series in the table have passed those of the settings."""
UNSUPPORTED = "unsupported_kind"
TOO_LARGE = "too_large"
UNSPECIFIED = "unspecified_temporality"


class OtlpStreams:
    """Finds the streams of requests and makes those that are new; see :meth:`begin`."""

    def __init__(
        self,
        table: SeriesTable,
        router: Router,
        resolver: Resolver,
        types: TypeStore,
        deltas: DeltaStore,
        limits: Limits,
        tenants: ResourceTenants,
    ) -> None:
        self.table = table
        self.known = StreamTable(entries_max=limits.series_max, idle_s=limits.series_idle_s)
        self._router = router
        self._types = types
        self._drops = resolver.drops
        self._raw = resolver.raw
        self._deltas = deltas
        self._limits = limits
        self._tenants = tenants
        self._bounded = True
        self._new = self._new_bytes = self._too_large_bytes = 0
        self.origin = own_origin(IngestPath())

    def begin(self, origin: IngestPath, *, bounded: bool) -> None:
        """Begin a request, with the tenant of its path; ``bounded``: limits of work apply."""
        self.origin = own_origin(origin)
        self._bounded = bounded
        self._new = self._new_bytes = self._too_large_bytes = 0
        self.table.select_scope(self.origin)

    @property
    def unmatched(self) -> MatchSet:
        """The match set of points without a project."""
        return self._router.match({}, "")[0]

    def resource(self, head: bytes) -> MetricsResource:
        """Return a resource by the bytes of its head. Raise DecodeError and OverloadedError."""
        found = self.known.resource(self.origin, head)
        if found is None:
            self._count_new(len(head))
            attributes = resource_attributes(head)
            project = self._tenants.project_of(attributes, self.origin)
            if self.origin.by_labels:
                attributes = [one for one in attributes if one[0] not in ACCOUNT_LABELS]
            found = self.known.add_resource(self.origin, head, attributes, project)
            most = self._limits.series_bytes_max
            found.is_too_large = resource_bytes(attributes, most) > most
        return found

    def metric(
        self, scope: MetricsScope, key: bytes, head: bytes, number: int, tail: bytes
    ) -> MetricEntry:
        """Return a metric by the bytes of its head and data.

        Raise DecodeError and OverloadedError.
        """
        found = scope.children.get(key)
        if found is None:
            self._count_new(len(key))
            parts = read_metric(head, number, tail)
            name = name_of(parts)
            identity = MetricIdentity(
                name,
                parts.kind,
                parts.monotonic,
                temporality="delta" if parts.temporality == "delta" else "cumulative",
            )
            group = MetricGroup.as_came(scope.group, identity, head, tail)
            found = MetricEntry(scope, key, head, parts, name, group)
            self.known.add_metric(found)
        return found

    def refresh(self, metric: MetricEntry, attributes: bytes, stream: OtlpStream | None) -> str:
        """Make a stream, or bring one up to date; return a reason why it cannot be used, or "".

        Raise DecodeError where its attributes cannot be read, OverloadedError for too many new
        ones.
        """
        fault = _fault(metric.parts)
        if not fault and (
            len(attributes) > self._limits.series_bytes_max
            or metric.scope.resource.is_too_large
            or (stream is None and self._too_large_bytes > NEW_SERIES_BYTES_MAX)
        ):
            fault = TOO_LARGE
        if fault:
            return fault
        if stream is None or stream.series.generation < 0:
            texts = read_attributes(attributes, metric.parts.kind)
            series, fault = self._series(metric, texts)
            if fault:
                return fault
            if stream is None:
                stream = OtlpStream(attributes, series)
                self.known.add_stream(metric, stream)
            stream.series = series
        else:
            series = stream.series
            if series.generation != self.table.generation:
                self.table.find(series.key)  # marks it as seen
                self._refresh(series, metric)
        if stream.match_set is not series.match_set:
            stream.plan = self._plan(metric, attributes, series)
            stream.match_set = series.match_set
        stream.generation = self.table.generation
        return ""

    def _series(self, metric: MetricEntry, point: AttributeTexts) -> tuple[Series, str]:
        """Return the series of a stream, up to date, and why it cannot be used, or ""."""
        scope = metric.scope
        labels = selected_labels(
            metric.name, metric.parts, scope.resource.attributes, scope.parts, point
        )
        key = label_key(sorted(labels.items()))
        if len(point) > self._limits.labels_max:
            return Series(key), "too_many_labels"
        if len(key) > self._limits.series_bytes_max:
            self._too_large_bytes += len(key)
            return Series(key), TOO_LARGE
        series = self.table.find(key)
        if series is not None:
            if series.generation != self.table.generation:
                self._refresh(series, metric)
            return series, ""
        series = Series(key)
        series.name = metric.name
        project = scope.resource.project or ""
        series.types = self._types.of(project)
        match_set, matched = self._router.match_views(views_of(labels), project)
        if matched:
            tally = match_set.tally.project
            if tally.is_limited and not tally.takes(key, known=False):
                match_set = match_set.refusal(metric.name, self._drops.count)
        self._set(series, match_set)
        self._count_new(len(key))
        self.table.add(series, series.types.share)
        return series, ""

    def _refresh(self, series: Series, metric: MetricEntry) -> None:
        """Match a series once more if that may have changed."""
        before = series.match_set
        if series.resolved_version != before.project_epoch.version:
            labels = dict(parse_labels(series.key, labels_max=LABELS_MAX))
            match_set, matched = self._router.match_views(
                views_of(labels), metric.scope.resource.project or ""
            )
            is_known = bool(before.matched) and before.home is match_set.home
            if matched and not match_set.home.tally.takes(series.key, known=is_known):
                match_set = match_set.refusal(metric.name, self._drops.count)
            if match_set is not before:
                before.tally.leave()
                match_set.tally.enter()
            self._set(series, match_set)
        series.generation = self.table.generation

    @staticmethod
    def _set(series: Series, match_set: MatchSet) -> None:
        series.match_set = match_set
        series.resolved_version = match_set.project_epoch.version

    def _count_new(self, key_bytes: int) -> None:
        """Count a new stream or head; raise OverloadedError for too many in one request."""
        if not self._bounded:
            return
        self._new += 1
        self._new_bytes += key_bytes
        if self._new > NEW_SERIES_MAX:
            raise OverloadedError(f"over {NEW_SERIES_MAX} new streams and metrics in one request")
        if self._new_bytes > NEW_SERIES_BYTES_MAX:
            raise OverloadedError(
                f"over {NEW_SERIES_BYTES_MAX} bytes of new streams in one request"
            )

    def _plan(self, metric: MetricEntry, attributes: bytes, series: Series) -> Plan:
        """Return how the points of a stream leave."""
        match_set = series.match_set
        shared = metric.plans.get(match_set)
        if shared is not None:
            return shared
        if not match_set.matched:
            return self._keep(metric, match_set, Plan(metric.name, match_set))
        dealt = _Dealt(metric.parts, match_set)
        ways: list[Way] = []
        if dealt.as_came:
            ways.append(_way(metric.group, dealt.as_came))
        if dealt.as_gauges:
            identity = replace(metric.group.identity, kind="gauge", monotonic=False)
            ways.append(_way(metric.as_identity(identity), dealt.as_gauges))
        make_routes = partial(self._routes, metric, series, attributes, match_set.raw_outputs)
        numbers = match_set.raw_outputs if dealt.as_samples else ()
        converts = None
        if dealt.as_deltas or dealt.as_series:
            deltas = self._deltas_of(metric, attributes, dealt.as_deltas)
            in_prometheus = None
            if dealt.as_series:
                in_prometheus = PrometheusSeries(
                    metric.name, match_set.raw_outputs, make_routes, self._drops
                )
            targets = [*dealt.as_deltas, *dealt.as_series]
            converts = Conversion(deltas, in_prometheus, targets)
        direct = [*dealt.as_came, *dealt.as_gauges, *dealt.as_samples]
        lost = [target for _, targets in dealt.omitted for target in targets]
        plan = Plan(
            metric.name,
            match_set.variant(direct, [*dealt.as_deltas, *dealt.as_series, *lost]),
            tuple(ways),
            routes=make_routes("", ("", "")) if numbers else (),
            tells_start=any(one.options.protocol == "remoteWrite2" for one in numbers),
            converts=converts,
            omitted=tuple(dealt.omitted),
        )
        return self._keep(metric, match_set, plan) if plan.is_shared else plan

    @staticmethod
    def _keep(metric: MetricEntry, match_set: MatchSet, plan: Plan) -> Plan:
        if len(metric.plans) >= PLANS_MAX:
            # Those of match sets that have ended keep removed sinks alive.
            metric.plans.clear()
        metric.plans[match_set] = plan
        return plan

    def _routes(
        self,
        metric: MetricEntry,
        series: Series,
        attributes: bytes,
        outputs: Sequence[RawOutput],
        suffix: str,
        label: tuple[str, str],
    ) -> tuple[Route, ...]:
        """Return the routes of a series in Prometheus to the sinks of remote write.

        ``suffix`` is behind the metric's name, ``label`` beside the attributes; both may be empty.
        """
        name = metric.name + suffix
        texts = read_attributes(attributes, metric.parts.kind)
        labels = prometheus_labels(name, metric.scope.resource.attributes, texts)
        if label[0]:
            labels[label[0]] = label[1]
        project = metric.scope.resource.project or ""
        declared = self._declaration(metric.parts, series)
        if (
            declared is not None
            and any(tells_families(output) for output in outputs)
            and series.types.learn(metric.name, declared.metadata)
        ):
            self.table.invalidate()
        key = label_key(sorted(labels.items()))
        routes, _ = self._raw.attach(key, name, project, declared, outputs)
        return routes

    def _declaration(self, parts: MetricHead, series: Series) -> Declaration | None:
        """Return what sinks that take metadata are told of a metric."""
        kind = {"histogram": HISTOGRAM, "exponential_histogram": HISTOGRAM, "summary": SUMMARY}.get(
            parts.kind, COUNTER if parts.monotonic else GAUGE
        )
        found = self._types.declaration(kind, parts.description, unit_name(parts.unit))
        return series.types.believed(found) if found is not None else None

    def _deltas_of(
        self, metric: MetricEntry, attributes: bytes, targets: Sequence[SinkOutputSpec]
    ) -> Stream | None:
        """Return the stream that turns cumulative points into deltas; None for no sinks."""
        if not targets:
            return None
        identity = replace(metric.group.identity, temporality="delta")
        group = metric.as_identity(identity)
        scope = metric.scope
        project = scope.resource.project or ""
        place = ("otlp", scope.resource.head, scope.head, metric.key, attributes)
        delta = self._deltas.delta(project, place, identity.kind)
        outlets = tuple(SinkOutput(target.shard(group), target.counter) for target in targets)
        return Stream(group, attributes, outlets, self._drops, delta)

    def __repr__(self) -> str:
        return f"<OtlpStreams {self.known!r}>"


class _Dealt:
    """The sinks of a match set, by the form in which they get the points of a metric."""

    def __init__(self, metric: MetricHead, match_set: MatchSet) -> None:
        self.as_came: list[SinkOutputSpec] = []
        self.as_gauges: list[SinkOutputSpec] = []
        self.as_deltas: list[SinkOutputSpec] = []
        self.as_samples: list[SinkOutputSpec] = []
        self.as_series: list[SinkOutputSpec] = []
        self.omitted: list[tuple[str, list[SinkOutputSpec]]] = []
        losing: dict[str, list[SinkOutputSpec]] = {}
        for target in match_set.typed:
            reason = self._deal(metric, target)
            if reason:
                losing.setdefault(reason, []).append(target)
        if metric.temporality == "delta":
            losing.setdefault(TEMPORALITY, []).extend(match_set.raw)
        elif metric.kind in ("gauge", "sum"):
            self.as_samples.extend(match_set.raw)
        else:
            self.as_series.extend(match_set.raw)
        losing = {reason: targets for reason, targets in losing.items() if targets}
        self.omitted = list(losing.items())

    def _deal(self, metric: MetricHead, target: SinkOutputSpec) -> str:
        """Decide for one sink of OTLP; return the reason why it gets none, or ""."""
        options = target.options
        if metric.kind in options.unsupported:
            return UNSUPPORTED
        if not metric.temporality or metric.temporality == options.temporality:
            self.as_came.append(target)
        elif metric.temporality == "delta":
            return TEMPORALITY
        elif metric.kind == "sum" and not metric.monotonic:
            self.as_gauges.append(target)
        else:
            self.as_deltas.append(target)
        return ""


def _way(group: MetricGroup, targets: Iterable[SinkOutputSpec]) -> Way:
    return group, tuple(target.shard(group) for target in targets)


def _fault(metric: MetricHead) -> str:
    """Return why no point of a metric can be used, or ""."""
    if not metric.name:
        return "missing_name"
    return UNSPECIFIED if metric.temporality == "unspecified" else ""


def tells_families(output: RawOutput) -> bool:
    """Return whether sinks are told metadata by families, apart from series."""
    return output.options.sends_metadata and output.options.protocol == "remoteWrite1"


@lru_cache(maxsize=1024)
def own_origin(origin: IngestPath) -> IngestPath:
    """Return the origin of streams whose requests came by this path."""
    return origin._replace(is_otlp=True)
