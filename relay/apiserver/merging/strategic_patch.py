"""Apply strategic merge patches, which kubectl sends for the core kinds.

A list's schema says in ``x-kubernetes-patch-strategy`` and ``x-kubernetes-patch-merge-key`` whether
it is merged. Directives: ``$patch: replace | delete | merge``, ``$setElementOrder/<list>``,
``$deleteFromPrimitiveList/<list>``, ``$retainKeys``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from relay.apiserver.merging.field_set import canonical
from relay.apiserver.merging.json_patch import PatchError
from relay.apiserver.merging.value_types import Node, reference

_DIRECTIVE: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_ORDER: Final = "$setElementOrder/"
_DELETE: Final = "$deleteFromPrimitiveList/"


def strategic_patched(
    value: Any, patch: Any, node: Node, definitions: Mapping[str, Node]
) -> dict[str, Any]:
    """Return the object with a patch applied; raise PatchError for a malformed one."""
    if not isinstance(patch, dict):
        raise PatchError("a strategic merge patch must be an object")
    return _Merge(definitions).object(value, patch, node)


class _Merge:
    def __init__(self, definitions: Mapping[str, Node]) -> None:
        self._definitions = definitions

    def _node(self, node: Node) -> Node:
        name = reference(node)
        if not name:
            return node
        extensions = {key: own for key, own in node.items() if key.startswith("x-")}
        return {**self._definitions[name], **extensions}

    def object(self, value: Any, patch: dict[str, Any], node: Node) -> dict[str, Any]:
        """Return an object with its patch applied."""
        node = self._node(node)
        patch = dict(patch)
        directive = patch.pop(_DIRECTIVE, "merge")
        if directive == "replace":
            return _without_directives(patch)
        if directive == "delete":
            return {}
        if directive != "merge":
            raise PatchError(f"unrecognized {_DIRECTIVE} directive: {directive}")
        made = dict(value) if isinstance(value, dict) else {}
        retained = patch.pop(_RETAIN, None)
        if retained is not None:
            if not isinstance(retained, list):
                raise PatchError(f"{_RETAIN} must be a list of fields")
            kept = {key for key in retained if isinstance(key, str)}
            made = {key: own for key, own in made.items() if key in kept}
        orders = _taken(patch, _ORDER)
        deletions = _taken(patch, _DELETE)
        for name, gone in deletions.items():
            if isinstance(made.get(name), list):
                left = {canonical(item) for item in gone}
                made[name] = [item for item in made[name] if canonical(item) not in left]
        for name, own in patch.items():
            if own is None:
                made.pop(name, None)
            elif name in made:
                made[name] = self._field(made[name], own, self._child(node, name))
            elif not _is_directive(own):
                made[name] = _added(own)
        for name, order in orders.items():
            if isinstance(made.get(name), list):
                key = self._merge_key(self._child(node, name))
                was = value.get(name) if isinstance(value, dict) else None
                made[name] = _in_order(made[name], order, was or [], key)
        return made

    def _child(self, node: Node, name: str) -> Node:
        found = node.get("properties", {}).get(name)
        if found is None:
            extra = node.get("additionalProperties")
            found = extra if isinstance(extra, dict) else {}
        return self._node(found)

    @staticmethod
    def _merge_key(node: Node) -> str | None:
        """Return the key of a merged list, "" for one of scalars, None for one that is replaced."""
        strategies = str(node.get("x-kubernetes-patch-strategy", "")).split(",")
        return str(node.get("x-kubernetes-patch-merge-key", "")) if "merge" in strategies else None

    def _field(self, value: Any, patch: Any, node: Node) -> Any:
        if isinstance(patch, dict):
            return self.object(value, patch, node)
        if not isinstance(patch, list):
            return patch
        key = self._merge_key(node)
        if key is None:
            return patch
        items = value if isinstance(value, list) else []
        if key == "":
            known = {canonical(item) for item in items}
            new = {canonical(item): item for item in patch}
            merged = [*items, *(item for text, item in new.items() if text not in known)]
            return _in_order(merged, patch, items, key)
        merged = self._items(items, patch, key, node.get("items", {}))
        return _in_order(merged, patch, items, key)

    def _items(self, items: list[Any], patch: list[Any], key: str, node: Node) -> list[Any]:
        for own in patch:
            if not isinstance(own, dict):
                raise PatchError(f"items of a list that is merged by {key} must be objects")
        if any(own.get(_DIRECTIVE) == "replace" for own in patch):
            return [item for item in patch if _DIRECTIVE not in item]
        # By what tells items apart; those of the stored list that it does not are kept as they are.
        made: dict[str, list[Any]] = {}
        for item in items:
            name = canonical(item.get(key) if isinstance(item, dict) else None)
            made.setdefault(name, []).append(item)
        for own in patch:
            if key not in own:
                raise PatchError(f"map does not contain declared merge key: {key}")
            name = canonical(own[key])
            if own.get(_DIRECTIVE) == "delete":
                made.pop(name, None)
            elif name in made:
                made[name][0] = self.object(made[name][0], own, node)
            else:
                made[name] = [_added(own)]
        return [item for same in made.values() for item in same]


def _taken(patch: dict[str, Any], prefix: str) -> dict[str, list[Any]]:
    """Take the directives of a kind out of a patch; return them by field."""
    found = {}
    for name in [name for name in patch if name.startswith(prefix)]:
        own = patch.pop(name)
        if not isinstance(own, list):
            raise PatchError(f"{name} must be a list")
        found[name.removeprefix(prefix)] = own
    return found


def _is_directive(value: Any) -> bool:
    return isinstance(value, dict) and _DIRECTIVE in value


def _added(value: Any) -> Any:
    """Return a value of a patch that is not there yet: without nulls and directives."""
    if isinstance(value, dict):
        return {
            key: _added(own)
            for key, own in value.items()
            if own is not None and not key.startswith("$") and not _is_directive(own)
        }
    if isinstance(value, list):
        return [_added(own) for own in value if not _is_directive(own)]
    return value


def _without_directives(patch: dict[str, Any]) -> dict[str, Any]:
    return {key: own for key, own in patch.items() if not key.startswith("$")}


def _in_order(items: list[Any], patched: list[Any], was: list[Any], key: str | None) -> list[Any]:
    """Return merged items in the order of the patch; others find their place by the old order."""

    def identity(item: Any) -> str:
        return canonical(item.get(key) if key and isinstance(item, dict) else item)

    wanted = _places(identity(one) for one in patched)
    old = _places(identity(one) for one in was)
    right: deque[tuple[str, Any]] = deque()
    left: deque[tuple[str, Any]] = deque()
    for item in items:
        name = identity(item)
        (right if name in wanted else left).append((name, item))
    right = deque(sorted(right, key=lambda one: wanted[one[0]]))
    left = deque(sorted(left, key=lambda one: old.get(one[0], len(old))))
    made: list[Any] = []
    while left and right:
        first, second = old.get(left[0][0]), old.get(right[0][0])
        is_before = first is not None and second is not None and first < second
        made.append((left if is_before else right).popleft()[1])
    return [*made, *(item for _, item in (*left, *right))]


def _places(names: Iterable[str]) -> dict[str, int]:
    """Return the first place of each name."""
    found: dict[str, int] = {}
    for place, name in enumerate(names):
        found.setdefault(name, place)
    return found
