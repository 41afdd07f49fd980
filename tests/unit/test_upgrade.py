"""docs/upgrade.md names whatever came or went since the last release."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.config.settings.settings import settings_schema
from relay.storage.log.frame import FORMAT, FORMAT_MIN
from relay.telemetry.deprecated_metrics import DEPRECATED, REMOVED_IN
from relay.telemetry.registry import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/upgrade.md").read_text(encoding="utf-8")
RELEASED = json.loads((ROOT / "tests/data/names-0.1.0.json").read_text(encoding="utf-8"))
"""Names of metrics, settings and loggers in version 0.1.0."""


def settings(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """The full name of every setting below a schema; ``[]`` stands for the entries of a list."""
    if node.get("type") == "array" and "properties" in node["items"]:
        yield from settings(node["items"], f"{path}[]")
    elif "properties" in node:
        for name, one in node["properties"].items():
            yield from settings(one, f"{path}.{name}".lstrip("."))
    else:
        yield path


def sections(name: str) -> Iterator[str]:
    """A name, then the sections that hold it, but for the one at the top."""
    yield name
    while "." in (name := name.rpartition(".")[0]):
        yield name


def loggers() -> Iterator[str]:
    """Every logger of the relay's own."""
    for path in (ROOT / "relay").rglob("*.py"):
        yield from re.findall(r'getLogger\("(relay[a-z.]*)"\)', path.read_text(encoding="utf-8"))


def present() -> dict[str, set[str]]:
    """The names as they are now."""
    return {
        "metrics": {spec.name for spec in CATALOGUE},
        "settings": set(settings(settings_schema().root)),
        "loggers": set(loggers()),
    }


@pytest.mark.parametrize("kind", ["metrics", "settings", "loggers"])
def test_every_name_that_came_or_went_is_listed(kind: str) -> None:
    changed = present()[kind] ^ set(RELEASED[kind])
    unlisted = [name for name in changed if not any(f"`{one}`" in TEXT for one in sections(name))]
    assert sorted(unlisted) == []


def test_the_tables_of_settings_name_each_in_full_and_once() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| setting \| default \| \|\n(?:\|.*\n)+", page, re.MULTILINE)
    cells = [line.split("|")[1] for table in tables for line in table.splitlines()[2:]]
    named = [name for cell in cells for name in re.findall(r"`([A-Za-z][\w.\[\]]*)`", cell)]
    known = present()["settings"]
    assert len(tables) > 5
    assert len(set(named)) == len(named)
    assert [name for name in named if not any(name in sections(one) for one in known)] == []
    assert [name for name in known if not any(one in named for one in sections(name))] == []


def test_no_metric_of_a_release_is_gone_before_its_time() -> None:
    assert set(RELEASED["metrics"]) <= present()["metrics"]
    for old, new in DEPRECATED.items():
        assert re.search(rf"`{old}`.*`{new}`", TEXT)
    assert REMOVED_IN in TEXT


def test_every_format_is_listed() -> None:
    for number in range(FORMAT_MIN, FORMAT + 1):
        assert re.search(rf"^\| {number} \|", TEXT, re.MULTILINE), number
    stored = {path.name for path in (ROOT / "tests/data/data_directories").iterdir()}
    assert stored >= {f"format-{number}" for number in range(FORMAT_MIN, FORMAT)}
