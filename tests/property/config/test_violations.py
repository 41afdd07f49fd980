"""What violates the relay's schemas is what a library for JSON Schema finds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, ValidationErrorKind

from relay.config.export_policy.build import export_policy_schema
from relay.config.exporter.build import exporter_schema, list_schema, secret_schema
from relay.config.schema.source import Node, children
from relay.config.schema.violations import KEYWORDS, violations
from relay.config.settings.settings import settings_schema

SCHEMAS = (exporter_schema, secret_schema, list_schema, export_policy_schema, settings_schema)
SHAPES = {"properties", "items", "additionalProperties", "description", "default"}
MANY = 70
"""Entries; a limit above is not exceeded here."""
ODD = st.sampled_from(
    [None, True, False, 0, -1, 5.0, 1.5, math.nan, -math.inf, 2**70, [], {}, [None], {"a": 1}]
)
TEXTS = st.sampled_from(
    ["", "a", "A", "b-c", "-", "a.b", "a..b", "_x:y", "<kind>", "x<kind>y", "*", "*.a", "http://h"]
) | st.text("aZ0-_.:*/@?#<kind> \t\n$é", max_size=8).map(lambda text: text * 100 + text)


def nodes(node: Node) -> Iterator[Node]:
    """Yield a schema and all schemas in it."""
    yield node
    for key, child in children(node):
        for one in child.values() if key == "properties" else [child]:
            yield from nodes(one)


NODES = [node for schema in SCHEMAS for node in nodes(schema().root)]
PATTERNS = sorted({node["pattern"] for node in NODES if "pattern" in node})


def for_library(node: Node) -> Node:
    """Return a schema without what the library does not know, or the relay checks elsewhere."""
    copy = {key: value for key, value in node.items() if key in {*KEYWORDS, "items"}}
    if "x-relay-size" in node:
        copy["type"] = ["integer", "string"]
    if "x-relay-check" in node:
        copy.pop("pattern", None)
    for key, child in children(node):
        is_named = key == "properties"
        copy[key] = (
            {name: for_library(one) for name, one in child.items()}
            if is_named
            else for_library(child)
        )
    return copy


@st.composite
def values(draw: st.DrawFn, node: Node) -> Any:
    """Draw a value that a schema may take, more or less."""
    kind = node.get("type")
    if draw(st.integers(0, 7)) == 0:
        return draw(ODD)
    if kind == "object":
        known = node.get("properties", {})
        names = st.lists(st.sampled_from([*known, "other"]), max_size=5, unique=True)
        others = node.get("additionalProperties", {})
        taken = {name: draw(values(known.get(name, others))) for name in draw(names)}
        more = draw(st.integers(0, int(node.get("maxProperties", MANY) < MANY)))
        count_max = node.get("maxProperties", 0) * more
        return {**taken, **{f"key-{number}": "a" for number in range(count_max + more)}}
    if kind == "array":
        count = draw(st.sampled_from([0, 1, 2, min(node["maxItems"], MANY) + 1]))
        return [draw(values(node["items"])) for _ in range(min(count, 3))] + [None] * (count - 3)
    if kind in ("integer", "number"):
        edges = [node.get("minimum", 0) - 1, node.get("minimum", 0), node.get("maximum", 0) + 1]
        return draw(st.sampled_from(edges) | st.integers(-5, 5))
    if kind == "boolean":
        return draw(st.booleans())
    return draw(st.sampled_from([*node.get("enum", ("b",)), "__name__", "le"]) | TEXTS)


@given(st.data())
def test_a_library_finds_the_same(data: st.DataObject) -> None:
    node = data.draw(st.sampled_from(NODES).filter(lambda one: one.get("type") != "boolean"))
    value = data.draw(values(node))
    expected: dict[Any, str] = {}
    for error in Draft202012Validator(for_library(node)).iter_errors(value):
        keyword, path = str(error.schema_path[-1]), tuple(error.instance_path)
        kind = error.kind
        place = (path, kind.property if isinstance(kind, ValidationErrorKind.Required) else "")
        expected[place] = min(keyword, expected.get(place, keyword), key=KEYWORDS.index)
    found = violations(node, value)
    assert {(one.path, one.field): one.keyword for one in found} == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=TEXTS)
def test_a_pattern_takes_the_same_texts(pattern: str, text: str) -> None:
    node = {"type": "string", "pattern": pattern}
    assert bool(violations(node, text)) != Draft202012Validator(node).is_valid(text)


def test_the_schemas_have_no_other_keywords() -> None:
    used = {key for node in NODES for key in node if not key.startswith("x-")}
    assert used - SHAPES <= set(KEYWORDS)
    assert {*KEYWORDS, "properties", "items"} <= used
    assert all(set(node["not"]) == {"enum"} for node in NODES if "not" in node)
    assert all(isinstance(one, str) for node in NODES for one in node.get("enum", ()))
