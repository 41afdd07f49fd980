"""Messages for schema keywords that a value violates."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from relay.config.schema.source import Node
from relay.config.schema.words import described, kind_of, nearest
from relay.config.yaml.document import Where
from relay.config.yaml.source_positions import shown

_UNDIVIDED: Final = re.compile(r"[A-Za-z_]\w*:\S")
_NUMBER: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_UNQUOTED: Final = "; write it without quotes"
_BLANK_HINT: Final = "; a field needs a blank behind its colon"


def message(keyword: str, node: Node, value: Any, where: Where) -> str:
    """Return the message for a value; ``where`` is its canonical path."""
    kind = node.get("type")
    if kind == "object" or "maxProperties" in node:
        if isinstance(value, dict):
            return f"must have at most {node['maxProperties']} entries, not {len(value)}"
        return _not_a_mapping(node, value, where)
    if kind == "array":
        if isinstance(value, list):
            bounds = f"{node.get('minItems', 0)} to {node['maxItems']}"
            return f"must have {bounds} entries, not {len(value)}"
        items = node["items"]
        shape = items.get("x-relay-shape", "{…}" if items.get("type") == "object" else "…")
        hint = f"; write {where[-1]}: [{shape}]" if value is not None and where else ""
        return f"must be a list, not {kind_of(value)}{hint}"
    if kind == "boolean":
        plain = isinstance(value, str) and value.lower() in ("true", "false")
        hint = _UNQUOTED if plain else ""
        return f"must be true or false, not {described(value)}{hint}"
    if kind == "integer":
        return (
            f"must be a whole number from {node['minimum']} to {node['maximum']}, "
            f"not {described(value)}{_number_hint(node, value)}"
        )
    if kind == "number":
        bounds = f"{node['minimum']} to {node['maximum']}"
        return f"must be a number from {bounds}, not {described(value)}{_number_hint(node, value)}"
    if "x-relay-size" in node:
        return f'must be a size such as "32MiB", not {described(value)}'
    if "x-relay-duration" in node and not isinstance(value, str):
        return f'must be a duration such as "5s", not {described(value)}'
    return _text(keyword, node, value)


def missing(node: Node) -> str:
    """Return the message for a field that is required and absent."""
    words = node.get("enum", ())
    if "x-relay-missing" in node:
        return str(node["x-relay-missing"])
    return f"is required: one of {', '.join(words)}" if len(words) > 1 else "is required"


def _number_hint(node: Node, value: Any) -> str:
    """Return how a number is written that is in quotes, or a percentage; "" if it is not one."""
    text = value.strip() if isinstance(value, str) else ""
    digits = text.removesuffix("%").rstrip()
    if not _NUMBER.fullmatch(digits):
        return ""
    number = Decimal(digits) / (100 if text.endswith("%") else 1)
    if not node["minimum"] <= number <= node["maximum"]:
        return ""
    if node["type"] == "integer" and (number % 1 or text.endswith("%")):
        return ""
    return f"; write {number:f}" if text.endswith("%") else _UNQUOTED


def _not_a_mapping(node: Node, value: Any, where: Where) -> str:
    if value is None:
        return "is required"
    hint = ""
    shape = node.get("x-relay-shape", "")
    if isinstance(value, str) and _UNDIVIDED.match(value):
        hint = _BLANK_HINT
    elif shape and isinstance(value, str | bool):
        hint = f"; write {shape}" if isinstance(where[-1], int) else f"; write {where[-1]}: {shape}"
    return f"must be a mapping, not {kind_of(value)}{hint}"


def _text(keyword: str, node: Node, value: Any) -> str:
    words = node.get("enum", ())
    own = node.get("x-relay-message", "")
    if keyword == "enum" and not own:
        hint = nearest(value, words) if isinstance(value, str) else ""
        said = f"must be one of {', '.join(words)}, not {described(value)}"
        return said + (f"; {hint}" if hint else "")
    if not isinstance(value, str):
        if len(words) > 1 and not own:
            return f"must be one of {', '.join(words)}, not {described(value)}"
        return _not_a_text(node, value)
    if keyword == "minLength":
        return "must not be empty"
    if keyword == "maxLength" and "1 to" not in own:
        return f"must have at most {node['maxLength']} characters, not {len(value)}"
    assert own, f"the schema words {keyword} where it is used"
    return str(own).replace("{shown}", shown(value))


def _not_a_text(node: Node, value: Any) -> str:
    if isinstance(value, dict):
        return "must be a string, not a mapping; in YAML, what begins with { must be in quotes"
    if isinstance(value, list) or value is None:
        return f"must be a string, not {described(value)}"
    if "x-relay-number" in node and isinstance(value, int) and not isinstance(value, bool):
        return str(node["x-relay-number"]).replace("{number}", str(value))
    is_secret = node.get("x-relay-secret", False)
    return "must be a string: put it in quotes" + ("" if is_secret else f" ({described(value)})")


def blank_hint(key: str) -> str:
    """Return a hint for a map's key that contains its value, because a blank is missing."""
    return _BLANK_HINT if _UNDIVIDED.match(key) else ""
