"""Operations of server-side apply on values whose types are known.

They follow structured-merge-diff's ``typed`` package. :data:`ABSENT` stands for a field that is not
there; None is JSON's null, which is a value of any type. Values are never changed in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from relay.apiserver.merging.field_set import (
    Element,
    FieldSet,
    Path,
    element_text,
    field_element,
    key_element,
    value_element,
)
from relay.apiserver.merging.value_types import FieldType, ListType, MapType

ABSENT: Final[Any] = object()
"""No value."""


class TypeMismatchError(ValueError):
    """A value does not fit its type; the message begins with the path."""


def item_element(kind: ListType, item: Any) -> Element:
    """Return the path element of a list's item; raise TypeMismatchError for one without."""
    if not kind.keys:
        if item is None:
            message = "associative list without keys has an element that's an explicit null"
            raise TypeMismatchError(message)
        if isinstance(item, dict):
            message = "associative list without keys has an element that's a map type"
            raise TypeMismatchError(message)
        if isinstance(item, list):
            message = "not supported: associative list with lists as elements"
            raise TypeMismatchError(message)
        return value_element(item)
    if item is None:
        raise TypeMismatchError("associative list with keys may not have a null element")
    if not isinstance(item, dict):
        raise TypeMismatchError("associative list with keys may not have non-map elements")
    found = {key: item[key] for key in kind.keys if key in item}
    if not found:
        names = " ".join(f'"{key}"' for key in kind.keys)
        message = (
            f"associative list with keys has an element that omits all key fields [{names}] "
            "(and doesn't have default values for any key fields)"
        )
        raise TypeMismatchError(message)
    return key_element(found)


def mismatches(
    kind: FieldType, value: Any, path: str = "", *, duplicates_allowed: bool = False
) -> Iterator[str]:
    """Yield what does not fit the type: ``.path: message``."""
    kind = kind.deduced(value)
    if kind.map is not None:
        if value is not None and not isinstance(value, dict):
            yield f"{path}: expected map, got &{{{_go_value(value)}}}"
            return
        for name, own in (value or {}).items():
            below = f"{path}.{name}"
            if name not in kind.map.fields and kind.map.element is None:
                yield f"{below}: field not declared in schema"
            else:
                inner = kind.map.child(name)
                yield from mismatches(inner, own, below, duplicates_allowed=duplicates_allowed)
    elif kind.scalar:
        problem = _scalar_problem(kind.name, value)
        if problem:
            yield f"{path}: {problem}"
    elif kind.list is not None:
        yield from _list_mismatches(kind.list, value, path, duplicates_allowed=duplicates_allowed)


def _list_mismatches(
    kind: ListType, value: Any, path: str, *, duplicates_allowed: bool
) -> Iterator[str]:
    if value is not None and not isinstance(value, list):
        yield f"{path}: expected list, got &{{{_go_value(value)}}}"
        return
    seen: set[Element] = set()
    for index, item in enumerate(value or ()):
        below = f"{path}[{index}]"
        if not kind.atomic:
            try:
                element = item_element(kind, item)
            except TypeMismatchError as error:
                yield f"{path}: element {index}: {error}"
                return
            text = element_text(element)
            if element in seen and not duplicates_allowed:
                yield f"{path}: duplicate entries for key {text}"
            seen.add(element)
            below = f"{path}{text}"
        yield from mismatches(kind.element, item, below, duplicates_allowed=duplicates_allowed)


def _scalar_problem(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in ("integer", "number"):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if fits else f"expected numeric (int or float), got {_go_type(value)}"
    if name == "string":
        return "" if isinstance(value, str) else f"expected string, got &{_go_literal(value)}"
    if name == "boolean":
        return "" if isinstance(value, bool) else f"expected boolean, got &{{{_go_value(value)}}}"
    fits = isinstance(value, int | float | str | bool)
    return "" if fits else f"expected any scalar, got &{{{_go_value(value)}}}"


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict | list):
        return "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"
    return "float64" if isinstance(value, float) else "int64"


def _go_literal(value: Any) -> str:
    return f"value.valueUnstructured{{Value:{_go_value(value)}}}"


def _go_value(value: Any) -> str:
    if isinstance(value, dict):
        inner = " ".join(f"{key}:{_go_value(own)}" for key, own in sorted(value.items()))
        return f"map[{inner}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go_value, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)


def field_set_of(kind: FieldType, value: Any) -> FieldSet:
    """Return every field that a value sets."""
    found = FieldSet()
    _collect(kind, value, (), found)
    return found


def _collect(kind: FieldType, value: Any, path: Path, found: FieldSet) -> None:
    kind = kind.deduced(value)
    if kind.map is not None:
        if kind.map.atomic:
            found.insert(path)
            return
        for name, own in (value or {}).items():
            below = (*path, field_element(name))
            _collect(kind.map.child(name), own, below, found)
            if own is None or own == {} or name not in kind.map.fields:
                found.insert(below)
    elif kind.scalar:
        found.insert(path)
    elif kind.list is not None:
        if kind.list.atomic:
            found.insert(path)
            return
        items = _items(kind.list, value)
        for element, own in items.items():
            below = (*path, element)
            if len(own) == 1:
                _collect(kind.list.element, own[0], below, found)
            found.insert(below)


def _items(kind: ListType, value: Any) -> dict[Element, list[Any]]:
    """Return the items of an associative list by their elements."""
    found: dict[Element, list[Any]] = {}
    for item in value if isinstance(value, list) else ():
        found.setdefault(item_element(kind, item), []).append(item)
    return found


@dataclass(slots=True)
class Comparison:
    """Fields in which a new value differs from an old one."""

    added: FieldSet = field(default_factory=FieldSet)
    modified: FieldSet = field(default_factory=FieldSet)
    removed: FieldSet = field(default_factory=FieldSet)


def compare(kind: FieldType, old: Any, new: Any) -> Comparison:
    """Return the differences of two values."""
    found = Comparison()
    _compare(kind, old, new, (), found)
    return found


def _compare(kind: FieldType, old: Any, new: Any, path: Path, found: Comparison) -> None:
    kinds = [kind.deduced(new)]
    if new is ABSENT:
        kinds = [kind.deduced(old)]
    elif old is not ABSENT:
        of_old = kind.deduced(old)
        if _shape(of_old) != _shape(kinds[0]):
            kinds.insert(0, of_old)
    is_leaf = False
    for one in kinds:
        is_leaf = _compare_as(one, old, new, path, found)
    if not is_leaf:
        if old is ABSENT:
            found.added.insert(path)
        elif new is ABSENT:
            found.removed.insert(path)


def _shape(kind: FieldType) -> tuple[bool, bool, bool]:
    return kind.map is not None, kind.scalar, kind.list is not None


def _compare_as(kind: FieldType, old: Any, new: Any, path: Path, found: Comparison) -> bool:
    """Compare values of one shape; return True if they are compared as a whole."""
    if kind.map is not None:
        own = old if isinstance(old, dict) else {}
        other = new if isinstance(new, dict) else {}
        if not kind.map.atomic and (own or other):
            for name in {**own, **other}:
                below = (*path, field_element(name))
                inner = kind.map.child(name)
                _compare(inner, own.get(name, ABSENT), other.get(name, ABSENT), below, found)
            return False
    elif kind.list is not None and not kind.scalar:
        has_items = any(isinstance(one, list) and one for one in (old, new))
        if not kind.list.atomic and has_items:
            _compare_lists(kind.list, old, new, path, found)
            return False
    if old is ABSENT:
        found.added.insert(path)
    elif new is ABSENT:
        found.removed.insert(path)
    elif not equal(old, new):
        found.modified.insert(path)
    return True


def _compare_lists(kind: ListType, old: Any, new: Any, path: Path, found: Comparison) -> None:
    olds, news = _items(kind, old), _items(kind, new)
    for element in {**olds, **news}:
        below = (*path, element)
        left, right = olds.get(element, []), news.get(element, [])
        if len(left) <= 1 and len(right) <= 1:
            first, second = left[0] if left else ABSENT, right[0] if right else ABSENT
            _compare(kind.element, first, second, below, found)
        elif len(left) > 1 and len(right) > 1:
            if not equal(left, right):
                found.modified.insert(below)
        elif len(left) > 1:
            if right:
                _compare(kind.element, ABSENT, right[0], below, found)
            found.removed.insert(below)
        else:
            if left:
                _compare(kind.element, left[0], ABSENT, below, found)
            found.added.insert(below)


def equal(left: Any, right: Any) -> bool:
    """Return True if two JSON values are the same; true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(own, right[k]) for k, own in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def merge(kind: FieldType, live: Any, applied: Any) -> Any:
    """Return the live value with the applied one laid over it; ABSENT for nothing."""
    kinds = kind.deduced(live if applied is ABSENT else applied)
    if kinds.map is not None:
        left = live if isinstance(live, dict) else {}
        right = applied if isinstance(applied, dict) else {}
        if not kinds.map.atomic and (left or right):
            return _merge_maps(kinds.map, left, right)
    elif kinds.list is not None and not kinds.scalar:
        lefts = live if isinstance(live, list) else []
        rights = applied if isinstance(applied, list) else []
        if not kinds.list.atomic and (lefts or rights):
            return _merge_lists(kinds.list, lefts, rights)
    return live if applied is ABSENT else applied


def _merge_maps(kind: MapType, left: dict[str, Any], right: dict[str, Any]) -> Any:
    out = {}
    for name in {**left, **right}:
        made = merge(kind.child(name), left.get(name, ABSENT), right.get(name, ABSENT))
        if made is not ABSENT:
            out[name] = made
    return out or ABSENT


def _merge_lists(kind: ListType, live: list[Any], applied: list[Any]) -> Any:
    """Merge by elements, in the order of the applied list where both have an item."""
    left = [item_element(kind, item) for item in live]
    right = [item_element(kind, item) for item in applied]
    lefts, rights = _items(kind, live), _items(kind, applied)
    shared = [element for element in right if element in lefts]
    merged: set[Element] = set()
    out: list[Any] = []

    def take(element: Element, own: Any) -> None:
        other = rights[element][0] if element in rights else ABSENT
        made = merge(kind.element, own, other)
        if made is not ABSENT:
            out.append(made)

    def once(element: Element) -> Any:
        # Items that are there twice are not merged with the new value.
        found = lefts.get(element, ())
        return found[0] if len(found) == 1 else ABSENT

    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right):
            element = left[i]
            if element == right[j]:
                merged.add(element)
                take(element, once(element))
                i, j, shared = i + 1, j + 1, shared[1:]
                continue
            if element in rights and shared and shared[0] != element:
                i += 1
                continue
        if i < len(left):
            element = left[i]
            if element not in rights:
                take(element, live[i])
                i += 1
                continue
            if element in merged:
                i += 1
        if j < len(right):
            element = right[j]
            merged.add(element)
            take(element, once(element))
            j += 1
            if shared and shared[0] == element:
                shared = shared[1:]
    return out or ABSENT


def remove_items(kind: FieldType, value: Any, fields: FieldSet) -> Any:
    """Return the value without some fields and items; null where nothing is left."""
    kind = kind.deduced(value)
    if kind.map is not None:
        if not isinstance(value, dict) or not value or kind.map.atomic:
            return None
        out = {}
        for name, own in value.items():
            element = field_element(name)
            if element in fields.members:
                continue
            below = fields.below(element)
            out[name] = remove_items(kind.map.child(name), own, below) if below else own
        return out or None
    if kind.scalar:
        return value
    assert kind.list is not None, "a type has a shape"
    if not isinstance(value, list) or not value or kind.list.atomic:
        return None
    left = []
    for item in value:
        element = item_element(kind.list, item)
        if element in fields.members:
            continue
        below = fields.below(element)
        left.append(remove_items(kind.list.element, item, below) if below else item)
    return left or None
