"""``relay check`` of paths that are missing or hold nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.cli.check import check
from relay.cli.main import main


def test_a_named_directory_without_manifests_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/notes.txt").write_text("kind: Exporter\n")
    assert main(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().out == (
        f"fault    {tmp_path}: holds no manifest: no *.yaml or *.yml in it or below\n1 fault\n"
    )


def test_a_directory_that_settings_name_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "customers").mkdir()
    settings = tmp_path / "relay.yaml"
    settings.write_text("exporters: [{path: customers}]\n")
    result = check([settings])
    assert result.faults == ()
    assert (
        f"warning  {settings}: exporters: {tmp_path / 'customers'}: holds no manifest: "
        "no *.yaml or *.yml in it or below"
    ) in result.lines


def test_a_missing_path_is_shown_where_the_settings_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("relay.yaml").write_text("exporters:\n  - path: customers\n")
    result = check([Path("relay.yaml")])
    (fault,) = result.faults
    assert str(fault) == (
        "relay.yaml:2:11: exporters[0].path: no such file or directory: "
        f"{tmp_path / 'customers'}\n      - path: customers\n              ^"
    )
    assert [line for line in result.lines if line.startswith("fault")] == [
        (
            "fault    relay.yaml:2:11: exporters[0].path: no such file or directory: customers\n"
            "      - path: customers\n              ^"
        )
    ]


def test_a_missing_path_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("kind: Exporter\n")
    settings = tmp_path / "relay.yaml"
    settings.write_text("exporters: [{path: nope}, {path: bad.yaml}]\n")
    places = {fault.origin.split(":")[0] for fault in check([settings]).faults}
    assert places == {str(settings), str(tmp_path / "bad.yaml")}
