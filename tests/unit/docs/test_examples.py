"""Examples in the documents are good: YAML is checked, Python and commands are run.

What starts a relay, or asks a running one, is in
``tests/integration/docs/test_document_examples.py``.
"""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from relay.cli.check import check
from relay.cli.main import main
from relay.config.settings.settings import load_settings
from tests.kit.documents import (
    NOT_RUN,
    ROOT,
    TARGETS,
    Block,
    Command,
    all_blocks,
    commands,
    is_live,
    is_not_run,
    matches,
    workspace,
)

LANGUAGES = {"", "console", "promql", "python", "sh", "text", "yaml"}
OWN_KINDS = {"ExportPolicy", "Exporter", "Secret", "List"}


def blocks_named(*languages: str) -> list[object]:
    return [pytest.param(block, id=block.name) for block in all_blocks(*languages)]


def commands_named(wanted: list[Command]) -> list[object]:
    return [pytest.param(one, id=f"{one.block.name} {one.text[:40]}") for one in wanted]


RUN_HERE = [one for one in commands() if not (is_live(one) or is_not_run(one))]


def test_every_block_is_of_a_language_that_is_checked() -> None:
    assert {block.language for block in all_blocks()} <= LANGUAGES


def test_everything_that_is_not_run_is_there() -> None:
    texts = [one.text for one in commands()]
    for pattern in NOT_RUN:
        assert any(re.match(pattern, text) for text in texts), f"no command is {pattern!r} any more"


@pytest.mark.parametrize("block", blocks_named("yaml"))
def test_yaml(block: Block, tmp_path: Path) -> None:
    file = tmp_path / (block.title or "example.yaml")
    file.write_text(block.text, encoding="utf-8")
    if block.title == "relay.yaml":
        load_settings(file)  # raises ConfigError for every fault
        return
    found = list(yaml.safe_load_all(block.text))
    if block.title in ("prometheus.yml", "collector.yaml"):
        assert len(found) == 1
        return  # promtool says more, below
    assert {one["kind"] for one in found} <= OWN_KINDS, "say what file it is in the first line"
    result = check([file], secrets=None, need_secrets=False)
    assert not result.faults, result.lines
    # Every ExportPolicy limits its attempts, which check says of it.
    warnings = [line for line in result.lines if line.startswith("warning")]
    assert not [line for line in warnings if not line.endswith("is dropped")], result.lines


@pytest.mark.real
@pytest.mark.parametrize(
    "block", [one for one in all_blocks("yaml") if one.title == "prometheus.yml"]
)
def test_settings_of_prometheus(block: Block, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not installed: apt-get install prometheus"
    file = tmp_path / "prometheus.yml"
    file.write_text(block.text, encoding="utf-8")
    done = subprocess.run(
        [promtool, "check", "config", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", blocks_named("sh"))
def test_scripts_can_be_parsed(block: Block) -> None:
    """They name other programs and machines, so they are not run."""
    done = subprocess.run(
        ["sh", "-n"], input=block.text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_ellipsis_stands_for_lines() -> None:
    assert matches("a\n…\nd\n", "a\nb\nc\nd\n")
    assert not matches("a\n", "a\nb\n")


@pytest.mark.parametrize("command", commands_named(RUN_HERE))
def test_command(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = TARGETS.match(command.text)
    if made:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        names = itertools.chain(
            *(line.split() for line in re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE))
        )
        assert made[1] in set(names)
        return
    monkeypatch.chdir(workspace(tmp_path))
    words = shlex.split(command.text)
    if words[0] == "relay":
        assert main(words[1:]) == 0, capsys.readouterr()
        found = capsys.readouterr().out
    else:
        assert words[0] in ("mkdir", "echo"), f"run {words[0]!r}, or say in NOT_RUN why not"
        done = subprocess.run(
            ["sh", "-ec", command.text], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found = done.stdout
    assert not command.output or matches(command.output, found), found
