"""The gate: what it lets pass, and what it takes for an installed relay."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.gate import ROOT, installed_at, main, verdict
from bench.process import BenchError
from bench.ratios import ANY, Comparison


def environment(tmp_path: Path, site: Path) -> Path:
    """The relay command of an environment whose packages are in ``site``."""
    bin_directory = tmp_path / "environment/bin"
    bin_directory.mkdir(parents=True)
    python = bin_directory / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    command = bin_directory / "relay"
    command.write_text("#!/bin/sh\nexit 1\n")
    command.chmod(0o755)
    return command


@pytest.mark.parametrize(
    ("values", "void", "code"),
    [((1.0, 1.1, 1.3), 0, 0), ((1.0, 1.16, 1.2), 0, 1), ((1.0, 1.0, 1.0), 1, 1)],
)
def test_the_median_decides_and_a_void_run_fails(
    values: tuple[float, ...], void: int, code: int
) -> None:
    assert verdict(Comparison("relay-installed / relay", values, ANY), void, 1.15) == code


def test_without_a_pair_it_fails() -> None:
    assert verdict(None, 0, 1.15) == 1


def test_a_command_is_found_through_links(tmp_path: Path) -> None:
    package = tmp_path / "site/relay"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    command = environment(tmp_path, tmp_path / "site")
    link = tmp_path / "relay"
    link.symlink_to(command)
    assert installed_at(link) == package


def test_the_checkout_itself_is_no_installed_relay(tmp_path: Path) -> None:
    command = environment(tmp_path, ROOT)
    with pytest.raises(BenchError, match="runs this checkout"):
        installed_at(command)


def test_what_is_no_relay_command_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BenchError, match="no relay command of a virtual environment"):
        installed_at(tmp_path / "relay")
    empty = environment(tmp_path, tmp_path)
    (tmp_path / "relay.py").write_text("raise ImportError('no extension modules')\n")
    with pytest.raises(BenchError, match=r"(?s)cannot import relay: .*no extension modules"):
        installed_at(empty)
    assert main(["--installed", str(tmp_path / "relay")]) == 2
    assert "gate: " in capsys.readouterr().err
