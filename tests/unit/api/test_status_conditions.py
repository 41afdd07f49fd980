"""Figures of ExportPolicies, and conditions as ``/status`` shows them."""

from __future__ import annotations

from pathlib import Path

from relay.api.conditions import (
    conditions_document,
    not_running_document,
    policy_figures,
    sink_conditions_document,
)
from relay.config.exporter.load_result import ObjectKey
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import Exporter, ExporterPath
from relay.control.status.conditions import StatusCondition
from relay.control.status.object_status import ObjectConditions
from relay.telemetry.snapshot import PolicyFigures
from tests.kit.paths import DATA

GOOD = DATA / "export_policies/good"
KEY = ObjectKey(
    "kubernetes", "acme", "ExportPolicy", "acme", "default", "p", "telemetry.datumapis.com"
)


def load_one(file: Path, project: str = "") -> Exporter:
    (exporter,) = load_exporters(
        [ExporterPath(file, project)], tenancy=bool(project), need_secrets=False
    ).exporters
    return exporter


def condition(kind: str, reason: str) -> StatusCondition:
    return StatusCondition(kind, "False", reason, "why", 3, 1_700_000_000.5)


def shown(kind: str, reason: str) -> dict[str, object]:
    return {
        "type": kind,
        "status": "False",
        "reason": reason,
        "message": "why",
        "observedGeneration": 3,
        "lastTransitionTime": "2023-11-14T22:13:20Z",
    }


def test_a_policys_figures_name_its_project() -> None:
    policy = load_one(GOOD / "shipped-with-status.yaml", "acme")
    assert policy.id == "acme/default/ExportPolicy/grafana-export-policy"
    assert list(policy_figures([policy])) == [
        PolicyFigures(
            "acme",
            "default",
            "grafana-export-policy",
            "6f1c2d1e-5d0a-4d0e-9a53-1f7c0f0e4b1a",
            1_768_209_243.0,
            (("Ready", "SinksAccepted", "True"),),
            (("victoriametrics", "Accepted", "SinkConfigured", "True"),),
        )
    ]
    assert list(policy_figures([load_one(DATA / "exporters/good/minimal.yaml")])) == []


def test_a_running_object_has_its_conditions_and_those_of_sinks_that_do_not_run() -> None:
    policy = load_one(GOOD / "portal-grafana.yaml")
    running = "grafana-cloud-metrics"
    sinks = {running: (condition("Delivering", "Failing"),), "bad": (condition("Accepted", "No"),)}
    judged = ObjectConditions(KEY, True, (condition("Ready", "SinksNotAccepted"),), sinks)
    assert conditions_document(policy, judged) == {
        "kind": "ExportPolicy",
        "conditions": [shown("Ready", "SinksNotAccepted")],
        "refusedSinks": [{"name": "bad", "conditions": [shown("Accepted", "No")]}],
    }
    assert sink_conditions_document(judged, running) == {
        "conditions": [shown("Delivering", "Failing")]
    }


def test_an_object_that_was_not_judged_yet_has_none() -> None:
    exporter = load_one(DATA / "exporters/good/minimal.yaml")
    assert conditions_document(exporter, None) == {
        "kind": "Exporter",
        "conditions": [],
        "refusedSinks": [],
    }
    assert sink_conditions_document(None, "endpoint") == {"conditions": []}


def test_an_object_that_does_not_run_says_where_it_is() -> None:
    judged = ObjectConditions(KEY, False, (condition("Accepted", "Conflict"),), {})
    assert not_running_document(judged) == {
        "name": "acme/default/ExportPolicy/p",
        "kind": "ExportPolicy",
        "source": "kubernetes",
        "controlPlane": "acme",
        "apiGroup": "telemetry.datumapis.com",
        "conditions": [shown("Accepted", "Conflict")],
    }
