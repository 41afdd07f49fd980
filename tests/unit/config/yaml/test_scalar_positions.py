"""Places in YAML: from a character of a value to the text, and lines that hide secrets."""

from __future__ import annotations

import pytest
import yaml

from relay.config.yaml.document import parse_documents
from relay.config.yaml.scalar_positions import source_offset
from relay.runtime.excerpt import excerpt


@pytest.mark.parametrize(
    "written",
    [
        "plain text",
        "plain\n  on two lines\n\n  and after a blank one",
        "'single ''quoted'' text'",
        "'on\n  two lines'",
        '"double \\"quoted\\" \\x41\\u00e9\\t text"',
        '"joined \\\n  without a break, and\n\n  with one"',
        "|\n  literal\n    deeper\n\n  end\n",
        "|-\n  stripped\n",
        "|+\n  kept\n\n",
        ">\n  folded\n  into one\n\n  paragraph\n    more\n  end\n",
        ">-\n  folded\n  stripped",
        "&anchor 'anchored'",
        "'日本語 東京'",
    ],
)
def test_each_character_of_a_scalar_is_found_where_it_stands(written: str) -> None:
    value = yaml.safe_load(f"a: {written}\n")["a"]
    offsets = [source_offset(written, value, index) for index in range(len(value) + 1)]
    if written.startswith("|+"):
        assert None in offsets or offsets == sorted(offsets, key=lambda at: at or 0)
        return
    assert None not in offsets
    assert offsets == sorted(offsets, key=lambda at: at or 0)
    for char, at in zip(value, offsets, strict=False):
        assert at is not None
        if char.isalnum() and not written.startswith('"'):
            assert written[at] == char


def test_a_scalar_that_is_not_understood_claims_nothing() -> None:
    assert source_offset("|2\n    text\n", "  text\n", 3) is None
    assert source_offset("'one'", "two", 0) is None


@pytest.mark.parametrize(
    ("line", "offset", "expected"),
    [
        ("abc", 1, "abc\n ^"),
        ("日本x", 2, "日本x\n    ^"),
        ("e\u0301x", 2, "e\u0301x\n ^"),
        ("\tx", 1, "\\tx\n  ^"),
        ("\x1b[31mx", 5, "\\x1b[31mx\n        ^"),
        ("\u202ex", 1, "\\u202ex\n      ^"),
        ("abc", 9, "abc\n   ^"),
    ],
)
def test_the_caret_stands_below_the_character(line: str, offset: int, expected: str) -> None:
    assert excerpt(line, offset) == expected


def test_a_long_line_is_cut_around_the_place() -> None:
    shown, caret = excerpt("a" * 500 + "X" + "b" * 500, 500).split("\n")
    assert len(shown) <= 102
    assert shown[caret.index("^")] == "X"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("stringData: {token: hunter2, name: hunter2}", "stringData: {token: …, name: …}"),
        ("headers: {X-Key: hunter2}", "headers: {X-Key: …}"),
        ("headers: {type: hunter2}", "headers: {type: …}"),
        ("authentication: token:hunter2", "authentication: …"),
        ("Sources: [a]", "Sources: [a]"),
        ("stringData: {token:hunter2}", "stringData: {token:…}"),
        ("name: a", "name: a"),
        ("spec: {token: hunter2, name: a}", "spec: {token: …, name: a}"),
        ("endpoint: https://me:hunter2@example.com", "endpoint: …"),
        ("endpoint: https://example.com:hunter2", "endpoint: …"),
        ("endpoint: https://example.com/?key=hunter2", "endpoint: …"),
        ("endpoint: https://example.com:4318/otlp", "endpoint: https://example.com:4318/otlp"),
        ("sources: [a, b]", "sources: [a, b]"),
        ("tokens: [hunter2, hunter2]", "tokens: […, …]"),
        ("token: 'hunter2\n  hunter2'", "token: …"),
        ('token: "hunter2"hunter2', "token: …"),
        ("- hunter2", "- …"),
    ],
)
def test_a_shown_line_holds_no_secret(text: str, shown: str) -> None:
    (document,) = parse_documents(text, "f.yaml")
    assert document.place(()).shown == shown


def test_a_line_as_long_as_a_file_is_not_copied_for_each_place() -> None:
    items = ", ".join(f"{{token: hunter2, name: n{index}}}" for index in range(30_000))
    (document,) = parse_documents(f"{{items: [{items}]}}", "f.yaml")
    for index in range(0, 30_000, 30):
        place = document.place(("items", index, "name"))
        assert len(place.shown) < 800
        assert "hunter2" not in place.shown
        assert place.shown[place.offset :].startswith(f"n{index}")


def test_what_is_masked_twice_stays_masked() -> None:
    text = "a: {token: hunter2, x: [" + "hunter2, " * 300 + "\n"
    (document,) = parse_documents(text, "f.yaml")
    for where, message in document.faults:
        assert "hunter2" not in str(document.fault(where, message))
    assert document.faults


def test_lines_end_where_editors_end_them() -> None:
    (document,) = parse_documents('a: "x\u2028y\x85z"\nb: 1\n', "f.yaml")
    assert document.place(("b",)).line == 2
    assert document.fault(("b",), "m").place == (2, 4)


def test_merge_keys_are_one_fault_and_bring_in_what_they_name() -> None:
    (document,) = parse_documents("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: {'<<': 4}\n", "f.yaml")
    assert document.value == {
        "x": {"a": 1, "b": 2},
        "y": {"b": 3, "a": 1},
        "z": {"<<": 4},
    }
    ((where, message),) = document.faults
    assert where == ("y", "<<")
    assert message.startswith("merge keys are not accepted")
