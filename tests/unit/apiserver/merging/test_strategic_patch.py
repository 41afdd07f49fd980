"""Strategic merge patches as kubectl sends them for core kinds."""

from __future__ import annotations

from typing import Any

import pytest

from relay.apiserver.merging.json_patch import PatchError
from relay.apiserver.merging.strategic_patch import strategic_patched
from relay.apiserver.objects.kinds import served_kinds

SECRET = next(kind for kind in served_kinds() if kind.kind == "Secret")


def patched(value: dict[str, Any], patch: Any) -> dict[str, Any]:
    return strategic_patched(value, patch, SECRET.node, SECRET.definitions)


def owner(uid: str, **more: Any) -> dict[str, Any]:
    return {"uid": uid, "name": uid, **more}


def test_maps_are_merged_and_null_removes() -> None:
    assert patched({"data": {"a": "1", "b": "2"}}, {"data": {"a": None, "c": "3"}}) == {
        "data": {"b": "2", "c": "3"}
    }


def test_finalizers_are_merged_as_a_set() -> None:
    value = {"metadata": {"finalizers": ["a", "b"]}}
    assert patched(value, {"metadata": {"finalizers": ["b", "c"]}}) == {
        "metadata": {"finalizers": ["a", "b", "c"]}
    }
    assert patched(value, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}) == {
        "metadata": {"finalizers": ["b"]}
    }
    order = {"$setElementOrder/finalizers": ["c", "b", "a"], "finalizers": ["c"]}
    assert patched(value, {"metadata": order}) == {"metadata": {"finalizers": ["c", "b", "a"]}}


def test_owners_are_merged_by_uid() -> None:
    value = {"metadata": {"ownerReferences": [owner("1"), owner("2")]}}
    patch = [owner("2", controller=True), {"uid": "1", "$patch": "delete"}, owner("3")]
    assert patched(value, {"metadata": {"ownerReferences": patch}}) == {
        "metadata": {"ownerReferences": [owner("2", controller=True), owner("3")]}
    }


def test_a_whole_map_can_be_replaced_or_retained() -> None:
    value = {"data": {"a": "1", "b": "2"}}
    assert patched(value, {"data": {"$patch": "replace", "c": "3"}}) == {"data": {"c": "3"}}
    assert patched(value, {"data": {"$retainKeys": ["b"], "b": "2"}}) == {"data": {"b": "2"}}
    assert patched(value, {"data": {"$patch": "delete"}}) == {"data": {}}


@pytest.mark.parametrize(
    "patch",
    [
        [],
        {"data": {"$patch": "bogus"}},
        {"metadata": {"ownerReferences": ["x"]}},
        {"metadata": {"ownerReferences": [{"name": "x"}]}},
        {"metadata": {"$setElementOrder/finalizers": "a"}},
        {"data": {"$retainKeys": "a"}},
    ],
)
def test_malformed_patches_are_refused(patch: Any) -> None:
    with pytest.raises(PatchError):
        patched({"data": {"a": "1"}, "metadata": {"ownerReferences": [owner("1")]}}, patch)
