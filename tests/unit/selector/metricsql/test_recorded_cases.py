"""The recorded answers of VictoriaMetrics itself.

``cases.jsonl``: hand-picked queries; ``metricsql.jsonl``: generated ones, heavy on WITH, with what
metricsql v0.87.3 made of them (``groups`` null: an error, or no selector).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.runtime.errors import SelectorError
from relay.selector.evaluate import compile_selector
from relay.selector.matchers import Selector
from relay.selector.metricsql.parser import parse_selector
from tests.kit.paths import ROOT

DATA = ROOT / "tests/data/selectors"

TYPOGRAPHIC_ID = 119
"""The proposal's own example: VictoriaMetrics refuses its quotes, we accept them and warn."""


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


CASES = _rows("cases.jsonl")


def _groups(selector: Selector) -> list[list[dict[str, str]]]:
    return [
        [{"label": item.label, "op": item.op, "value": item.value} for item in group]
        for group in selector.groups
    ]


def _is_accepted(row: dict[str, Any]) -> bool:
    # Rates, sums and the like are valid MetricsQL, but no selectors: those we refuse.
    return bool(row["ok"]) and row.get("expr_type") == "MetricExpr"


@pytest.mark.parametrize("row", CASES, ids=lambda row: str(row["id"]))
def test_parsing_agrees(row: dict[str, Any]) -> None:
    if row["id"] == TYPOGRAPHIC_ID:
        assert parse_selector(row["selector"]).warnings
    elif _is_accepted(row):
        selector = parse_selector(row["selector"])
        assert selector.warnings == ()
        if "groups" in row:
            assert _groups(selector) == row["groups"]
    else:
        with pytest.raises(SelectorError):
            parse_selector(row["selector"])


@pytest.mark.parametrize(
    "row", [row for row in CASES if row["kind"] == "match"], ids=lambda row: str(row["id"])
)
def test_matching_agrees(row: dict[str, Any]) -> None:
    labels = row["labels"]
    if isinstance(labels, list):
        # A repeated label: decoding lets none through, so only the first can be meant.
        labels = dict(reversed(labels))
    compiled = compile_selector(parse_selector(row["selector"]))
    assert compiled.matches(labels) is row["ref_match"]
    assert compiled.explain(labels).matched is row["ref_match"]


def test_all_cases_are_there() -> None:
    assert len(CASES) == 248


def test_generated_queries_agree() -> None:
    rows = _rows("metricsql.jsonl")
    assert len(rows) == 400
    for row in rows:
        try:
            selector = parse_selector(row["selector"])
        except SelectorError:
            found = None
        else:
            found = [[[m.label, m.op, m.value] for m in group] for group in selector.groups]
        assert found == row["groups"], row["selector"]
