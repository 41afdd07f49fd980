"""Metrics of the relay's own API: there with ``api`` in the settings, and only then."""

from __future__ import annotations

from relay.telemetry.cluster_metrics import API_METRICS
from relay.telemetry.registry import Snapshot
from relay.telemetry.snapshot import ApiFigures

FIGURES = ApiFigures(
    answers={("GET", 200): 5, ("POST", 403): 1},
    requests=2,
    watches=3,
    objects={"secrets": 4},
    version=17,
    changes=16,
    transactions=9,
    failed=1,
    waiting=6,
    token_faults=2,
)


def test_each_figure_has_a_metric() -> None:
    snapshot = Snapshot(own_api=FIGURES)
    assert {spec.name: list(spec.rows(snapshot)) for spec in API_METRICS} == {
        "relay_api_requests_total": [(("GET", "200"), 5), (("POST", "403"), 1)],
        "relay_api_requests_in_progress": [((), 2)],
        "relay_api_watches": [((), 3)],
        "relay_api_objects": [(("secrets",), 4)],
        "relay_api_version": [((), 17)],
        "relay_api_changes_total": [(("stored",), 16), (("failed",), 1)],
        "relay_api_transactions_total": [((), 9)],
        "relay_api_changes_waiting": [((), 6)],
        "relay_api_token_faults": [((), 2)],
    }


def test_without_the_api_there_are_none() -> None:
    assert all(not list(spec.rows(Snapshot())) for spec in API_METRICS)
