"""Figures and status of ExportPolicies, and of nothing else."""

from __future__ import annotations

from pathlib import Path

from relay.api.policy_status import policy_document, policy_figures, policy_sink_document
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import Exporter, ExporterPath
from relay.telemetry.snapshot import PolicyFigures
from tests.kit.paths import DATA

GOOD = DATA / "export_policies/good"


def load_one(file: Path, project: str = "") -> Exporter:
    (exporter,) = load_exporters(
        [ExporterPath(file, project)], tenancy=bool(project), need_secrets=False
    ).exporters
    return exporter


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


def test_a_policy_has_conditions_in_its_status() -> None:
    policy = load_one(GOOD / "portal-grafana.yaml")
    assert policy_document(policy) == {
        "kind": "ExportPolicy",
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "SinksAccepted",
                "message": "1/1 sinks are accepted",
            }
        ],
        "refusedSinks": [],
    }
    accepted = {"type": "Accepted", "status": "True", "reason": "SinkConfigured", "message": ""}
    assert policy_sink_document(policy) == {"grafana-cloud-metrics": {"conditions": [accepted]}}


def test_an_exporter_has_none_of_it() -> None:
    exporter = load_one(DATA / "exporters/good/minimal.yaml")
    assert list(policy_figures([exporter])) == []
    assert policy_document(exporter) == {}
    assert policy_sink_document(exporter) == {}
