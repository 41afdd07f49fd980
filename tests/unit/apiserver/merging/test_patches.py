"""JSON patches by the examples of RFC 6902, merge patches by those of RFC 7386."""

from __future__ import annotations

from typing import Any

import pytest

from relay.apiserver.merging.json_patch import (
    OPERATIONS_MAX,
    PatchError,
    PatchNotApplicableError,
    json_patched,
    merge_patched,
)

# RFC 6902, appendix A.
APPLICABLE: list[tuple[Any, list[dict[str, Any]], Any]] = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    (
        {"foo": ["a", "b"]},
        [{"op": "add", "path": "/foo/1", "value": "x"}],
        {"foo": ["a", "x", "b"]},
    ),
    ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ({"foo": ["a", "x", "b"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "b"]}),
    ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
    (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "qux"}], {"baz": "qux"}),
    ({"foo": None}, [{"op": "test", "path": "/foo", "value": None}], {"foo": None}),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": [1]}], {"foo": ["bar", [1]]}),
    ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
]
NOT_APPLICABLE: list[tuple[Any, list[dict[str, Any]]]] = [
    ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}]),
    ({"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}]),
    ({"foo": 10}, [{"op": "test", "path": "/foo", "value": "10"}]),
    ({"foo": 1}, [{"op": "test", "path": "/foo", "value": True}]),
    ({"foo": []}, [{"op": "remove", "path": "/foo/0"}]),
    ({"foo": [1]}, [{"op": "add", "path": "/foo/2", "value": 1}]),
    ({"foo": [1]}, [{"op": "add", "path": "/foo/01", "value": 1}]),
    ({"a": {"b": {}}}, [{"op": "move", "from": "/a", "path": "/a/b/c"}]),
    ({"a": 1}, [{"op": "remove", "path": ""}]),
]


@pytest.mark.parametrize(("value", "patch", "expected"), APPLICABLE)
def test_json_patches(value: Any, patch: list[dict[str, Any]], expected: Any) -> None:
    before = repr(value)
    assert json_patched(value, patch) == expected
    assert repr(value) == before


@pytest.mark.parametrize(("value", "patch"), NOT_APPLICABLE)
def test_json_patches_that_do_not_fit(value: Any, patch: list[dict[str, Any]]) -> None:
    with pytest.raises(PatchNotApplicableError):
        json_patched(value, patch)


@pytest.mark.parametrize(
    "patch",
    [
        {},
        ["x"],
        [{"op": "spam", "path": ""}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/a"}],
        [{"op": "copy", "path": "/a"}],
        [{"op": "test", "path": "/a"}] * (OPERATIONS_MAX + 1),
    ],
)
def test_what_is_no_json_patch(patch: Any) -> None:
    with pytest.raises(PatchError):
        json_patched({"a": 1}, patch)


def test_copies_cannot_grow_without_bound() -> None:
    double = [
        {"op": "copy", "from": "/a", "path": "/b/-"},
        {"op": "copy", "from": "/b", "path": "/a/-"},
    ]
    with pytest.raises(PatchNotApplicableError, match="characters"):
        json_patched({"a": ["x" * 1000], "b": []}, double * 30)


# RFC 7386, appendix A.
@pytest.mark.parametrize(
    ("value", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches(value: Any, patch: Any, expected: Any) -> None:
    assert merge_patched(value, patch) == expected
