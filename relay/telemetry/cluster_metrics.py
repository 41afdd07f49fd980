"""Metrics of the statuses on Kubernetes, and of the relays that share the work; none without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from relay.telemetry.metric_spec import MetricSpec, Row
from relay.telemetry.snapshot import ClusterFigures, Snapshot


def _one(read: Callable[[ClusterFigures], float]) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: [((), read(snapshot.cluster))] if snapshot.cluster else []


def _by_result(
    read: Callable[[ClusterFigures], Mapping[str, int]],
) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: (
        [((key,), value) for key, value in read(snapshot.cluster).items()]
        if snapshot.cluster
        else []
    )


CLUSTER_METRICS: Final = (
    MetricSpec(
        "relay_kubernetes_leader",
        "gauge",
        "1 while this relay writes the statuses of objects on Kubernetes, for all relays.",
        (),
        _one(lambda c: c.leads),
    ),
    MetricSpec(
        "relay_kubernetes_relays",
        "gauge",
        "Relays that share the work on the same objects, this one included.",
        (),
        _one(lambda c: c.relays),
    ),
    MetricSpec(
        "relay_kubernetes_relays_unreached",
        "gauge",
        "Relays whose report this one cannot read while it leads: statuses are Unknown, NoReport.",
        (),
        _one(lambda c: c.unreached),
    ),
    MetricSpec(
        "relay_kubernetes_status_writes_total",
        "counter",
        "Writes of a status to Kubernetes, by result: written or failed. Failed ones are repeated.",
        ("result",),
        _by_result(lambda c: c.status_writes),
    ),
    MetricSpec(
        "relay_kubernetes_statuses_waiting",
        "gauge",
        "Objects with a changed condition that is not written yet.",
        (),
        _one(lambda c: c.waiting),
    ),
    MetricSpec(
        "relay_kubernetes_status_oldest_waiting_seconds",
        "gauge",
        "For how long the oldest changed condition has waited to be written.",
        (),
        _one(lambda c: c.oldest_waiting_s),
    ),
    MetricSpec(
        "relay_kubernetes_events_total",
        "counter",
        "Events on Kubernetes, by result: written, failed or given_up.",
        ("result",),
        _by_result(lambda c: c.events),
    ),
)
