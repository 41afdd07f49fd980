"""Sets of fields of an object, as ``managedFields`` keep them.

A path is a tuple of path elements in the text form of ``fieldsV1``: ``f:name`` is a field,
``k:{"name":"x"}`` the item of a list by its keys, ``v:"x"`` an item of a set. Members of a set are
fields in their own right; a set's children hold members further down. JSON inside an element is
in one canonical form, so elements are compared as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from relay.apiserver.merging.value_types import FieldType

Element = str
Path = tuple[Element, ...]

DEPTH_MAX: Final = 64
"""Deepest set that is read."""
_SHORT_CHARS_MAX: Final = 256
"""Most characters of elements whose forms are kept: the same few are asked for again and again."""
_RANKS: Final = {"f": 0, "k": 1, "v": 2, "i": 3}
# encoding/json escapes these, so that JSON may stand in HTML.
_ESCAPES: Final = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


class FieldSetError(ValueError):
    """A set of fields cannot be read."""


def canonical(value: Any) -> str:
    """Return JSON as Go's encoder writes it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def field_element(name: str) -> Element:
    """Return the element of a field."""
    return f"f:{name}"


def key_element(keys: dict[str, Any]) -> Element:
    """Return the element of a list's item by its keys."""
    if len(keys) == 1:
        ((name, value),) = keys.items()
        if isinstance(value, str) and len(value) <= _SHORT_CHARS_MAX:
            return _named_element(name, value)
    return "k:" + canonical(dict(sorted(keys.items())))


@lru_cache(maxsize=4096)
def _named_element(name: str, value: str) -> Element:
    """Return the element of an item that a text tells apart, as most are."""
    return "k:" + canonical({name: value})


def value_element(value: Any) -> Element:
    """Return the element of an item of a set."""
    return "v:" + canonical(value)


def parsed_element(text: str) -> Element:
    """Return an element in its canonical form; raise FieldSetError for what is none."""
    kind, rest = text[:2], text[2:]
    if kind == "f:":
        return text
    if kind == "i:" and rest.removeprefix("-").isdecimal():
        return f"i:{int(rest)}"
    try:
        value = json.loads(rest) if kind in ("k:", "v:") else None
    except ValueError as error:
        raise FieldSetError(f"{text[:80]!r} is not valid JSON after {kind}") from error
    if kind == "v:":
        return value_element(value)
    if kind == "k:" and isinstance(value, dict):
        return key_element(value)
    raise FieldSetError(f"{text[:80]!r} is not a path element")


def _go_quoted(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


def element_text(element: Element) -> str:
    """Return an element as messages have it."""
    return _short_text(element) if len(element) <= _SHORT_CHARS_MAX else _text(element)


@lru_cache(maxsize=4096)
def _short_text(element: Element) -> str:
    return _text(element)


def _text(element: Element) -> str:
    kind, rest = element[:2], element[2:]
    if kind == "f:":
        return f".{rest}"
    if kind == "k:":
        parts = (f"{name}={_go_quoted(value)}" for name, value in json.loads(rest).items())
        return f"[{','.join(parts)}]"
    return f"[={_go_quoted(json.loads(rest))}]" if kind == "v:" else f"[{rest}]"


def path_text(path: Path) -> str:
    """Return a path as messages have it."""
    return "".join(map(element_text, path))


def _order(element: Element) -> tuple[int, str]:
    return _RANKS[element[0]], element


class FieldSet:
    """A set of fields. Operations return new sets; parts may be shared."""

    __slots__ = ("children", "members")

    def __init__(
        self, members: set[Element] | None = None, children: dict[Element, FieldSet] | None = None
    ) -> None:
        self.members: set[Element] = set() if members is None else members
        self.children: dict[Element, FieldSet] = {} if children is None else children

    @classmethod
    def of(cls, *paths: Path) -> FieldSet:
        """Return a set of some paths."""
        made = cls()
        for path in paths:
            made.insert(path)
        return made

    def insert(self, path: Path) -> None:
        """Add a path; the empty path is ignored, because nothing owns a whole object."""
        if not path:
            return
        found = self
        for element in path[:-1]:
            found = found.children.setdefault(element, FieldSet())
        found.members.add(path[-1])

    def __bool__(self) -> bool:
        return bool(self.members) or any(self.children.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FieldSet):
            return NotImplemented
        if self.members != other.members:
            return False
        own, others = self._inner(), other._inner()
        return own.keys() == others.keys() and all(one == others[e] for e, one in own.items())

    __hash__ = None  # type: ignore[assignment]  # a mutable value has no hash

    def _inner(self) -> dict[Element, FieldSet]:
        return {element: one for element, one in self.children.items() if one}

    def __repr__(self) -> str:
        return f"<FieldSet {', '.join(path_text(path) for path in self.paths())}>"

    def has(self, path: Path) -> bool:
        """Return True if this very path is a member."""
        found: FieldSet | None = self
        for element in path[:-1]:
            found = found.children.get(element) if found is not None else None
        return found is not None and bool(path) and path[-1] in found.members

    def below(self, element: Element) -> FieldSet:
        """Return the members below an element."""
        return self.children.get(element) or FieldSet()

    def paths(self, prefix: Path = ()) -> Iterator[Path]:
        """Yield every member, in order."""
        for element in sorted({*self.members, *self.children}, key=_order):
            if element in self.members:
                yield (*prefix, element)
            if element in self.children:
                yield from self.children[element].paths((*prefix, element))

    def union(self, other: FieldSet) -> FieldSet:
        """Return the members of either set."""
        children = dict(self.children)
        for element, one in other.children.items():
            children[element] = children[element].union(one) if element in children else one
        return FieldSet(self.members | other.members, children)

    def intersection(self, other: FieldSet) -> FieldSet:
        """Return the members of both sets."""
        children = {}
        for element, one in self.children.items():
            if element in other.children and (both := one.intersection(other.children[element])):
                children[element] = both
        return FieldSet(self.members & other.members, children)

    def difference(self, other: FieldSet) -> FieldSet:
        """Return the members that are not in the other set; parents and children are apart."""
        children = {}
        for element, one in self.children.items():
            if element not in other.children:
                children[element] = one
            elif left := one.difference(other.children[element]):
                children[element] = left
        return FieldSet(self.members - other.members, children)

    def without_below(self, other: FieldSet) -> FieldSet:
        """Return the members that are neither in the other set nor below one of its members."""
        children = {}
        for element, one in self.children.items():
            if element in other.members:
                continue
            left = one.without_below(other.below(element))
            if left:
                children[element] = left
        return FieldSet(self.members - other.members, children)

    def with_named_fields(self, kind: FieldType) -> FieldSet:
        """Return the set with every declared field that holds a member as a member, too."""
        members = set(self.members)
        children = {}
        for element, one in self.children.items():
            below = _type_below(kind, element)
            if element.startswith("f:") and kind.map and element[2:] in kind.map.fields:
                members.add(element)
            children[element] = one.with_named_fields(below)
        return FieldSet(members, children)

    def filtered(self, keep: Callable[[Path], bool]) -> FieldSet:
        """Return the members for which the function says True."""
        return FieldSet.of(*(path for path in self.paths() if keep(path)))

    def to_fields(self) -> dict[str, Any]:
        """Return the set as ``fieldsV1``."""
        made: dict[str, Any] = {}
        for element in sorted({*self.members, *self.children}, key=_order):
            inner = self.children[element].to_fields() if element in self.children else {}
            made[element] = {".": {}, **inner} if inner and element in self.members else inner
        return {key: value for key, value in made.items() if value or key in self.members}

    @classmethod
    def from_fields(cls, fields: Any, depth: int = 0) -> FieldSet:
        """Read ``fieldsV1``; raise FieldSetError for what is none."""
        if not isinstance(fields, dict):
            raise FieldSetError("must be an object")
        if depth > DEPTH_MAX:
            raise FieldSetError(f"is nested more than {DEPTH_MAX} levels")
        made = cls()
        for key, inner in fields.items():
            if key == ".":
                continue
            element = parsed_element(key)
            below = cls.from_fields(inner, depth + 1)
            if not inner or "." in inner:
                made.members.add(element)
            if below:
                made.children[element] = below
        return made


def _type_below(kind: FieldType, element: Element) -> FieldType:
    if element.startswith("f:") and kind.map is not None:
        return kind.map.child(element[2:])
    return kind.list.element if kind.list is not None else FieldType()
