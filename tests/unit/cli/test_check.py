"""``relay check``: settings with all that they name."""

from __future__ import annotations

from pathlib import Path

from relay.cli.check import check
from tests.kit.paths import DATA

SEED = DATA / "seed/exporter-target.yaml"
HALF = DATA / "exporters/good/seed-target-resource-selectors.yaml"


def test_settings_are_checked_with_their_inventory(tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text("inventory: {manifests: [{path: objects}]}\n")
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects/a.yaml").write_text(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: Namespace\n"
    )
    result = check([tmp_path / "relay.yaml"])
    where = tmp_path / "relay.yaml"
    assert result.lines[1] == f"warning  {where}: exporters: none, so nothing will be exported"
    assert result.lines[2] == f"good     {where}: inventory of 1 objects"
    (fault,) = result.faults
    assert str(fault) == (
        f"{tmp_path / 'objects/a.yaml'}:5:1 (document 2): "
        "apiVersion: must be a string: every Kubernetes object has it\n"
        "    kind: Namespace\n"
        "    ^"
    )


def test_the_proposals_target_is_refused_for_one_reason_only() -> None:
    (fault,) = check([SEED], need_secrets=False).faults
    assert (fault.path, fault.message) == (
        "spec.sources[0].metrics",
        "metricsql and resourceSelectors are mutually exclusive: remove one",
    )
    assert check([HALF], need_secrets=False).faults == ()


def test_nothing_that_is_checked_is_not_called_good(tmp_path: Path) -> None:
    empty = tmp_path / "relay.yaml"
    empty.write_text("# listen: 127.0.0.1:9490\n")
    assert check([empty]).lines == ("no faults, but neither settings nor an Exporter",)


BAD_EXPORTER = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: a}
spec:
  sources: [{name: all, metrics: {metricsql: "rate(up[5m])"}}]
  sinks: [{name: s, otlp_http: {endpoint: "https://localhost:4318"}}]
"""


def test_faulty_settings_hide_no_fault_of_an_exporter(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e/a.yaml").write_text(BAD_EXPORTER)
    settings = tmp_path / "relay.yaml"
    settings.write_text("log: {level: warn}\nexporters: [{path: e}]\n")
    found = [str(fault) for fault in check([settings]).faults]
    assert len(found) == 2
    assert "log.level" in found[0]
    assert "rate" in found[1]


def test_without_its_tenancy_no_exporter_is_judged(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e/a.yaml").write_text(BAD_EXPORTER)
    settings = tmp_path / "relay.yaml"
    settings.write_text("tenancy: {label: 5}\nexporters: [{path: e, project: p}]\n")
    result = check([settings])
    (fault,) = result.faults
    assert "tenancy.label" in str(fault)
    assert any("no Exporter was checked: mend tenancy first" in line for line in result.lines)
