"""What the demo says to type next can be typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.cli.demo import story


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a virtual environment, and a path without a relay."""
    binaries = tmp_path / ".venv/bin"
    binaries.mkdir(parents=True)
    for name in ("python", "relay"):
        (binaries / name).write_text("#!/bin/sh\n")
        (binaries / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.executable", str(binaries / "python"))
    return tmp_path


def test_a_relay_beside_the_interpreter_is_named_by_its_path(here: Path) -> None:
    assert story.command() == ".venv/bin/relay"
    lines = [line for line in story.farewell(balanced=True) if "demo --show-config" in line]
    assert lines[0].startswith("  .venv/bin/relay demo")


def test_a_relay_on_the_path_is_called_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(here / ".venv/bin"))
    assert story.command() == "relay"


def test_another_relay_on_the_path_is_not_meant(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "relay").write_text("#!/bin/sh\n")
    (here / "relay").chmod(0o755)
    monkeypatch.setenv("PATH", str(here))
    assert story.command() == ".venv/bin/relay"


def test_without_a_script_the_module_is_run(here: Path) -> None:
    (here / ".venv/bin/relay").unlink()
    assert story.command() == ".venv/bin/python -m relay"
