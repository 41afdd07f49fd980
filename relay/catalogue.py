"""Our own metrics, each with its name, help, type and labels: the only place that has them.

A metric reads its rows from a :class:`relay.figures.Snapshot`. Whatever can be counted is exported
from the first scrape on, as 0, because ``rate()`` misses the step from absent to 1. Reasons that
are open sets (why points failed) appear when they first happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from relay.figures import SinkFigures, Snapshot

Kind = Literal["counter", "gauge", "info"]
Row = tuple[tuple[str, ...], float]
"""Label values in the order of the metric's label names, and the value."""


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
    MetricSpec(
        "relay_metadata_contradictions_total",
        "counter",
        "Times that a sender gave a family another type than the one that others confirm.",
        (),
        _one(lambda s: s.metadata_contradictions),
    ),
    # Histograms, summaries and deltas: what becomes of samples between matching and points.
    MetricSpec(
        "relay_assembled_samples_total",
        "counter",
        "Members of histograms and summaries, and other samples that are no points by themselves, "
        "by outcome: assembled, or why they are in no point.",
        ("outcome",),
        _by(lambda s: s.assembled_samples),
    ),
    MetricSpec(
        "relay_assembled_points_total",
        "counter",
        "Histograms and summaries put together from their members' samples.",
        (),
        _one(lambda s: s.assembled_points),
    ),
    MetricSpec(
        "relay_assembly_waiting_samples",
        "gauge",
        "Samples that wait for the other members of their histogram or summary.",
        (),
        _one(lambda s: s.waiting_samples),
    ),
    MetricSpec(
        "relay_assembly_families",
        "gauge",
        "Histograms and summaries whose members are known.",
        (),
        _one(lambda s: s.histogram_families),
    ),
    MetricSpec(
        "relay_exemplars_total",
        "counter",
        "Exemplars, by what became of them: received with all requests, sent with a point that had "
        "not come with them, dropped because they were unusable, too many or waited in vain.",
        ("outcome",),
        _by(lambda s: s.exemplars),
    ),
    MetricSpec(
        "relay_delta_points_total",
        "counter",
        "Cumulative points for sinks with delta temporality, by outcome: made and reset are "
        "exported as deltas, the others are in no delta of their own.",
        ("outcome",),
        _by(lambda s: s.delta_points),
    ),
    MetricSpec(
        "relay_delta_states",
        "gauge",
        "Streams whose last cumulative value is kept for the next delta.",
        (),
        _one(lambda s: s.delta_states),
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
