"""Those of our own metrics that say how long something takes; part of :mod:`relay.catalogue`."""

from __future__ import annotations

from relay.metric import MetricSpec, one

TIMES: tuple[MetricSpec, ...] = (
    MetricSpec(
        "relay_ingest_request_seconds",
        "histogram",
        "From a remote-write request's head to its answer.",
        (),
        distribution=lambda s: s.ingest.durations,
    ),
    MetricSpec(
        "relay_event_loop_lag_seconds",
        "histogram",
        "How late the event loop was, measured ten times a second.",
        (),
        distribution=lambda s: s.loop_lag.all,
    ),
    MetricSpec(
        "relay_event_loop_lag_max_seconds",
        "gauge",
        "How late the event loop was at worst in the last minute.",
        (),
        one(lambda s: s.loop_lag.max_s),
    ),
)
