"""Loads the schemas' source files and completes them with defaults."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

Node = dict[str, Any]
"""A schema or a part of one."""

CHARS_MAX: Final = 4096
"""Maximum length of a text whose schema gives none."""


@cache
def load(name: str) -> Node:
    """Return the file ``<name>.yaml`` beside this module; callers must not change it."""
    with (Path(__file__).parent / f"{name}.yaml").open("rb") as file:
        content: Node = _with_used_parts(yaml.load(file, Loader=_Loader))
    return content


def _with_used_parts(value: Any) -> Any:
    """Return a copy in which ``x-relay-use`` is replaced by that part of another file."""
    if isinstance(value, list):
        return [_with_used_parts(one) for one in value]
    if not isinstance(value, dict):
        return value
    own = {key: _with_used_parts(one) for key, one in value.items() if key != "x-relay-use"}
    if "x-relay-use" not in value:
        return own
    file, *steps = value["x-relay-use"].split(".")
    used: Any = load(file)
    for step in steps:
        used = used[step]
    return {**used, **own}


def completed(node: Node) -> Node:
    """Return a copy of a schema in which every text has bounds and every quantity a type."""
    copy = dict(node)
    if "x-relay-size" in copy:
        copy["x-kubernetes-int-or-string"] = True
    elif copy.get("type") == "string" and "enum" not in copy:
        is_duration = "x-relay-duration" in copy
        copy.setdefault("minLength", 0 if is_duration else 1)  # that pattern wants more itself
        copy.setdefault("maxLength", 64 if is_duration else CHARS_MAX)
    for key, child in children(copy):
        if key == "properties":
            copy[key] = {name: completed(one) for name, one in child.items()}
        else:
            copy[key] = completed(child)
    return copy


def children(node: Node) -> Iterator[tuple[str, Node]]:
    """Yield the keywords of a schema that hold schemas: a mapping of them for ``properties``."""
    for key in ("properties", "items", "additionalProperties"):
        child = node.get(key)
        if isinstance(child, dict):
            yield key, child
