"""The catalogue of the relay's own metrics: name, help, type and labels of each.

Durations are in :mod:`relay.telemetry.latency_metrics`, disk and memory in
:mod:`relay.telemetry.storage_metrics`, replaced names in :mod:`relay.telemetry.deprecated_metrics`.
Each metric reads its rows from a :class:`relay.telemetry.snapshot.Snapshot`.

Every counter is exported as 0 from the first scrape, because ``rate()`` misses the step from absent
to 1. Reasons that form an open set (why points failed) appear when they first occur.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.telemetry.cluster_metrics import API_METRICS, CLUSTER_METRICS, PLANE_METRICS
from relay.telemetry.deprecated_metrics import deprecated
from relay.telemetry.latency_metrics import TIMES
from relay.telemetry.matching_metrics import DROPS, RECORD_METRICS
from relay.telemetry.metric_spec import MetricSpec, Row, by, one, per_sink
from relay.telemetry.policy_metrics import POLICIES
from relay.telemetry.project_metrics import PROJECTS
from relay.telemetry.snapshot import Snapshot
from relay.telemetry.storage_metrics import STORAGE


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

_PRESENT: tuple[MetricSpec, ...] = (
    MetricSpec(
        "relay_build_info",
        "info",
        "Version of the relay; its hot path is always compiled.",
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
        by(lambda s: s.ingest.refused),
    ),
    MetricSpec(
        "relay_partial_requests_total",
        "counter",
        "Remote-write requests of which the good part was taken and a faulty part was not.",
        (),
        one(lambda s: s.ingest.partial),
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
        one(lambda s: s.ingest.in_flight),
    ),
    MetricSpec(
        "relay_ingest_next_position",
        "gauge",
        "Position that the next accepted request will get.",
        (),
        one(lambda s: s.ingest_next_position),
    ),
    MetricSpec(
        "relay_ingest_oldest_held_position",
        "gauge",
        "Oldest accepted request that still has points on their way; the next one where none has.",
        (),
        one(lambda s: s.ingest_oldest_held_position),
    ),
    # Samples and series.
    MetricSpec(
        "relay_received_samples_total",
        "counter",
        "Samples received, by protocol.",
        ("protocol",),
        by(lambda s: s.received_samples),
    ),
    MetricSpec(
        "relay_dropped_samples_total",
        "counter",
        "Samples dropped before matching, by reason.",
        ("reason",),
        by(lambda s: s.dropped_samples),
    ),
    MetricSpec(
        "relay_unmatched_samples_total",
        "counter",
        "Valid samples that no exporter selected.",
        (),
        one(lambda s: s.unmatched_samples),
    ),
    MetricSpec(
        "relay_matched_samples_total",
        "counter",
        "Samples matched by a source of an exporter.",
        ("exporter", "source"),
        lambda s: (((row.exporter, row.source), row.matched_samples) for row in s.sources),
    ),
    MetricSpec(
        "relay_series_active", "gauge", "Series known now.", (), one(lambda s: s.series_active)
    ),
    MetricSpec(
        "relay_series_created_total",
        "counter",
        "Series seen for the first time, or again after they were forgotten.",
        (),
        one(lambda s: s.series_created),
    ),
    MetricSpec(
        "relay_series_forgotten_total",
        "counter",
        "Series forgotten: not seen for long (idle), or others needed the room (full).",
        ("reason",),
        by(lambda s: s.series_forgotten),
    ),
    MetricSpec(
        "relay_series_retyped_total",
        "counter",
        "Series whose OTLP type changed when metadata arrived after their first sample.",
        (),
        one(lambda s: s.series_retyped),
    ),
    MetricSpec(
        "relay_metadata_families",
        "gauge",
        "Metric families whose metadata is known.",
        (),
        one(lambda s: s.metadata_families),
    ),
    MetricSpec(
        "relay_metadata_contradictions_total",
        "counter",
        "Times that a sender gave a family another type than the one that others confirm.",
        (),
        one(lambda s: s.metadata_contradictions),
    ),
    # Histograms, summaries and deltas: what becomes of samples between matching and points.
    MetricSpec(
        "relay_assembled_samples_total",
        "counter",
        "Members of histograms and summaries, and other samples that are no points by themselves, "
        "by outcome: assembled, or why they are in no point.",
        ("outcome",),
        by(lambda s: s.assembled_samples),
    ),
    MetricSpec(
        "relay_assembled_points_total",
        "counter",
        "Histograms and summaries put together from their members' samples.",
        (),
        one(lambda s: s.assembled_points),
    ),
    MetricSpec(
        "relay_assembly_waiting_samples",
        "gauge",
        "Samples that wait for the other members of their histogram or summary.",
        (),
        one(lambda s: s.waiting_samples),
    ),
    MetricSpec(
        "relay_assembly_families",
        "gauge",
        "Histograms and summaries whose members are known.",
        (),
        one(lambda s: s.histogram_families),
    ),
    MetricSpec(
        "relay_exemplars_total",
        "counter",
        "Exemplars, by what became of them: received with all requests, sent with a point, dropped "
        "because they were unusable, too many, waited in vain, or their point was none; also those "
        "that were sent to a remote-write sink whose batch got no point, or none of their series.",
        ("outcome",),
        by(lambda s: s.exemplars),
    ),
    MetricSpec(
        "relay_delta_points_total",
        "counter",
        "Cumulative points for sinks with delta temporality, by outcome: made and reset are "
        "exported as deltas, the others are in no delta of their own.",
        ("outcome",),
        by(lambda s: s.delta_points),
    ),
    MetricSpec(
        "relay_delta_states",
        "gauge",
        "Streams whose last cumulative value is kept for the next delta.",
        (),
        one(lambda s: s.delta_states),
    ),
    # Exporters.
    MetricSpec("relay_exporters", "gauge", "Exporters that run.", (), one(lambda s: s.exporters)),
    MetricSpec(
        "relay_sinks",
        "gauge",
        "Sinks of the Exporters that run, by kind, and version of remote write.",
        ("kind", "version"),
        lambda s: s.sink_kinds.items(),
    ),
    MetricSpec(
        "relay_selectors_always_asked",
        "gauge",
        "Selectors that every new series of their project is compared with: the index cannot help.",
        (),
        one(lambda s: s.selectors_always_asked),
    ),
    MetricSpec(
        "relay_inventory_objects",
        "gauge",
        "Namespaces and resources whose labels are known, from manifests and from info series.",
        ("source",),
        by(lambda s: s.inventory_objects),
    ),
    MetricSpec(
        "relay_exporter_faults",
        "gauge",
        "Faults found in Exporter resources when they were last loaded; faulty ones do not run.",
        (),
        one(lambda s: s.exporter_faults),
    ),
    MetricSpec(
        "relay_reloads_total",
        "counter",
        "Changed manifests taken over, faulty where a fault keeps the last good version of some.",
        ("outcome",),
        by(lambda s: s.reloads),
    ),
    # Sinks: the ledger, then health.
    MetricSpec(
        "relay_sink_matched_points_total",
        "counter",
        "Points that a sink must account for: the sum of every outcome and what is queued.",
        _SINK,
        per_sink(lambda r: r.matched_points),
    ),
    MetricSpec(
        "relay_sink_matched_samples_total",
        "counter",
        "Samples that became a sink's points; more than points where several make one.",
        _SINK,
        per_sink(lambda r: r.matched_samples),
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
        per_sink(lambda r: r.queued_points),
    ),
    MetricSpec(
        "relay_sink_oldest_point_age_seconds",
        "gauge",
        "Age of the oldest queued point; 0 where nothing is queued.",
        _SINK,
        per_sink(lambda r: r.oldest_point_age_s),
    ),
    MetricSpec(
        "relay_sink_queue_bytes",
        "gauge",
        "Bytes that a sink's queue holds.",
        _SINK,
        per_sink(lambda r: r.queue_bytes),
    ),
    MetricSpec(
        "relay_sink_queue_max_bytes",
        "gauge",
        "Bytes that a sink's queue may hold.",
        _SINK,
        per_sink(lambda r: r.queue_bytes_max),
    ),
    MetricSpec(
        "relay_sink_queue_memory_bytes",
        "gauge",
        "Bytes of a sink's queue that are in memory.",
        _SINK,
        per_sink(lambda r: r.memory_bytes),
    ),
    MetricSpec(
        "relay_sink_stored_bytes",
        "gauge",
        "Bytes of the files that hold a sink's queue on disk.",
        _SINK,
        per_sink(lambda r: r.stored_bytes),
    ),
    MetricSpec(
        "relay_sink_until_full_seconds",
        "gauge",
        "When a sink's queue is full if it goes on growing like this; +Inf while it does not grow.",
        _SINK,
        per_sink(lambda r: r.full_in_s),
    ),
    MetricSpec(
        "relay_sink_stalled_seconds",
        "gauge",
        "For how long points have waited without the endpoint taking or refusing a single one.",
        _SINK,
        per_sink(lambda r: r.stalled_s),
    ),
    MetricSpec(
        "relay_sink_unreachable",
        "gauge",
        "1 while an endpoint answers no sink at all, and is only probed.",
        _SINK,
        per_sink(lambda r: r.unreachable),
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
        per_sink(lambda r: r.sent_bytes),
    ),
    MetricSpec(
        "relay_sink_last_success_timestamp_seconds",
        "gauge",
        "When an endpoint last took a request; 0 before the first.",
        _SINK,
        per_sink(lambda r: r.last_success_at),
    ),
    MetricSpec(
        "relay_sink_last_error_timestamp_seconds",
        "gauge",
        "When something last went wrong at a sink; 0 before the first time. /status has its text.",
        _SINK,
        per_sink(lambda r: r.last_error_at),
    ),
    MetricSpec(
        "relay_sink_paused",
        "gauge",
        "1 while a sink waits for a credential that its endpoint accepts.",
        _SINK,
        per_sink(lambda r: r.paused),
    ),
    MetricSpec(
        "relay_sink_paused_by_owner",
        "gauge",
        "1 while nothing is sent because the Exporter says paused: true.",
        _SINK,
        per_sink(lambda r: r.owner_paused),
    ),
    MetricSpec(
        "relay_sink_internal_errors_total",
        "counter",
        "Unexpected errors inside a sink's task. Above 0 is a bug: see the log.",
        _SINK,
        per_sink(lambda r: r.internal_errors),
    ),
    MetricSpec(
        "relay_removed_sinks_points_total",
        "counter",
        "Points of sinks that were removed and are gone, by outcome; deleted: dropped with their "
        "object.",
        ("outcome",),
        by(lambda s: s.removed_sinks),
    ),
    MetricSpec(
        "relay_unreachable_endpoints",
        "gauge",
        "Endpoints that answer no sink at all, and are only probed.",
        (),
        one(lambda s: s.unreachable_endpoints),
    ),
    *CLUSTER_METRICS,
    *PLANE_METRICS,
    *API_METRICS,
    *POLICIES,
    *DROPS,
    *RECORD_METRICS,
    *PROJECTS,
    *STORAGE,
    *TIMES,
)

CATALOGUE: tuple[MetricSpec, ...] = (*_PRESENT, *deprecated(_PRESENT))
