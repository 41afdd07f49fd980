"""The steps under "Where new parts go" in docs/architecture.md name what there is."""

from __future__ import annotations

import re

import pytest

from tests.kit.documents import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Where new parts go\n")[2].partition("\n## ")[0]
STEPS = re.findall(r"^1\. (.*)$", SECTION, re.MULTILINE)
QUOTED = re.compile(r"`([^`]+)`")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
FOREIGN = {"make schema", "application/x-protobuf", "/v1/metrics"}


def unknown(step: str) -> list[str]:
    """Return what a step quotes that is no file and stands in none of the step's files."""
    quoted = [one for one in QUOTED.findall(step) if one not in FOREIGN]
    files = [ROOT / one for one in quoted if (ROOT / one).is_file()]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    names = [one for one in quoted if not (ROOT / one).exists()]
    return [one for one in names if not NAME.fullmatch(one) or not _occurs(one, text)]


def _occurs(name: str, text: str) -> bool:
    """Whether a text has a name; of a dotted one, its owner's definition and its own."""
    owner, _, own = name.rpartition(".")
    if not owner:
        return re.search(rf"\b{own}\b", text) is not None
    is_owned = re.search(rf"^(?:cdef )?class {owner}\b", text, re.MULTILINE)
    member = rf"^ +(?:(?:async |cp?)?def (?:[\w*]+ )*)?{own}\b[^=\n]*[:(]"
    return is_owned is not None and re.search(member, text, re.MULTILINE) is not None


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[:50])
def test_a_step_names_what_there_is(step: str) -> None:
    assert unknown(step) == []


def test_every_part_has_steps() -> None:
    parts = re.findall(r"^### (.*)\n((?:.*\n)*?)(?=### |\Z)", SECTION + "\n", re.MULTILINE)
    assert len(parts) == 6
    for heading, text in parts:
        assert len(re.findall(r"^1\. ", text, re.MULTILINE)) >= 2, heading


def test_a_step_that_names_nothing_is_noticed() -> None:
    assert unknown("`relay/sink/kinds.py`: an entry of `KINDS`") == []
    assert unknown("`relay/sink/kinds.py`: an entry of `SORTS`") == ["SORTS"]
    assert unknown("`Sink.endpoint` of `relay/config/exporter/types.py`") == []
    assert unknown("`Sink.http` of `relay/config/exporter/types.py`") == ["Sink.http"]
    assert unknown("`relay/sink/sorts.py`: an entry of `KINDS`") == ["relay/sink/sorts.py", "KINDS"]
