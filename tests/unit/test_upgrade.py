"""docs/upgrade.md names whatever came or went since the last release."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.storage.log.frame import FORMAT, FORMAT_MIN
from relay.telemetry.deprecated_metrics import DEPRECATED, REMOVED_IN
from relay.telemetry.registry import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/upgrade.md").read_text(encoding="utf-8")
RELEASED = json.loads((ROOT / "tests/data/names-0.1.0.json").read_text(encoding="utf-8"))
"""Names of metrics, settings and loggers in version 0.1.0."""


def settings() -> Iterator[str]:
    """Every setting of the table in docs/configuration.md, but those that stand behind one of their
    section."""
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    table = page.partition("| setting | default | |")[2].partition("\n\n")[0]
    for line in table.splitlines():
        yield from re.findall(
            r"`([A-Za-z][A-Za-z.\[\]]*)`", line.split("|")[1] if "|" in line else ""
        )


def loggers() -> Iterator[str]:
    """Every logger of the relay's own."""
    for path in (ROOT / "relay").rglob("*.py"):
        yield from re.findall(r'getLogger\("(relay[a-z.]*)"\)', path.read_text(encoding="utf-8"))


def present() -> dict[str, set[str]]:
    """The names as they are now."""
    return {
        "metrics": {spec.name for spec in CATALOGUE},
        "settings": set(settings()),
        "loggers": set(loggers()),
    }


@pytest.mark.parametrize("kind", ["metrics", "settings", "loggers"])
def test_every_name_that_came_or_went_is_listed(kind: str) -> None:
    changed = present()[kind] ^ set(RELEASED[kind])
    assert sorted(name for name in changed if f"`{name}`" not in TEXT) == []


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
