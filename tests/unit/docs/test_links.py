"""Documents point at what exists: links, headings, files, metrics, settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.telemetry.registry import CATALOGUE
from tests.kit.documents import ROOT, documents, outside_blocks

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
README_LINES_MAX = 200
SUFFIXES = ("_bucket", "_count", "_sum")
PATHS = re.compile(r"`((?:relay|tests|config|docs|bench|build_support)/[\w./-]+\.\w+)(?:::\w+)*`")
"""Files that a text names; with a test behind ``::`` perhaps."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", outside_blocks(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(outside_blocks(path)):
        if re.match(r"https?://|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_files_that_are_named_exist(path: Path) -> None:
    for name in PATHS.findall(outside_blocks(path)):
        assert list(ROOT.glob(name)), name


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_metrics_that_are_named_exist(path: Path) -> None:
    known = {spec.name for spec in CATALOGUE}
    known |= {spec.name + suffix for spec in CATALOGUE for suffix in SUFFIXES}
    for name in re.findall(r"`(relay_\w+)", outside_blocks(path)):
        assert name in known, name


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= README_LINES_MAX


def test_every_document_is_reached_from_the_readme() -> None:
    found, left = set(), [ROOT / "README.md"]
    while left:
        path = left.pop()
        if path in found or path.suffix != ".md":
            continue
        found.add(path)
        for target in LINK.findall(outside_blocks(path)):
            file = target.partition("#")[0]
            if file and not re.match(r"https?://|mailto:", file):
                left.append((path.parent / file).resolve())
    assert set(documents()) <= found
