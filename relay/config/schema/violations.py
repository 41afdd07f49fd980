"""Finds what in a value violates a schema, as JSON Schema 2020-12 has it. Pure.

* :data:`KEYWORDS` and those that hold schemas; the relay's own schemas have no others. Of a value
  that violates several, the first one counts.
* A library for all of JSON Schema takes 8 MiB in every relay; a test compares this with one.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any, Final, NamedTuple

from relay.config.schema.source import Node
from relay.config.yaml.document import Where

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "object": (dict,),
    "array": (list,),
    "boolean": (bool,),
}


KEYWORDS: Final = (
    "type",
    "enum",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "pattern",
    "not",
    "required",
)
"""The keywords in use, in their order."""


class Violation(NamedTuple):
    """A value, its path, and the keyword of the schema ``node`` that it violates.

    ``field``: with ``required``, the absent field.
    """

    path: Where
    keyword: str
    node: Node
    value: Any
    field: str = ""


def violations(node: Node, value: Any) -> list[Violation]:
    """Return what violates the schema: what encloses before what is enclosed."""
    found: list[Violation] = []
    _examine(node, value, (), found)
    return found


def _examine(node: Node, value: Any, path: Where, found: list[Violation]) -> None:
    keyword = _violated(node, value)
    if keyword:
        found.append(Violation(path, keyword, node, value))
    if isinstance(value, dict):
        found.extend(
            Violation(path, "required", node, value, name)
            for name in node.get("required", ())
            if name not in value
        )
        properties = node.get("properties", {})
        others = node.get("additionalProperties")
        for name, one in value.items():
            child = properties.get(name, others)
            # Most values are texts and good: no path is made for those.
            if child is not None and (not isinstance(one, str) or _violated(child, one)):
                _examine(child, one, (*path, name), found)
    elif isinstance(value, list) and "items" in node:
        items = node["items"]
        for index, one in enumerate(value):
            _examine(items, one, (*path, index), found)


def _violated(node: Node, value: Any) -> str:
    """Return the first keyword that a value violates, its fields and entries aside; "" for none."""
    kind = node.get("type")
    if "x-relay-size" in node:
        return "" if isinstance(value, str) or _is_number(value, whole=True) else "type"
    if kind in ("integer", "number"):
        if not _is_number(value, whole=kind == "integer"):
            return "type"
        if value < node.get("minimum", value):
            return "minimum"
        return "maximum" if value > node.get("maximum", value) else ""
    if kind is not None and not isinstance(value, _TYPES[kind]):
        return "type"
    if isinstance(value, str):
        return _violated_by_text(node, value)
    if isinstance(value, list):
        if len(value) < node.get("minItems", 0):
            return "minItems"
        return "maxItems" if len(value) > node.get("maxItems", len(value)) else ""
    if isinstance(value, dict) and len(value) > node.get("maxProperties", len(value)):
        return "maxProperties"
    return ""


def _violated_by_text(node: Node, value: str) -> str:
    words = node.get("enum")
    if words is not None and value not in words:
        return "enum"
    if len(value) < node.get("minLength", 0):
        return "minLength"
    if len(value) > node.get("maxLength", len(value)):
        return "maxLength"
    pattern = node.get("pattern")
    if pattern is not None and "x-relay-check" not in node and not _compiled(pattern).search(value):
        return "pattern"
    return "not" if "not" in node and value in node["not"]["enum"] else ""


def _is_number(value: Any, *, whole: bool) -> bool:
    """Return True for a number: finite, as JSON has no others; 5.0 is a whole one."""
    if isinstance(value, float):
        return value.is_integer() if whole else math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a schema's pattern: its ``$`` is the very end, Python's may be before a newline."""
    if pattern.endswith("$"):
        pattern = pattern[:-1] + r"\Z"
    return re.compile(pattern)
