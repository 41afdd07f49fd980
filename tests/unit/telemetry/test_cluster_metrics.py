"""Metrics of writing statuses to Kubernetes: there with Kubernetes, and only then."""

from __future__ import annotations

from relay.telemetry.cluster_metrics import CLUSTER_METRICS
from relay.telemetry.registry import Snapshot
from relay.telemetry.snapshot import ClusterFigures

FIGURES = ClusterFigures(
    leads=True,
    relays=3,
    unreached=1,
    status_writes={"written": 5, "failed": 1},
    events={"written": 4, "failed": 2, "given_up": 0},
    waiting=7,
    oldest_waiting_s=1.5,
)


def test_each_figure_has_a_metric() -> None:
    snapshot = Snapshot(cluster=FIGURES)
    assert {spec.name: list(spec.rows(snapshot)) for spec in CLUSTER_METRICS} == {
        "relay_kubernetes_leader": [((), True)],
        "relay_kubernetes_relays": [((), 3)],
        "relay_kubernetes_relays_unreached": [((), 1)],
        "relay_kubernetes_status_writes_total": [(("written",), 5), (("failed",), 1)],
        "relay_kubernetes_statuses_waiting": [((), 7)],
        "relay_kubernetes_status_oldest_waiting_seconds": [((), 1.5)],
        "relay_kubernetes_events_total": [
            (("written",), 4),
            (("failed",), 2),
            (("given_up",), 0),
        ],
    }


def test_without_kubernetes_there_are_none() -> None:
    assert all(not list(spec.rows(Snapshot())) for spec in CLUSTER_METRICS)
