"""Read JSON bodies, and fit values to a schema: drop unknown fields, fill in defaults.

Messages are kube-apiserver's: ``unknown field "spec.x"``, ``duplicate field "spec.x"``.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from relay.apiserver.merging.value_types import Node, reference

DEPTH_MAX: Final = 200
"""Deepest nesting of a body."""
BODY_VALUES_MAX: Final = 15_000
"""Values in a body: texts, numbers, lists and objects; deciding on as many takes some 60 ms."""
OBJECT_VALUES_MAX: Final = 5_000
"""Values in an object, without its managedFields: a write of as many takes some 40 ms."""
_LARGE_BYTES: Final = 64 * 1024
_DUPLICATES_MAX: Final = 100
_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"


class UnreadableBodyError(ValueError):
    """A body is not JSON."""


class TooManyValuesError(ValueError):
    """A body holds more values than are taken."""


class _Repeated(dict[str, Any]):
    """An object with keys that are given more than once; the last value counts."""

    __slots__ = ("names",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs)
        self.names = [key for key, count in counts.items() if count > 1]


def read_json(body: bytes) -> tuple[Any, list[str]]:
    """Return the value of a body, and the paths of fields that are given twice.

    Raise UnreadableBodyError for a body that is not JSON, or is nested too deeply,
    TooManyValuesError for one with more than :data:`BODY_VALUES_MAX`.
    """
    if len(body) > _LARGE_BYTES:
        _check_large(body)
    has_repeated = False

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_repeated
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        has_repeated = True
        return _Repeated(pairs)

    try:
        value = json.loads(
            body,
            object_pairs_hook=build,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        # Numbers beyond 64 bits and halves of surrogate pairs cannot be written.
        msgspec.json.encode(value)
    except RecursionError:
        raise UnreadableBodyError(f"is nested more than {DEPTH_MAX} levels") from None
    except (ValueError, OverflowError) as error:
        raise UnreadableBodyError(str(error)) from error
    if (size := shape_of(value)) is None:
        raise UnreadableBodyError(f"is nested more than {DEPTH_MAX} levels")
    if size > BODY_VALUES_MAX:
        raise TooManyValuesError(f"has {size} values: limit is {BODY_VALUES_MAX}")
    repeated = _repeated(value, "") if has_repeated else iter(())
    return value, list(islice(repeated, _DUPLICATES_MAX))


def _check_large(body: bytes) -> None:
    """Refuse a large body by a decoder that takes a tenth of the time and sees no repetitions."""
    try:
        size = shape_of(msgspec.json.decode(body))
    except RecursionError:
        raise UnreadableBodyError(f"is nested more than {DEPTH_MAX} levels") from None
    except ValueError as error:
        raise UnreadableBodyError(str(error)) from error
    if size is not None and size > BODY_VALUES_MAX:
        raise TooManyValuesError(f"has {size} values: limit is {BODY_VALUES_MAX}")


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]} is too large")
    return number


def shape_of(value: Any) -> int | None:
    """Return how many values there are in one, itself included; None for one nested too deeply."""
    level = [value]
    size = 1
    for _ in range(DEPTH_MAX):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list):
                below += one
        size += len(below)
        level = [one for one in below if isinstance(one, dict | list)]
        if not level:
            return size
    return None


def size_problem(body: dict[str, Any]) -> str:
    """Return why an object is too large to be decided on, "" for one that is not."""
    metadata = body.get("metadata")
    counted = body
    if isinstance(metadata, dict) and "managedFields" in metadata:
        rest = {key: own for key, own in metadata.items() if key != "managedFields"}
        counted = {**body, "metadata": rest}
    size = shape_of(counted)
    if size is None:
        return f"is nested more than {DEPTH_MAX} levels"
    if size > OBJECT_VALUES_MAX:
        return f"has {size} values: limit is {OBJECT_VALUES_MAX}"
    return ""


def _repeated(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value, _Repeated):
            yield from (joined(path, name) for name in value.names)
        for key, own in value.items():
            yield from _repeated(own, joined(path, key))
    elif isinstance(value, list):
        for index, own in enumerate(value):
            yield from _repeated(own, f"{path}[{index}]")


def joined(path: str, name: str) -> str:
    """Return the path of a field below another one."""
    return f"{path}.{name}" if path else name


class Fitting:
    """Fits values to schemas. ``unknown`` has the paths that were dropped, ``wrong`` type faults.

    With ``defaults`` the defaults of the schema are filled in; ``strict_types`` says to look for
    values of wrong types, and to drop empty ones, as decoding into Go's types does.
    """

    def __init__(
        self, definitions: Mapping[str, Node], *, defaults: bool, strict_types: bool
    ) -> None:
        self.unknown: list[str] = []
        self.wrong: list[str] = []
        self._definitions = definitions
        self._defaults = defaults
        self._strict_types = strict_types

    def __repr__(self) -> str:
        return f"<Fitting: {len(self.unknown)} unknown, {len(self.wrong)} wrong>"

    def fit(self, value: Any, node: Node, path: str = "") -> Any:
        """Return a copy that has only fields of the schema."""
        name = reference(node)
        if name:
            node = self._definitions[name]
        problem = _TYPES[node["type"]](value) if self._strict_types and "type" in node else ""
        if problem:
            self.wrong.append(f"{path}: {problem}")
            return value
        if isinstance(value, dict):
            return self._object(value, node, path)
        if isinstance(value, list):
            items = node.get("items", {})
            return [self.fit(one, items, f"{path}[{i}]") for i, one in enumerate(value)]
        if node.get("format") == "byte" and self._strict_types:
            self._check_base64(value, path)
        return value

    def _object(self, value: dict[str, Any], node: Node, path: str) -> dict[str, Any]:
        properties: dict[str, Node] = node.get("properties", {})
        extra = node.get("additionalProperties")
        keeps = node.get(_PRESERVE) or (self._strict_types and not properties)
        made: dict[str, Any] = {}
        for name, own in value.items():
            below = joined(path, name)
            child = properties.get(name, extra if isinstance(extra, dict) else None)
            if child is None:
                if keeps or "type" not in node:
                    made[name] = copy.deepcopy(own)
                else:
                    self.unknown.append(below)
            elif own is None and self._strict_types and name not in properties:
                # Go reads null for a text as an empty one.
                made[name] = ""
            elif own is not None or child.get("nullable"):
                fitted = self.fit(own, child, below)
                if not (self._strict_types and name in properties and fitted in ({}, [], "")):
                    made[name] = fitted
        if self._defaults:
            for name, child in properties.items():
                if "default" in child and name not in made:
                    default = copy.deepcopy(child["default"])
                    made[name] = self.fit(default, child, joined(path, name))
        return made

    def _check_base64(self, value: Any, path: str) -> None:
        # Go's decoder skips line breaks.
        text = value.replace("\r", "").replace("\n", "") if isinstance(value, str) else ""
        try:
            base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            self.wrong.append(f"{path}: must be base64")


def _of(kind: type | tuple[type, ...], said: str) -> Callable[[Any], str]:
    def problem(value: Any) -> str:
        if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
            return ""
        return f"must be {said}, not {_named(value)}"

    return problem


def _named(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    for kind, said in ((dict, "an object"), (list, "a list"), (str, "a string")):
        if isinstance(value, kind):
            return said
    return "null" if value is None else "a number"


_TYPES: Final[dict[str, Callable[[Any], str]]] = {
    "object": _of(dict, "an object"),
    "array": _of(list, "a list"),
    "string": _of(str, "a string"),
    "boolean": _of(bool, "a boolean"),
    "integer": _of(int, "a whole number"),
    "number": _of((int, float), "a number"),
}
