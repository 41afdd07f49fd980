"""``relay backup`` and ``relay restore``: what they print, and the exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relay.cli.main import main
from tests.kit.documents import STORED


def test_a_backup_is_made_and_restored_by_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "relay.yaml"
    settings.write_text("storage: {path: data}\n")
    assert main(["backup", "--data", str(STORED), str(tmp_path / "a.tar")]) == 0
    assert capsys.readouterr().out == f"backed up {STORED}: 7 files, 5884 bytes\n"
    assert main(["restore", "--config", str(settings), str(tmp_path / "a.tar")]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"restored {tmp_path}/data: 6 files, 5862 bytes, backed up 20")
    assert main(["backup", "--config", str(settings), str(tmp_path / "again")]) == 0
    assert (tmp_path / "again/files.json").exists()


def test_an_archive_goes_through_pipes(tmp_path: Path) -> None:
    relay = f"{sys.executable} -m relay"
    script = f"{relay} backup --data {STORED} - | gzip | {relay} restore --data {tmp_path}/data -"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-ec", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"backed up {STORED}: 7 files, 5884 bytes\n"
    assert "restored" in done.stdout


def test_faults_are_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "relay.yaml").write_text("{}\n")
    (tmp_path / "a.tar").write_text("mine")
    data, here = str(STORED), str(tmp_path)
    for arguments, words in (
        (["backup", "--data", f"{here}/missing", f"{here}/b.tar"], "missing is no directory"),
        (["backup", "--data", data, f"{here}/a.tar"], "a.tar exists; a backup replaces nothing"),
        (["backup", "--data", data, f"{here}/no/b.tar"], "b.tar.unfinished: No such file or dir"),
        (["backup", "--config", f"{here}/relay.yaml", f"{here}/b"], "the relay keeps nothing on"),
        (["restore", "--data", f"{here}/new", f"{here}/a.tar"], "the backup cannot be read"),
        (["restore", "--data", f"{here}/new", f"{here}/none.tar"], "none.tar: No such file or dir"),
        (["restore", "--data", here, str(STORED.parent)], "not a backup of a relay"),
    ):
        assert main(arguments) == 1, arguments
        out, err = capsys.readouterr()
        assert not out
        assert err.startswith("relay: ")
        assert err.count("\n") == 1, err
        assert words in err, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "relay.yaml"]


def test_state_of_delta_streams_is_left_out_unless_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = STORED.parents[1] / "stopped/data"
    assert main(["backup", "--data", str(stopped), str(tmp_path / "a.tar")]) == 0
    assert main(["restore", "--data", str(tmp_path / "one"), str(tmp_path / "a.tar")]) == 0
    assert "delta streams restart" in capsys.readouterr().out
    assert not (tmp_path / "one/deltas").exists()
    assert main(["restore", "--moved", "--data", f"{tmp_path}/two", f"{tmp_path}/a.tar"]) == 0
    assert "delta streams" not in capsys.readouterr().out
    assert (tmp_path / "two/deltas").exists()
