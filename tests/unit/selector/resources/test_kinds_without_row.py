"""Warnings about kinds that a selector names and the table of kinds does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.cli.check import check
from relay.selector.resources.kind_table import kinds_without_row
from relay.selector.resources.label_selector import (
    KindMarks,
    KindRow,
    KindSelector,
    ResourceSelector,
)

GATEWAYS = "gateway.networking.k8s.io"
ROWS = (
    KindRow("Gateway", ("gw",), group=GATEWAYS, marks=KindMarks(label="gateway_name")),
    KindRow("HTTPRoute", group=GATEWAYS, marks=KindMarks(label="httproute_name")),
    KindRow("Secret", group="", marks=KindMarks(metric_prefix="secret_")),
    KindRow("Widget", group="widgets.example.com"),
)


def warnings(group: str, kind: str, *, rows: tuple[KindRow, ...] = ROWS) -> list[str]:
    """Return what is said of one entry of ``kinds``."""
    selector = ResourceSelector(kinds=(KindSelector((group,), (kind,)),))
    return list(kinds_without_row(rows, [selector, selector]))


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        (GATEWAYS, "Gateway"),
        (GATEWAYS, "gateways"),
        (GATEWAYS, "gw"),
        (GATEWAYS, "*"),
        ("*", "Gatway"),
        ("", "secrets"),
        ("widgets.example.com", "Gadget"),  # no row recognises series of the group
        ("apps", "Deployment"),
    ],
)
def test_nothing_is_said_where_the_table_or_the_labels_may_tell(group: str, kind: str) -> None:
    assert warnings(group, kind) == []


NONE_OF = "no row of resources.kinds is of"
NO_SERIES = "so the table finds no series of it"
OF_GATEWAYS = f"{NO_SERIES}; those of the group are of Gateway, HTTPRoute"
OF_CORE = f"{NO_SERIES}; those of the group are of Secret"
NO_GROUP = "no row of resources.kinds has group gateways.networking.k8s.io"


@pytest.mark.parametrize(
    ("group", "kind", "expected"),
    [
        (GATEWAYS, "Gatway", f"{NONE_OF} Gatway of {GATEWAYS}, {OF_GATEWAYS}"),
        ("", "Gateway", f"{NONE_OF} Gateway of the core group, {OF_CORE}"),
        (
            f"gateways.{GATEWAYS.partition('.')[2]}",
            "Gateway",
            f'{NO_GROUP}, {NO_SERIES}; did you mean "{GATEWAYS}"?',
        ),
    ],
)
def test_a_misspelt_kind_or_group_is_named_once(group: str, kind: str, expected: str) -> None:
    assert warnings(group, kind) == [expected]
    assert warnings(group, kind, rows=()) == []


@pytest.mark.parametrize("signal", ["metrics", "logs", "traces"])
def test_check_warns_of_it_with_the_source(tmp_path: Path, signal: str) -> None:
    settings, manifest = tmp_path / "relay.yaml", tmp_path / "gateways.yaml"
    settings.write_text(
        "exporters: [{path: gateways.yaml}]\n"
        "resources:\n"
        f"  kinds: [{{kind: Gateway, group: {GATEWAYS}, marks: {{label: gateway_name}}}}]\n"
    )
    manifest.write_text(f"""
apiVersion: telemetry.miloapis.com/v1alpha1
kind: ExportPolicy
metadata: {{name: gateways}}
spec:
  sources:
    - name: gateways
      {signal}:
        resourceSelectors: [{{kinds: [{{group: {GATEWAYS}, kind: Gatway}}]}}]
  sinks:
    - name: prometheus
      sources: [gateways]
      target: {{openTelemetry: {{http: {{endpoint: "https://otlp.example.com"}}}}}}
""")
    result = check([settings])
    assert not result.faults
    (said,) = [line for line in result.lines if "resources.kinds" in line]
    assert said.startswith("warning ")
    assert f"source gateways: no row of resources.kinds is of Gatway of {GATEWAYS}," in said
