"""Laws of sets of fields, whatever is in them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from relay.apiserver.merging.field_set import (
    FieldSet,
    Path,
    field_element,
    key_element,
    value_element,
)

names = st.text(st.characters(codec="utf-8"), max_size=4)
scalars = st.one_of(names, st.integers(-3, 3), st.booleans())
elements = st.one_of(
    names.map(field_element),
    st.dictionaries(names, scalars, min_size=1, max_size=2).map(key_element),
    scalars.map(value_element),
)
paths = st.lists(elements, min_size=1, max_size=4).map(tuple)
sets = st.lists(paths, max_size=8).map(lambda found: FieldSet.of(*found))


def members(one: FieldSet) -> set[Path]:
    return set(one.paths())


@given(sets)
def test_the_text_form_loses_nothing(one: FieldSet) -> None:
    text = json.dumps(one.to_fields())
    assert FieldSet.from_fields(json.loads(text)) == one
    assert json.dumps(FieldSet.from_fields(json.loads(text)).to_fields()) == text


@given(sets, sets)
def test_the_algebra_is_that_of_sets_of_paths(one: FieldSet, other: FieldSet) -> None:
    assert members(one.union(other)) == members(one) | members(other)
    assert members(one.intersection(other)) == members(one) & members(other)
    assert members(one.difference(other)) == members(one) - members(other)
    assert bool(one) == bool(members(one))
    assert (one == other) == (members(one) == members(other))


@given(sets, sets)
def test_what_is_below_goes_too(one: FieldSet, other: FieldSet) -> None:
    gone = members(other)
    expected = {
        path for path in members(one) if not any(path[: len(each)] == each for each in gone)
    }
    assert members(one.without_below(other)) == expected


@given(sets, paths)
def test_membership(one: FieldSet, path: Path) -> None:
    assert one.has(path) == (path in members(one))
