"""Our own metrics, in one catalogue.

Rules:

* :data:`CATALOGUE` is the only place where a metric of ours has its name, help, type and labels.
* Nothing here is touched per sample. Counters are plain integers where they arise; a scrape asks
  the injected provider for one frozen :class:`Snapshot` and turns it into metric families. A
  scrape is therefore consistent: a sink's ledger balances within it.
* A snapshot is plain values, so it may be taken on the event loop and written out in a thread: with
  10,000 sinks the text is 17 MB and costs prometheus-client 1.3 s (as OpenMetrics 2.1 s).
* Whatever can be counted is exported from the first scrape on, as 0, because ``rate()`` misses
  the step from absent to 1. Reasons that are open sets (why points failed) appear when they first
  happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

Kind = Literal["counter", "gauge", "info"]
Row = tuple[tuple[str, ...], float]
"""Label values in the order of the metric's label names, and the value."""


@dataclass(frozen=True, slots=True)
class IngestFigures:
    """What the ingest listener has answered. Counters since the start, except ``in_flight``.

    ``requests`` by status code; ``refused`` by reason, requests of which nothing was taken;
    ``partial`` requests of which the good part was taken; ``compressed_bytes`` of bodies as they
    came, ``decoded_bytes`` of the same after decompression; ``in_flight`` requests that hold one of
    the places for concurrent requests now.
    """

    requests: Mapping[int, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    partial: int = 0
    compressed_bytes: int = 0
    decoded_bytes: int = 0
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """Samples that one source of one exporter has matched."""

    exporter: str
    source: str
    matched_samples: int = 0


@dataclass(frozen=True, slots=True)
class SinkFigures:
    """One sink's ledger and health.

    ``matched_points = delivered + sum(rejected) + expired + sum(dropped) + queued_points``, where
    ``queued_points`` includes the open batch. ``rejected`` and ``dropped`` by reason;
    ``requests`` by result. ``oldest_point_age_s`` is 0 while nothing is queued;
    ``last_success_at`` is in seconds since the epoch, 0 before the first delivery.
    """

    exporter: str
    sink: str
    matched_points: int = 0
    matched_samples: int = 0
    delivered: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    expired: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    queued_points: int = 0
    queue_bytes: int = 0
    queue_bytes_max: int = 0
    oldest_point_age_s: float = 0.0
    requests: Mapping[str, int] = field(default_factory=dict)
    sent_bytes: int = 0
    last_success_at: float = 0.0
    paused: bool = False
    internal_errors: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a scrape shows, as it was at one moment.

    ``received_samples`` by protocol and ``dropped_samples`` by reason count before matching, each
    received sample once; ``unmatched_samples`` were good and nobody wanted them. ``loop_lag_*_s``
    is by how much the event loop came late: the last time it was measured, and the worst of the
    last minute.
    """

    version: str = ""
    build: str = ""
    ingest: IngestFigures = IngestFigures()
    received_samples: Mapping[str, int] = field(default_factory=dict)
    dropped_samples: Mapping[str, int] = field(default_factory=dict)
    unmatched_samples: int = 0
    sources: tuple[SourceFigures, ...] = ()
    sinks: tuple[SinkFigures, ...] = ()
    series_active: int = 0
    series_created: int = 0
    series_forgotten: Mapping[str, int] = field(default_factory=dict)
    series_retyped: int = 0
    metadata_families: int = 0
    exporters: int = 0
    exporter_faults: int = 0
    selectors_always_asked: int = 0
    inventory_objects: Mapping[str, int] = field(default_factory=dict)
    ingest_next_position: int = 0
    ingest_oldest_held_position: int = 0
    loop_lag_last_s: float = 0.0
    loop_lag_max_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric of ours: what it is called and how its rows are read from a snapshot."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    rows: Callable[[Snapshot], Iterable[Row]]

    def family(self, snapshot: Snapshot) -> Metric:
        """This metric as prometheus-client wants it."""
        if self.kind == "info":
            info = InfoMetricFamily(self.name.removesuffix("_info"), self.help, labels=())
            for values, _ in self.rows(snapshot):
                info.add_metric((), dict(zip(self.labels, values, strict=True)))
            return info
        made = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = made(self.name, self.help, labels=self.labels)
        for values, value in self.rows(snapshot):
            family.add_metric(values, value)
        return family


def _one(read: Callable[[Snapshot], float]) -> Callable[[Snapshot], Iterable[Row]]:
    """Rows of a metric without labels."""
    return lambda snapshot: (((), read(snapshot)),)


def _by(read: Callable[[Snapshot], Mapping[str, int]]) -> Callable[[Snapshot], Iterable[Row]]:
    """Rows of a metric whose one label is the key of a mapping."""
    return lambda snapshot: (((key,), value) for key, value in read(snapshot).items())


def _per_sink(read: Callable[[SinkFigures], float]) -> Callable[[Snapshot], Iterable[Row]]:
    """Rows of a metric with labels ``exporter`` and ``sink``."""
    return lambda snapshot: (((sink.exporter, sink.sink), read(sink)) for sink in snapshot.sinks)


def _sink_outcomes(snapshot: Snapshot) -> Iterator[Row]:
    for sink in snapshot.sinks:
        yield (sink.exporter, sink.sink, "delivered"), sink.delivered
        yield (sink.exporter, sink.sink, "rejected"), sum(sink.rejected.values())
        yield (sink.exporter, sink.sink, "expired"), sink.expired
        yield (sink.exporter, sink.sink, "dropped"), sum(sink.dropped.values())


def _sink_failures(snapshot: Snapshot) -> Iterator[Row]:
    for sink in snapshot.sinks:
        for reason, points in sink.rejected.items():
            yield (sink.exporter, sink.sink, "rejected", reason), points
        for reason, points in sink.dropped.items():
            yield (sink.exporter, sink.sink, "dropped", reason), points


def _sink_requests(snapshot: Snapshot) -> Iterator[Row]:
    for sink in snapshot.sinks:
        for result, requests in sink.requests.items():
            yield (sink.exporter, sink.sink, result), requests


_SINK = ("exporter", "sink")

CATALOGUE: tuple[MetricSpec, ...] = (
    MetricSpec(
        "relay_build_info",
        "info",
        "The version that runs, and whether its kernel is compiled.",
        ("version", "build"),
        lambda s: (((s.version, s.build), 1),),
    ),
    # Ingest.
    MetricSpec(
        "relay_requests_total",
        "counter",
        "Remote-write requests answered, by status code.",
        ("code",),
        lambda s: (((str(code),), count) for code, count in s.ingest.requests.items()),
    ),
    MetricSpec(
        "relay_refused_requests_total",
        "counter",
        "Remote-write requests of which nothing was taken, by reason.",
        ("reason",),
        _by(lambda s: s.ingest.refused),
    ),
    MetricSpec(
        "relay_partial_requests_total",
        "counter",
        "Remote-write requests of which the good part was taken and a faulty part was not.",
        (),
        _one(lambda s: s.ingest.partial),
    ),
    MetricSpec(
        "relay_received_bytes_total",
        "counter",
        "Bytes of request bodies: compressed as they came, decoded after decompression.",
        ("stage",),
        lambda s: (
            (("compressed",), s.ingest.compressed_bytes),
            (("decoded",), s.ingest.decoded_bytes),
        ),
    ),
    MetricSpec(
        "relay_requests_in_flight",
        "gauge",
        "Remote-write requests whose body is being read or taken in now.",
        (),
        _one(lambda s: s.ingest.in_flight),
    ),
    MetricSpec(
        "relay_ingest_next_position",
        "gauge",
        "Position that the next accepted request will get.",
        (),
        _one(lambda s: s.ingest_next_position),
    ),
    MetricSpec(
        "relay_ingest_oldest_held_position",
        "gauge",
        "Oldest accepted request that still has points on their way; the next one where none has.",
        (),
        _one(lambda s: s.ingest_oldest_held_position),
    ),
    # Samples and series.
    MetricSpec(
        "relay_received_samples_total",
        "counter",
        "Samples received, by protocol.",
        ("protocol",),
        _by(lambda s: s.received_samples),
    ),
    MetricSpec(
        "relay_dropped_samples_total",
        "counter",
        "Samples dropped before matching, by reason.",
        ("reason",),
        _by(lambda s: s.dropped_samples),
    ),
    MetricSpec(
        "relay_unmatched_samples_total",
        "counter",
        "Good samples that no exporter wanted.",
        (),
        _one(lambda s: s.unmatched_samples),
    ),
    MetricSpec(
        "relay_matched_samples_total",
        "counter",
        "Samples matched by a source of an exporter.",
        ("exporter", "source"),
        lambda s: (((row.exporter, row.source), row.matched_samples) for row in s.sources),
    ),
    MetricSpec(
        "relay_series_active", "gauge", "Series known now.", (), _one(lambda s: s.series_active)
    ),
    MetricSpec(
        "relay_series_created_total",
        "counter",
        "Series seen for the first time, or again after they were forgotten.",
        (),
        _one(lambda s: s.series_created),
    ),
    MetricSpec(
        "relay_series_forgotten_total",
        "counter",
        "Series forgotten: not seen for long (idle), or others needed the room (full).",
        ("reason",),
        _by(lambda s: s.series_forgotten),
    ),
    MetricSpec(
        "relay_series_retyped_total",
        "counter",
        "Series whose OTLP type changed when metadata arrived after their first sample.",
        (),
        _one(lambda s: s.series_retyped),
    ),
    MetricSpec(
        "relay_metadata_families",
        "gauge",
        "Metric families whose metadata is known.",
        (),
        _one(lambda s: s.metadata_families),
    ),
    # Exporters.
    MetricSpec("relay_exporters", "gauge", "Exporters that run.", (), _one(lambda s: s.exporters)),
    MetricSpec(
        "relay_selectors_always_asked",
        "gauge",
        "Selectors that every new series of their project is compared with: the index cannot help.",
        (),
        _one(lambda s: s.selectors_always_asked),
    ),
    MetricSpec(
        "relay_inventory_objects",
        "gauge",
        "Namespaces and resources whose labels are known, from manifests and from info series.",
        ("source",),
        _by(lambda s: s.inventory_objects),
    ),
    MetricSpec(
        "relay_exporter_faults",
        "gauge",
        "Faults found in Exporter resources when they were last loaded; faulty ones do not run.",
        (),
        _one(lambda s: s.exporter_faults),
    ),
    # Sinks: the ledger, then health.
    MetricSpec(
        "relay_sink_matched_points_total",
        "counter",
        "Points that a sink must account for: the sum of every outcome and what is queued.",
        _SINK,
        _per_sink(lambda r: r.matched_points),
    ),
    MetricSpec(
        "relay_sink_matched_samples_total",
        "counter",
        "Samples that became a sink's points; more than points where several make one.",
        _SINK,
        _per_sink(lambda r: r.matched_samples),
    ),
    MetricSpec(
        "relay_sink_points_total",
        "counter",
        "Points done with, by outcome: delivered, rejected, expired or dropped.",
        (*_SINK, "outcome"),
        _sink_outcomes,
    ),
    MetricSpec(
        "relay_sink_failed_points_total",
        "counter",
        "Points rejected or dropped, by outcome and reason.",
        (*_SINK, "outcome", "reason"),
        _sink_failures,
    ),
    MetricSpec(
        "relay_sink_queued_points",
        "gauge",
        "Points not yet done with, the open batch included.",
        _SINK,
        _per_sink(lambda r: r.queued_points),
    ),
    MetricSpec(
        "relay_sink_oldest_point_age_seconds",
        "gauge",
        "Age of the oldest queued point; 0 where nothing is queued.",
        _SINK,
        _per_sink(lambda r: r.oldest_point_age_s),
    ),
    MetricSpec(
        "relay_sink_queue_bytes",
        "gauge",
        "Bytes that a sink's queue holds.",
        _SINK,
        _per_sink(lambda r: r.queue_bytes),
    ),
    MetricSpec(
        "relay_sink_queue_bytes_max",
        "gauge",
        "Bytes that a sink's queue may hold.",
        _SINK,
        _per_sink(lambda r: r.queue_bytes_max),
    ),
    MetricSpec(
        "relay_sink_requests_total",
        "counter",
        "Requests made to an endpoint, by result.",
        (*_SINK, "result"),
        _sink_requests,
    ),
    MetricSpec(
        "relay_sink_bytes_total",
        "counter",
        "Bytes of request bodies sent to an endpoint, compressed, retries included.",
        _SINK,
        _per_sink(lambda r: r.sent_bytes),
    ),
    MetricSpec(
        "relay_sink_last_success_timestamp_seconds",
        "gauge",
        "When an endpoint last took a request; 0 before the first.",
        _SINK,
        _per_sink(lambda r: r.last_success_at),
    ),
    MetricSpec(
        "relay_sink_paused",
        "gauge",
        "1 while a sink waits for a credential that its endpoint accepts.",
        _SINK,
        _per_sink(lambda r: r.paused),
    ),
    MetricSpec(
        "relay_sink_internal_errors_total",
        "counter",
        "Unexpected errors inside a sink's task. Above 0 is a bug: see the log.",
        _SINK,
        _per_sink(lambda r: r.internal_errors),
    ),
    # The process.
    MetricSpec(
        "relay_event_loop_lag_seconds",
        "gauge",
        "How late the event loop was: at the last measurement, and at worst in the last minute.",
        ("window",),
        lambda s: ((("last",), s.loop_lag_last_s), (("max",), s.loop_lag_max_s)),
    ),
)


class SnapshotCollector(Collector):
    """Metric families of the snapshots that ``provider`` gives out, one for each scrape."""

    def __init__(self, provider: Callable[[], Snapshot]) -> None:
        self._provider = provider

    def describe(self) -> Iterator[Metric]:
        """Names and types only, so that registering does not ask for a snapshot."""
        nothing = Snapshot()
        return (spec.family(nothing) for spec in CATALOGUE)

    def collect(self) -> Iterator[Metric]:
        """One snapshot, one family at a time: never all of them in memory."""
        snapshot = self._provider()
        return (spec.family(snapshot) for spec in CATALOGUE)


class Telemetry:
    """What a scrape shows: our catalogue, and the figures of process, platform and GC."""

    def __init__(self, provider: Callable[[], Snapshot]) -> None:
        self._provider = provider
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def snapshot(self) -> Snapshot:
        """The figures of this moment; call it where the counters live, on the event loop."""
        return self._provider()

    def render(self, snapshot: Snapshot, *, accept: str = "") -> tuple[bytes, str]:
        """The exposition of a snapshot and its content type, chosen by the ``Accept`` header.

        Touches nothing of this process but its own files in ``/proc``, so any thread may call it.
        """
        registry = CollectorRegistry(auto_describe=False)
        registry.register(SnapshotCollector(lambda: snapshot))
        registry.register(_Nested(self._process))
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    def __repr__(self) -> str:
        return f"<Telemetry {len(CATALOGUE)} metrics>"


class _Nested(Collector):
    """A registry as a part of another one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from self._registry.collect()
