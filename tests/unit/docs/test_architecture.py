"""docs/architecture.md is true of the code: files and functions exist, and the walk is counted.

A *hop* is the way from one file to the next in reading order, returns to a caller included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kit.documents import ROOT

PACKAGE = ROOT / "relay"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
HOPS_MAX = 65
"""A limit that only goes down."""

ADRS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
NAME = re.compile(r"`([A-Za-z_][\w.]*)`")
FILE = re.compile(r"`relay/([\w/]+\.pyx?)`")
BACK = "↩"


class Stay(NamedTuple):
    """One line of the walk: a file below relay/, and what of it is read."""

    file: str
    names: tuple[str, ...]
    is_back: bool


def walk() -> list[Stay]:
    """The walk, in order."""
    section = PAGE.partition("## The walk of one request")[2].partition("\n###")[0]
    stays = []
    for line in re.findall(r"^1\. (.*)$", section, re.MULTILINE):
        found = re.match(rf"({BACK} )?`([\w/]+\.pyx?)` (`[^:]*`)(?:: .*)?$", line)
        assert found, f"a line of the walk reads: file, functions, what happens; not {line!r}"
        stays.append(Stay(found[2], tuple(NAME.findall(found[3])), bool(found[1])))
    return stays


def rows() -> Iterator[tuple[str, list[str], list[str]]]:
    """Every row of a table that names files: what it begins with, files, and names to be found.

    Names are all of the column "functions" or, in a table without one, those of methods.
    """
    header: list[str] = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells
        elif files := FILE.findall(line):
            if "functions" in header:
                names = NAME.findall(cells[header.index("functions")])
            else:
                names = re.findall(r"`([A-Z]\w*\.\w+)`", line)
            yield cells[0], files, names


def defines(file: Path, dotted: str) -> bool:
    """Whether a module defines a class or function, a method or attribute of its class included."""
    text = file.read_text(encoding="utf-8")
    owner, _, own = dotted.rpartition(".")
    definition = r"^ *(?:async def|cdef class|class|def|cp?def(?: inline)?(?: [\w*]+)*?) {}\b"
    if owner and not re.search(definition.format(owner), text, re.MULTILINE):
        return False
    if re.search(definition.format(re.escape(own)), text, re.MULTILINE):
        return True
    return bool(owner and re.search(rf"^ +self\.{own}\b.*=", text, re.MULTILINE))


@pytest.mark.parametrize("stay", walk(), ids=lambda stay: f"{stay.file}-{stay.names[0]}")
def test_the_walk_names_what_there_is(stay: Stay) -> None:
    for name in stay.names:
        assert defines(PACKAGE / stay.file, name), name


def test_the_walk_goes_from_file_to_file_and_marks_returns() -> None:
    stays = walk()
    seen: set[str] = set()
    for before, after in pairwise(stays):
        assert before.file != after.file, f"{after.file} {after.names}: no hop"
    for stay in stays:
        assert stay.is_back == (stay.file in seen), stay
        seen.add(stay.file)


def test_the_hops_are_counted() -> None:
    stays = walk()
    hops, files = len(stays) - 1, len({stay.file for stay in stays})
    stated = re.search(r"It takes (\d+) hops between (\d+) files\.", PAGE)
    assert stated
    assert (int(stated[1]), int(stated[2])) == (hops, files)
    assert hops <= HOPS_MAX


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row[0][:60])
def test_tables_name_what_there_is(row: tuple[str, list[str], list[str]]) -> None:
    _, files, names = row
    for file in files:
        assert (PACKAGE / file).is_file(), file
    for name in names:
        assert any(defines(PACKAGE / file, name) for file in files), name


def test_every_table_has_rows() -> None:
    for heading in (
        "Where data waits",
        "Where data can be lost",
        "Where new parts go",
        "Where a project's boundary is",
        "The event loop",
    ):
        section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        assert len(FILE.findall(section)) >= 6, heading


def test_the_packages_are_those_there_are() -> None:
    section = PAGE.partition("| level | package |")[2].partition("\n\n")[0]
    named = {name for row in section.splitlines()[2:] for name in NAME.findall(row.split("|")[2])}
    found = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert named == found | {"app", "__main__"}


def test_a_missing_name_is_noticed() -> None:
    assert defines(PACKAGE / "receiver/responses.py", "answer_to")
    assert not defines(PACKAGE / "receiver/responses.py", "answer_to_nobody")
    assert not defines(PACKAGE / "receiver/responses.py", "Nobody.answer_to")


# Other pages.


def definitions() -> set[str]:
    """Names of classes and of aliases, anywhere in the package."""
    found: set[str] = set()
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyx")]:
        text = path.read_text(encoding="utf-8")
        found.update(re.findall(r"^ *(?:cdef )?class (\w+)", text, re.MULTILINE))
        found.update(re.findall(r"^([A-Z]\w+)(?:: TypeAlias)? = ", text, re.MULTILINE))
    return found


def test_the_glossary_names_what_there_is() -> None:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    known = definitions()
    words = [row[0] for row in rows if len(row) == 3]
    assert len(words) > 40
    assert len(set(words)) == len(words) - words.count("word") + 1, "one word, one meaning"
    for row in rows:
        for name in re.findall(r"`([A-Z]\w*)(?:\.\w+)?`", row[-1]):
            assert name in known, row


@pytest.mark.parametrize("name", ["hot-path", *(f"adr/{path.stem}" for path in ADRS)])
def test_pages_name_methods_that_there_are(name: str) -> None:
    text = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyx")]
    )
    for owner, own in re.findall(r"[`\[]([A-Z]\w+)\.([a-z_]\w*)[`\]]", text):
        assert owner in definitions(), owner
        assert re.search(rf"\bdef {own}\b", code), own
    for called in re.findall(r"^([a-z_]\w+|[A-Z]\w+\.[a-z_]\w+)\(.*\):$", text, re.MULTILINE):
        assert re.search(rf"\bdef {called.rpartition('.')[2]}\b", code), called
