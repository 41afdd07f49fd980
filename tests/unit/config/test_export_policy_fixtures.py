"""The fixtures of ExportPolicy: what a reader of the dialects has to accept, and to say.

``good`` has an example of every revision of the definition and of the proposal, ``bad`` one file a
rule, each with all that ``relay check`` has to print of it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from relay.config.yaml.document import parse_documents
from relay.runtime.excerpt import excerpt, indented
from tests.support.paths import ROOT

DATA = ROOT / "tests/data/export_policies"
GOOD = sorted((DATA / "good").glob("*.yaml"))
BAD = sorted((DATA / "bad").glob("*.yaml"))
GROUPS = {"telemetry.miloapis.com/v1alpha1", "telemetry.datumapis.com/v1alpha1"}

_SAID = re.compile(
    r"fault    (?P<file>[\w.-]+):(?P<line>\d+):(?P<column>\d+)(?: \((?P<about>[^)]+)\))?: "
    r"(?P<path>[\w.\[\]]+): (?P<message>.+)"
)


def policies_in(text: str) -> list[dict[str, object]]:
    """The ExportPolicies of a file, those in Lists too."""
    documents = list(yaml.safe_load_all(text))
    return [
        one
        for document in documents
        for one in (document["items"] if document["kind"] == "List" else [document])
        if str(one["kind"]).startswith("ExportPolic")
    ]


@pytest.mark.parametrize("file", [*GOOD, *BAD], ids=lambda file: file.stem)
def test_each_file_holds_one_policy_and_is_yaml(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(policies_in(text)) == 1
    assert not [fault for document in parse_documents(text, file.name) for fault in document.faults]


def test_both_groups_and_every_spelling_are_among_the_good() -> None:
    texts = [file.read_text(encoding="utf-8") for file in GOOD]
    assert {policies_in(text)[0]["apiVersion"] for text in texts} == GROUPS
    for spelling in (
        "basicAuth:",
        "basic:",
        "bearer:",
        "bearerToken:",
        "backoff:",
        "backoffDuration:",
        'metricsql: "{}"',
        "- group:",
        "- apiGroups:",
        "resources:",
        'kind: "*"',
        'kind: ["*"]',
    ):
        assert any(spelling in text for text in texts), spelling


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_each_message_points_at_its_place(file: Path) -> None:
    first, *rest = file.with_suffix(".txt").read_text(encoding="utf-8").split("\n")
    said = _SAID.fullmatch(first)
    assert said is not None, first
    assert said["file"] == file.name
    lines = file.read_text(encoding="utf-8").split("\n")
    line, column = int(said["line"]), int(said["column"])
    assert "\n".join(rest) == indented(excerpt(lines[line - 1], column - 1))[1:] + "\n1 fault\n"


def test_no_two_files_break_the_same_rule_and_none_is_without_a_message() -> None:
    assert {file.stem for file in (DATA / "bad").glob("*.txt")} == {file.stem for file in BAD}
    texts = [file.read_text(encoding="utf-8") for file in BAD]
    assert len(set(texts)) == len(texts) >= 50
