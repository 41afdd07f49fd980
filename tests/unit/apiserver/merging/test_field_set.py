"""Sets of fields: their text form, their algebra, their words in messages."""

from __future__ import annotations

import pytest

from relay.apiserver.merging.field_set import (
    DEPTH_MAX,
    FieldSet,
    FieldSetError,
    key_element,
    path_text,
    value_element,
)

FIELDS = {
    "f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {'v:"x/y"': {}}},
    "f:spec": {"f:sinks": {'k:{"name":"one"}': {".": {}, "f:name": {}}}},
}


def test_the_text_form_is_read_and_written() -> None:
    assert FieldSet.from_fields(FIELDS).to_fields() == FIELDS


def test_members_and_children_are_apart() -> None:
    labels = ("f:metadata", "f:labels")
    found = FieldSet.from_fields(FIELDS)
    assert found.has(labels)
    assert not found.has(("f:metadata",))
    left = found.difference(FieldSet.of(labels))
    assert not left.has(labels)
    assert left.has((*labels, "f:a"))


def test_what_is_below_a_member_can_be_taken_out_with_it() -> None:
    left = FieldSet.from_fields(FIELDS).without_below(FieldSet.of(("f:metadata",)))
    assert left.to_fields() == {"f:spec": FIELDS["f:spec"]}


def test_unions_and_intersections() -> None:
    one, other = FieldSet.of(("f:a",), ("f:b", "f:c")), FieldSet.of(("f:b", "f:c"), ("f:d",))
    assert one.union(other) == FieldSet.of(("f:a",), ("f:b", "f:c"), ("f:d",))
    assert one.intersection(other) == FieldSet.of(("f:b", "f:c"))
    assert not one.intersection(FieldSet.of(("f:b",)))


def test_paths_have_the_words_of_kube_apiserver() -> None:
    path = ("f:spec", "f:sinks", key_element({"name": "one"}), "f:name")
    assert path_text(path) == '.spec.sinks[name="one"].name'
    assert path_text(("f:metadata", "f:finalizers", value_element("x/y"))) == (
        '.metadata.finalizers[="x/y"]'
    )


def test_elements_are_compared_in_one_form() -> None:
    spaced = FieldSet.from_fields({'k:{ "name" : "a<b" }': {}})
    assert spaced == FieldSet.of((key_element({"name": "a<b"}),))
    assert key_element({"name": "a<b"}) == 'k:{"name":"a\\u003cb"}'


@pytest.mark.parametrize(
    "fields", [[], {"x:a": {}}, {"k:[1]": {}}, {"v:{": {}}, {"f:a": 1}, {"i:x": {}}]
)
def test_what_is_no_set_is_refused(fields: object) -> None:
    with pytest.raises(FieldSetError):
        FieldSet.from_fields(fields)


def test_deep_sets_are_refused() -> None:
    fields: dict[str, object] = {}
    for _ in range(DEPTH_MAX + 2):
        fields = {"f:a": fields}
    with pytest.raises(FieldSetError, match="nested"):
        FieldSet.from_fields(fields)
