"""Metrics of samples that never reached a sink's queue."""

from __future__ import annotations

from collections.abc import Iterator

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
