"""Metrics of durations and latencies; part of :mod:`relay.telemetry.metrics`."""

from __future__ import annotations

from relay.telemetry.metric_spec import (
    MetricSpec,
    distribution_per_sink,
    one,
    one_distribution,
    per_sink,
)

TIMES: tuple[MetricSpec, ...] = (
    MetricSpec(
        "relay_ingest_request_seconds",
        "histogram",
        "From a remote-write request's head to its answer.",
        (),
        distributions=one_distribution(lambda s: s.ingest.durations),
    ),
    MetricSpec(
        "relay_event_loop_lag_seconds",
        "histogram",
        "How late the event loop was, measured ten times a second.",
        (),
        distributions=one_distribution(lambda s: s.loop_lag.all),
    ),
    MetricSpec(
        "relay_event_loop_lag_max_seconds",
        "gauge",
        "How late the event loop was at worst in the last minute.",
        (),
        one(lambda s: s.loop_lag.max_s),
    ),
    MetricSpec(
        "relay_sink_behind",
        "gauge",
        "1 while an endpoint takes data, and too slowly: the oldest point waits for over a minute.",
        ("exporter", "sink"),
        per_sink(lambda r: r.behind),
    ),
    MetricSpec(
        "relay_sink_request_seconds",
        "histogram",
        "From asking an endpoint to its verdict, connecting included.",
        ("exporter", "sink"),
        distributions=distribution_per_sink(lambda r: r.request_durations),
    ),
    MetricSpec(
        "relay_sink_delivery_latency_seconds",
        "histogram",
        "From the first point of a batch until the endpoint has taken it, by request.",
        ("exporter", "sink"),
        distributions=distribution_per_sink(lambda r: r.delivery_latency),
    ),
)
