"""Metrics of samples that never reached a sink's queue, and of log records and spans.

Records are counted here until a source takes them; sinks count them as points of outputs of their
own, such as ``sink/logs``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.telemetry.metric_spec import MetricSpec, Row
from relay.telemetry.snapshot import Snapshot


def _unexported(snapshot: Snapshot) -> Iterator[Row]:
    for drop in snapshot.drops:
        yield (drop.exporter, drop.sink, drop.reason, drop.family), drop.samples


DROPS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "relay_sink_unexported_samples_total",
        "counter",
        "Samples that sources matched and that became no point of a sink, by reason and metric "
        'family: "" is all families that there was no room for.',
        ("exporter", "sink", "reason", "family"),
        _unexported,
    ),
)

RECORD_METRICS: Final = (
    MetricSpec(
        "relay_received_records_total",
        "counter",
        "Log records and spans received over OTLP, by signal.",
        ("signal",),
        lambda s: (((one.signal,), one.received) for one in s.records),
    ),
    MetricSpec(
        "relay_dropped_records_total",
        "counter",
        "Log records and spans dropped before matching, by reason.",
        ("signal", "reason"),
        lambda s: (
            ((one.signal, reason), count)
            for one in s.records
            for reason, count in one.dropped.items()
        ),
    ),
    MetricSpec(
        "relay_unmatched_records_total",
        "counter",
        "Log records and spans that no exporter selected.",
        ("signal",),
        lambda s: (((one.signal,), one.unmatched) for one in s.records),
    ),
    MetricSpec(
        "relay_matched_records_total",
        "counter",
        "Log records and spans matched by a source of an exporter.",
        ("exporter", "source", "signal"),
        lambda s: (
            ((exporter, source, one.signal), count)
            for one in s.records
            for (exporter, source), count in one.matched.items()
        ),
    ),
    MetricSpec(
        "relay_record_resources",
        "gauge",
        "Resources of logs and traces that are known by their bytes.",
        ("signal",),
        lambda s: (((one.signal,), one.resources) for one in s.records),
    ),
)
