"""Types of values for server-side apply, made of an OpenAPI schema.

The rules are those of kube-openapi's ``schemaconv``: lists without a list type are atomic, an
object without properties may hold anything, and an object that keeps unknown fields too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Node = dict[str, Any]
"""An OpenAPI schema or a part of one."""

REF_PREFIX: Final = "#/components/schemas/"


@dataclass(slots=True, eq=False)
class ListType:
    """Type of a list: atomic, a set of scalars (no ``keys``), or a map by ``keys``."""

    element: FieldType
    atomic: bool = True
    keys: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class MapType:
    """Type of an object. ``element`` is the type of other fields, None if there are none."""

    fields: dict[str, FieldType] = field(default_factory=dict)
    element: FieldType | None = None
    atomic: bool = False

    def child(self, name: str) -> FieldType:
        """Return the type of a field."""
        return self.fields.get(name) or self.element or DEDUCED


@dataclass(slots=True, eq=False)
class FieldType:
    """Shapes that a value may have: of several, the value decides."""

    map: MapType | None = None
    list: ListType | None = None
    scalar: bool = False
    name: str = ""
    """JSON type of a scalar; "" for any."""

    def deduced(self, value: Any) -> FieldType:
        """Return the type narrowed to the shape of the value, unchanged if it has none."""
        if value is None or (self.map is not None) + (self.list is not None) + self.scalar < 2:
            return self
        if isinstance(value, dict):
            return self if self.map is None else FieldType(map=self.map)
        if isinstance(value, list):
            return self if self.list is None else FieldType(list=self.list)
        return FieldType(scalar=True, name=self.name) if self.scalar else self


UNTYPED: Final = FieldType(scalar=True)
"""Anything, as one value."""
UNTYPED.list = ListType(UNTYPED)
UNTYPED.map = MapType(element=UNTYPED, atomic=True)

DEDUCED: Final = FieldType(scalar=True, list=ListType(UNTYPED))
"""Anything; fields of objects are values of their own."""
DEDUCED.map = MapType(element=DEDUCED)


def field_type(node: Node, definitions: Mapping[str, Node]) -> FieldType:
    """Return the type of a schema whose references are in ``definitions``."""
    known: dict[str, FieldType] = {}

    def resolve(name: str) -> FieldType:
        if name not in known:
            made = known[name] = FieldType()
            found = _type(definitions[name], resolve, preserving=False)
            made.map, made.list, made.scalar, made.name = (
                found.map,
                found.list,
                found.scalar,
                found.name,
            )
        return known[name]

    return _type(node, resolve, preserving=False)


def reference(node: Node) -> str:
    """Return the definition that a schema refers to, "" for none."""
    ref = node.get("$ref", "")
    if not ref and len(node.get("allOf", ())) == 1:
        ref = node["allOf"][0].get("$ref", "")
    return str(ref).removeprefix(REF_PREFIX)


def _type(node: Node, resolve: Callable[[str], FieldType], *, preserving: bool) -> FieldType:
    name = reference(node)
    if name:
        return resolve(name)
    preserving = preserving or bool(node.get("x-kubernetes-preserve-unknown-fields"))
    kind = node.get("type", "")
    if kind == "object":
        return FieldType(map=_map(node, resolve, preserving=preserving))
    if kind == "array":
        return FieldType(list=_list(node, resolve, preserving=preserving))
    if kind in ("integer", "boolean", "number", "string"):
        formatted = kind == "string" and node.get("format", "byte") != "byte"
        return FieldType(scalar=True, name="" if formatted else kind)
    return FieldType(
        map=_map(node, resolve, preserving=preserving),
        list=_list(node, resolve, preserving=preserving),
        scalar=True,
    )


def _map(node: Node, resolve: Callable[[str], FieldType], *, preserving: bool) -> MapType:
    properties = node.get("properties", {})
    made = MapType(
        {name: _type(one, resolve, preserving=preserving) for name, one in properties.items()},
        atomic=node.get("x-kubernetes-map-type") == "atomic",
    )
    extra = node.get("additionalProperties")
    if isinstance(extra, dict):
        made.element = _type(extra, resolve, preserving=preserving)
    elif extra is True or (extra is None and (preserving or not properties)):
        made.element = DEDUCED
    return made


def _list(node: Node, resolve: Callable[[str], FieldType], *, preserving: bool) -> ListType:
    items = node.get("items")
    element = UNTYPED if items is None else _type(items, resolve, preserving=preserving)
    kind = node.get("x-kubernetes-list-type")
    if kind is None and "merge" in node.get("x-kubernetes-patch-strategy", "").split(","):
        key = node.get("x-kubernetes-patch-merge-key")
        return ListType(element, atomic=False, keys=(key,) if key else ())
    keys = tuple(node.get("x-kubernetes-list-map-keys", ())) if kind == "map" else ()
    return ListType(element, atomic=kind not in ("set", "map"), keys=keys)
