"""Texts of OTLP values, however large, deep or damaged."""

from __future__ import annotations

import pytest

from relay.codec.otlp.any_value import (
    STEP,
    VALUES_MAX,
    resource_attributes,
    scope_attributes,
    text_of,
)
from relay.codec.protobuf import field_bytes
from relay.runtime.errors import DecodeError


def value(payload: bytes, tag: bytes = b"\x0a") -> bytes:
    return field_bytes(tag, payload)


def pair(key: bytes, one: bytes) -> bytes:
    return field_bytes(b"\x0a", field_bytes(b"\x0a", key) + field_bytes(b"\x12", one))


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        (value(b"a"), "a"),
        (value("ä".encode()), "ä"),
        (value(b""), ""),
        (value(b"a\xff"), "a�"),
        (value(b"a") + value(b"b"), "b"),
        (value(b"a") + b"\x18\x05", "5"),
        (b"\x0a\x05a", ""),
        (b"\x0a", ""),
        (b"\x18", ""),
        (b"\x0b\x0c", ""),
        (value(field_bytes(b"\x0a", value(b"\xff")), b"\x2a"), ""),
        (b"", ""),
    ],
)
def test_texts(encoded: bytes, text: str) -> None:
    assert text_of(encoded) == text


@pytest.mark.parametrize("tag", [b"\x2a", b"\x32"])
def test_a_value_with_too_many_in_it_has_no_text(tag: bytes) -> None:
    most = VALUES_MAX - 1
    if tag == b"\x32":
        assert text_of(value(b"\x0a\x00" * most, tag)) == '{"":null}'
    else:
        assert text_of(value(b"\x0a\x00" * most, tag)) == f"[{','.join(['null'] * most)}]"
    assert text_of(value(b"\x0a\x00" * VALUES_MAX, tag)) == ""


def test_values_in_values_count() -> None:
    inner = field_bytes(b"\x0a", value(b"\x0a\x00" * 200, b"\x2a"))
    assert text_of(value(inner * 40, b"\x2a")) != ""
    assert text_of(value(inner * 60, b"\x2a")) == ""
    assert text_of(value(pair(b"k", value(inner * 60, b"\x2a")), b"\x32")) == ""


def test_a_deep_value_has_no_text() -> None:
    encoded = value(b"x")
    for _ in range(10_000):
        encoded = value(field_bytes(b"\x0a", encoded), b"\x2a")
    assert text_of(encoded) == ""


def test_attributes_of_a_head_that_is_no_utf8_or_not_readable_in_part() -> None:
    attributes = pair(b"a\xff", value(b"\xffb")) + pair(b"no", b"\x0a") + pair(b"c", value(b"d"))
    expected = [("a�", "�b"), ("no", ""), ("c", "d")]
    assert resource_attributes(field_bytes(b"\x0a", attributes)) == expected
    first, second = field_bytes(b"\x0a", pair(b"a", value(b"1"))), field_bytes(b"\x0a", b"")
    assert resource_attributes(first + b"\x12\x00" + second + first) == [("a", "1"), ("a", "1")]
    of_a_scope = field_bytes(b"\x1a", pair(b"e", value(b"f"))[2:])
    assert scope_attributes(field_bytes(b"\x0a", of_a_scope)) == [("e", "f")]


@pytest.mark.parametrize("head", [b"\x0a\x05", b"\x0a\x02\x0a\x09", b"\x0a\x04\x0a\x02\x0a\x09"])
def test_a_head_that_cannot_be_read(head: bytes) -> None:
    with pytest.raises(DecodeError, match="a resource cannot be read"):
        resource_attributes(head)


@pytest.mark.parametrize(("levels", "is_deep"), [(49, False), (51, True), (10_000, True)])
def test_a_head_that_is_too_deep_is_refused(levels: int, *, is_deep: bool) -> None:
    deep = value(b"x")
    for _ in range(levels):
        deep = value(field_bytes(b"\x0a", deep), b"\x2a")
    head = field_bytes(b"\x0a", pair(b"a", value(b"b" * 200)) + pair(b"deep", deep))
    if is_deep:
        with pytest.raises(DecodeError, match="a resource has values over 100 levels deep"):
            resource_attributes(head)
    else:
        assert [name for name, _ in resource_attributes(head)] == ["a", "deep"]


def test_long_heads_are_read_with_pauses() -> None:
    pauses: list[int] = []
    attributes = pair(b"a", value(b"b")) * (3 * STEP) + pair(b"c", value(bytes(10_000)))
    found = resource_attributes(field_bytes(b"\x0a", attributes), lambda: pauses.append(1))
    assert len(found) == 3 * STEP + 1
    assert len(pauses) == 4


@pytest.mark.parametrize("piece", [b"\xff", b"\xff\xf0\x9f", "a€".encode() + b"\xe2\x82", b"ab"])
def test_a_long_text_that_is_no_utf8_is_replaced_with_pauses(piece: bytes) -> None:
    pauses: list[int] = []
    raw = piece * (1_000_000 // len(piece))
    text = raw.decode(errors="replace")
    assert text_of(value(raw), lambda: pauses.append(1)) == text
    assert len(pauses) == (0 if piece == b"ab" else 4)
    assert text_of(value(raw), chars_max=10_000) == text[:10_000]


@pytest.mark.parametrize(
    "encoded", [value(b"abc"), value(value(value(b"x")), b"\x2a"), b"\x18\x7b"]
)
def test_the_first_characters_alone(encoded: bytes) -> None:
    assert text_of(encoded, chars_max=2) == text_of(encoded)[:2]
