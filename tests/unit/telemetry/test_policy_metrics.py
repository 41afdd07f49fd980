"""The metrics of ExportPolicies have the names and labels of the platform's operator."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from relay.telemetry.policy_metrics import POLICIES
from relay.telemetry.registry import Telemetry
from relay.telemetry.snapshot import PolicyFigures, Snapshot

POLICY = {
    "service_name": "telemetry.miloapis.com",
    "resource_kind": "ExportPolicy",
    "resourcemanager_datumapis_com_project_name": "acme",
    "resource_namespace": "default",
    "resource_name": "grafana-export-policy",
    "resource_uid": "6f1c2d1e",
}
SNAPSHOT = Snapshot(
    policies=(
        PolicyFigures(
            "acme",
            "default",
            "grafana-export-policy",
            "6f1c2d1e",
            1_768_209_243.0,
            (("Ready", "SinksNotAccepted", "False"),),
            (
                ("grafana", "Accepted", "SinkConfigured", "True"),
                ("mimir", "Accepted", "InvalidSources", "False"),
            ),
        ),
        PolicyFigures("", "default", "from-a-file"),
    )
)
EXPECTED = [
    ("info", POLICY, 1),
    ("created", POLICY, 1_768_209_243),
    (
        "status_condition",
        POLICY | {"condition": "Ready", "reason": "SinksNotAccepted", "status": "False"},
        0,
    ),
    (
        "sink_status_condition",
        POLICY
        | {"sink_name": "grafana", "condition": "Accepted"}
        | {"reason": "SinkConfigured", "status": "True"},
        1,
    ),
    (
        "sink_status_condition",
        POLICY
        | {"sink_name": "mimir", "condition": "Accepted"}
        | {"reason": "InvalidSources", "status": "False"},
        0,
    ),
]
PREFIX = "datum_cloud_telemetry_export_policy_"


def by_name_and_labels(row: tuple[str, dict[str, str], float]) -> tuple[str, list[object]]:
    return row[0], sorted(row[1].items())


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text;version=1.0.0"])
def test_names_labels_and_values_are_those_of_the_operator(accept: str) -> None:
    body, _ = Telemetry().render(SNAPSHOT, accept=accept)
    parse = (
        openmetrics_parser.text_string_to_metric_families
        if accept
        else text_string_to_metric_families
    )
    found = [
        (sample.name.removeprefix(PREFIX), sample.labels, sample.value)
        for family in parse(body.decode())
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    ]
    acme = [row for row in found if row[1]["resource_name"] == "grafana-export-policy"]
    assert sorted(acme, key=by_name_and_labels) == sorted(EXPECTED, key=by_name_and_labels)


def test_a_policy_of_a_file_has_no_uid_and_no_time_of_creation() -> None:
    body, _ = Telemetry().render(SNAPSHOT)
    lines = [one for one in body.decode().splitlines() if 'resource_name="from-a-file"' in one]
    (line,) = lines
    assert line.startswith(f"{PREFIX}info{{")
    assert 'resource_uid=""' in line


def test_without_policies_there_is_no_series() -> None:
    body, _ = Telemetry().render(Snapshot())
    assert [one for one in body.decode().splitlines() if one.startswith(PREFIX)] == []


def test_the_four_families_are_there() -> None:
    assert [spec.name.removeprefix(PREFIX) for spec in POLICIES] == [
        "info",
        "created",
        "status_condition",
        "sink_status_condition",
    ]
