"""The page of mended faults names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/faults.md").read_text()
NAMED = sorted(
    set(re.findall(r"`((?:unit|integration|property|chaos)/[\w/]+\.py)::([\w:]+)`", PAGE))
)


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    text = (TESTS / path).read_text()
    for part in name.split("::"):
        assert re.search(rf"^ *(?:async def|def|class) {part}\b", text, re.MULTILINE), part


def test_every_fault_has_a_proof() -> None:
    rows = re.findall(r"^\| ([A-F]\d*) \|[^|]+\| ([^|]+) \|", PAGE, re.MULTILINE)
    families = {"A": 7, "C": 11, "D": 9, "E": 6, "F": 13}
    expected = [f"{letter}{n}" for letter, count in families.items() for n in range(1, count + 1)]
    assert sorted(row for row, _ in rows) == sorted(["B", *expected])
    assert all("::" in proof or "messages `" in proof for _, proof in rows)
    for name in re.findall(r"`((?:found|yaml|endpoint|secret|selector)-[\w*-]+)`", PAGE):
        assert list((TESTS / "data/messages").glob(f"{name}.yaml")), name
