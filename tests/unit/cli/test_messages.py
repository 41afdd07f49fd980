"""What ``relay check`` says of bad files, word for word.

``RELAY_WRITE_MESSAGES=1 pytest tests/unit/cli/test_messages.py`` writes the expected output anew:
read every line of the difference as someone would who has only that line.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.cli.check import check
from tests.kit.paths import ROOT

DATA = ROOT / "tests/data/messages"
INPUTS = sorted(DATA.glob("*.yaml"))
WRITES = os.environ.get("RELAY_WRITE_MESSAGES") == "1"


@pytest.mark.parametrize("file", INPUTS, ids=lambda file: file.stem)
def test_each_bad_input_has_its_message(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    said = "\n".join(check([Path(file.name)]).lines) + "\n"
    assert "hunter2" not in said, "a secret is shown"
    assert said.replace("\n", "").isprintable()
    expected = file.with_suffix(".txt")
    if WRITES:
        expected.write_text(said, encoding="utf-8")
    assert said == expected.read_text(encoding="utf-8")


def test_there_are_a_hundred_inputs_and_no_message_without_one() -> None:
    assert len(INPUTS) >= 100
    assert {file.stem for file in DATA.glob("*.txt")} == {file.stem for file in INPUTS}


@pytest.mark.parametrize("file", INPUTS, ids=lambda file: file.stem)
def test_every_fault_has_a_place_in_the_order_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DATA)
    faults = check([Path(file.name)]).faults
    places = [fault.place for fault in faults if fault.file]
    assert places == sorted(places)
    for fault in faults:
        line, column = fault.place
        assert f"{file.name}:{line}:{column}" in str(fault)
        text = file.read_text(encoding="utf-8").split("\n")
        assert 1 <= line <= len(text)
        assert 1 <= column <= len(text[line - 1]) + 1
