"""The fixtures of ExportPolicy: what the loader accepts, and what it says.

``good`` has an example of every revision of the definition and of the proposal, ``bad`` one file a
rule, each with all that ``relay check`` prints of it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from relay.cli.check import check
from relay.config.exporter.manifest_loader import load_exporters
from relay.config.exporter.types import ExporterPath
from relay.config.yaml.document import parse_documents
from relay.runtime.excerpt import excerpt, indented
from tests.kit.paths import ROOT

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
def test_check_says_of_each_bad_file_what_stands_beside_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    result = check([Path(file.name)])
    assert "\n".join(result.lines) + "\n" == file.with_suffix(".txt").read_text(encoding="utf-8")
    assert len(result.faults) == 1, "a file breaks one rule"


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_each_message_points_at_its_place(file: Path) -> None:
    told = file.with_suffix(".txt").read_text(encoding="utf-8")
    start = told.index("fault    ")
    first, *rest = told[start:].split("\n")
    said = _SAID.fullmatch(first)
    assert said is not None, first
    assert said["file"] == file.name
    lines = file.read_text(encoding="utf-8").split("\n")
    line, column = int(said["line"]), int(said["column"])
    shown, caret, summary, end = rest
    assert caret == indented(excerpt(lines[line - 1], column - 1)).split("\n")[-1]
    assert masked(shown) == masked(indented(excerpt(lines[line - 1], column - 1)).split("\n")[1])
    assert summary == "1 fault"
    assert end == ""


def masked(text: str) -> str:
    """Return a line up to what may be masked in it."""
    return text.partition("…")[0][:30]


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_each_good_file_is_one_policy_that_runs(file: Path) -> None:
    result = load_exporters([ExporterPath(file)])
    assert result.faults == ()
    (policy,) = result.exporters
    assert policy.kind == "ExportPolicy"
    assert policy.sinks
    assert policy.refused == ()


def test_no_two_files_break_the_same_rule_and_none_is_without_a_message() -> None:
    assert {file.stem for file in (DATA / "bad").glob("*.txt")} == {file.stem for file in BAD}
    texts = [file.read_text(encoding="utf-8") for file in BAD]
    assert len(set(texts)) == len(texts) >= 50
