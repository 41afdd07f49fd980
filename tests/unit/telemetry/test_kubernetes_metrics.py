"""Metrics of the control planes from which Exporters are read."""

from __future__ import annotations

from relay.telemetry.registry import Telemetry
from relay.telemetry.snapshot import KubernetesFigures, KubernetesWatch, Snapshot

SNAPSHOT = Snapshot(
    kubernetes=(
        KubernetesFigures(
            "acme",
            (
                KubernetesWatch("exporters.x", True, 0.0, 3, 1, 0, 0),
                KubernetesWatch("secrets", False, 2.5, 7, 2, 4, 1),
            ),
            {"200": 5, "unreachable": 6},
            2,
            {"held": 1, "absent": 0},
            8,
        ),
        KubernetesFigures("idle"),
    ),
)
EXPECTED = """\
relay_kubernetes_synced{plane="acme",resource="exporters.x"} 1.0
relay_kubernetes_synced{plane="acme",resource="secrets"} 0.0
relay_kubernetes_stale_seconds{plane="acme",resource="exporters.x"} 0.0
relay_kubernetes_stale_seconds{plane="acme",resource="secrets"} 2.5
relay_kubernetes_objects{plane="acme",resource="exporters.x"} 3.0
relay_kubernetes_objects{plane="acme",resource="secrets"} 7.0
relay_kubernetes_lists_total{plane="acme",resource="exporters.x"} 1.0
relay_kubernetes_lists_total{plane="acme",resource="secrets"} 2.0
relay_kubernetes_watch_failures_total{plane="acme",resource="exporters.x"} 0.0
relay_kubernetes_watch_failures_total{plane="acme",resource="secrets"} 4.0
relay_kubernetes_unusable_objects_total{plane="acme",resource="exporters.x"} 0.0
relay_kubernetes_unusable_objects_total{plane="acme",resource="secrets"} 1.0
relay_kubernetes_requests_total{code="200",plane="acme"} 5.0
relay_kubernetes_requests_total{code="unreachable",plane="acme"} 6.0
relay_kubernetes_connections{plane="acme"} 2.0
relay_kubernetes_connections{plane="idle"} 0.0
relay_kubernetes_secrets{plane="acme",state="held"} 1.0
relay_kubernetes_secrets{plane="acme",state="absent"} 0.0
relay_kubernetes_internal_errors_total{plane="acme"} 8.0
relay_kubernetes_internal_errors_total{plane="idle"} 0.0
"""


def lines_of(snapshot: Snapshot) -> set[str]:
    body, _ = Telemetry().render(snapshot)
    return {line for line in body.decode().splitlines() if line.startswith("relay_kubernetes_")}


def test_each_control_plane_and_watch_has_its_rows() -> None:
    assert lines_of(SNAPSHOT) == set(EXPECTED.splitlines())


def test_without_kubernetes_there_is_no_row() -> None:
    assert lines_of(Snapshot()) == set()
