"""Explanations of which sources take the records of a resource."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import ExporterPath
from relay.control.explain_records import RecordRules, explain_records, parse_attributes
from relay.pipeline.contract import Tenant
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.tenancy import Tenancy
from relay.runtime.errors import SelectorError
from relay.selector.inventory.store import Inventory
from relay.selector.resources.compiler import Compiler
from tests.kit.exporter_yaml import exporter_of

SOURCES = [
    {"name": "all", "logs": {}},
    {
        "name": "some",
        "logs": {
            "selector": '{service_name="api", "level"="error"} |= "x"',
            "categories": ["access"],
            "minSeverity": "WARN",
            "redact": [{"attribute": "user", "action": "drop"}],
        },
    },
    {"name": "spans", "traces": {"selector": '{service_name="api"}', "sampleRatio": 0.25}},
]
SINKS = [{"name": "s", "otlp_http": {"endpoint": "http://h"}}]


def explained(
    tmp_path: Path, question: str, *, signal: str = "logs", tenancy: bool = False, **more: object
) -> list[str]:
    """Return the answer for one exporter with these sources, of project acme under tenancy."""
    path = tmp_path / "e.yaml"
    path.write_text(exporter_of("x", SOURCES, SINKS))
    project = "acme" if tenancy else ""
    loaded = load_exporters([ExporterPath(path, project)], tenancy=tenancy, need_secrets=False)
    assert not loaded.faults
    rules = RecordRules(
        ResourceTenants(Tenancy("t", {(1, 0): "acme"}) if tenancy else Tenancy()),
        Compiler(),
        Inventory(objects_max=10),
        "log.category",
    )
    origin = rules.tenants.path_of(more.pop("tenant", None))  # type: ignore[arg-type]
    exporters = {one.id: one for one in loaded.exporters}
    attributes = parse_attributes(question)
    return list(
        explain_records(exporters, signal, attributes, rules, origin=origin, **more)  # type: ignore[arg-type]
    )


def test_what_is_left_to_records_is_said(tmp_path: Path) -> None:
    assert explained(tmp_path, '{service.name="api"}') == [
        "default/x:",
        "  all: yes, all records to s",
        (
            '  some: yes, records with attributes "level"="error" and category access and '
            'severity WARN or more and a line that has |= "x" to s'
        ),
        '    drop attribute "user"',
    ]


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ('{service.name="web"}', 'service_name="api" fails: service_name is "web"'),
        ('{level="info"}', '"level"="error" fails: level is "info"'),
        (
            '{service.name="api", log.category="audit"}',
            'its category is "audit", not one of access',
        ),
    ],
)
def test_the_reason_is_said(tmp_path: Path, question: str, reason: str) -> None:
    assert f"  some: no: {reason}" in explained(tmp_path, question)


def test_spans_are_sampled(tmp_path: Path) -> None:
    lines = explained(tmp_path, '{service.name="api"}', signal="traces")
    assert lines[1:] == ["  spans: yes, spans with a trace among 25 % of all to s"]


def test_records_without_a_project_and_others(tmp_path: Path) -> None:
    for question in ("{}", '{milo.project.id="acme", milo.project.id="b"}'):
        (line,) = explained(tmp_path, question, tenancy=True)
        assert line.startswith("no project: neither its path nor milo.project.id names one")
    own = explained(tmp_path, '{milo.project.id="acme"}', tenancy=True)
    assert own[0] == "acme/default/x:"
    assert explained(tmp_path, '{milo_project_id="acme"}', tenancy=True) == own
    assert explained(tmp_path, "{}", tenancy=True, tenant=Tenant(1)) == own
    other = explained(tmp_path, '{milo.project.id="b"}', tenancy=True, exporter="acme/default/x")
    assert other == ["acme/default/x: no: it is of project acme, not of b"]


@pytest.mark.parametrize("question", ['{a=~"x"}', '{a="b"} |= "x"', '{a="b" or c="d"}', "up"])
def test_conditions_are_no_resource(question: str) -> None:
    with pytest.raises(SelectorError):
        parse_attributes(question)
