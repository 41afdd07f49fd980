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
