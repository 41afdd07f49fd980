"""YAML text to plain values: the schema, places and lines, broken and hostile documents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.yaml import document as document_module
from relay.config.yaml.document import Document, dotted, parse_documents, read_documents, shown
from relay.config.yaml.source_positions import PackedPlaces, SourcePlace
from relay.runtime.errors import ConfigError


def _only(text: str) -> Document:
    (document,) = parse_documents(text, "f.yaml")
    return document


def _fatal(text: str) -> str:
    """``line: message`` of a document that could not be read."""
    document = _only(text)
    ((where, message),) = document.faults
    assert document.value is None or document.repaired
    assert where == ()
    return f"{document.line(where)}: {message}"


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ("a", "a"),
        ("5", 5),
        ("-7", -7),
        ("+7", 7),
        ("0", 0),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("012", "012"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("2024-99-99", "2024-99-99"),
        (".inf", ".inf"),
        ("=", "="),
        ("<<", "<<"),
        ("9" * 19, 9999999999999999999),
        ("1" + "0" * 20, 1e20),
        ("'5'", "5"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("! 5", "5"),
    ],
)
def test_scalars_resolve_by_the_core_schema(plain: str, value: object) -> None:
    document = _only(f"key: {plain}\n")
    assert isinstance(document.value, dict)
    assert document.value["key"] == value
    assert type(document.value["key"]) is type(value)


def test_a_place_has_the_line_where_its_deepest_part_stands() -> None:
    document = _only("# c\n\na: 1\nb:\n  - x\n  - c: 1\n    d: [5,\n        6]\n")
    assert document.line(()) == 3
    assert document.line(("a",)) == 3
    assert document.line(("b", 1)) == 6
    assert document.line(("b", 1, "d", 1)) == 8
    assert document.line(("b", 1, "missing", "deeper")) == 6
    assert document.line(("b", 7)) == 4
    assert document.origin(("a",)) == "f.yaml:3"
    assert document.origin(("a",), "Exporter default/x") == "f.yaml:3 (Exporter default/x)"


def test_documents_are_told_apart_and_numbered() -> None:
    text = "# a comment\n---\na: 1\n---\n# none\n---\n\n--- \nb: 2\n...\n# between\n--- {c: 3}\n"
    documents = parse_documents(text, "f.yaml")
    assert [document.value for document in documents] == [{"a": 1}, {"b": 2}, {"c": 3}]
    assert [document.origin() for document in documents] == [
        "f.yaml:3 (document 1)",
        "f.yaml:9 (document 2)",
        "f.yaml:12 (document 3)",
    ]
    assert documents[1].line(("b",)) == 9
    assert documents[2].line(("c",)) == 12


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n---\n", "null\n", "---"])
def test_nothing_is_no_document(text: str) -> None:
    assert parse_documents(text, "f.yaml") == []


def test_directives_belong_to_the_document_that_follows() -> None:
    assert _only("# c\n%YAML 1.1\n---\na: 1\n").value == {"a": 1}


def test_a_marker_inside_a_block_scalar_is_text_unless_it_begins_the_line() -> None:
    assert _only("a: |\n  ---\n  b\n").value == {"a": "---\nb\n"}
    assert _only("a: ---x\n").value == {"a": "---x"}


def test_a_broken_document_leaves_its_neighbours_alone() -> None:
    first, broken, last = parse_documents("a: 1\n---\nb: [1\nc: 2\n---\nd: 3\n", "f.yaml")
    assert first.value == {"a": 1}
    assert last.value == {"d": 3}
    assert broken.value is None
    ((where, message),) = broken.faults
    assert message.startswith("not valid YAML: while parsing a flow sequence, did not find")
    assert broken.line(where) == 3


def test_duplicate_keys_are_faults_and_the_first_counts() -> None:
    document = _only("a: {x: 1, y: [1], x: {z: 2}}\nb: 3\na: 4\n")
    assert document.value == {"a": {"x": 1, "y": [1]}, "b": 3}
    assert [(dotted(where), message) for where, message in document.faults] == [
        ("a.x", "appears again on line 1; the first is on line 1"),
        ("a", "appears again on line 3; the first is on line 1"),
    ]


def test_faults_of_one_document_are_bounded() -> None:
    document = _only("a: 1\n" * 500)
    assert len(document.faults) == document_module.FAULTS_MAX


def test_aliases_repeat_their_anchor() -> None:
    document = _only("a: &x [1, &y b]\nc: *x\nd: *y\n&k e: *k\n")
    assert document.value == {"a": [1, "b"], "c": [1, "b"], "d": "b", "e": "e"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: *b", "1: an alias without an anchor; quote a value that begins with *"),
        ("a: &a [*a]", "1: an alias without an anchor; quote a value that begins with *"),
        ("a: b\nc: !!binary aGk=", "2: YAML tags are not accepted; quote a value"),
        ("a: !!set {b}", "1: YAML tags are not accepted"),
        ("a: 1\n? [b]\n: c", "2: the key of a mapping must be a plain string"),
        ("a: &b c\n*b : d", "2: the key of a mapping must be a plain string"),
        ("x: 1\na: 'b\0c'", r"2: not valid YAML: control character '\x00'"),
        ("x: 1\n\ta: 2", "2: not valid YAML: "),
        ("a: b: c", "1: not valid YAML: "),
        ("a: \ufffe", "1: not valid YAML: "),
        ("%YAML 9.9\n---\na: 1", "1: not valid YAML: "),
        ("a\u2028---\u2028b", "1: a second document begins here"),
        ("a: " + "[" * 65, "1: nested deeper than 64 levels"),
        ("[" * 200_000, "1: nested deeper than 64 levels"),
        ("- " * 200_000, "1: nested deeper than 64 levels"),
        ("{a: " * 200_000, "1: nested deeper than 64 levels"),
        ("a: " + "[" * 2_000 + "]" * 2_000 + "\nb: c: d", "1: nested deeper than 64 levels"),
        ("[" * 64 + "']]', }", "1: not valid YAML: "),
        ("a: b: c # " + "[" * 65, "1: not valid YAML: "),
        ("- '" + "[" * 65 + "'\n- [\"" + "[" * 65, "2: not valid YAML: "),
    ],
)
def test_what_cannot_be_read_says_why_and_where(text: str, message: str) -> None:
    assert _fatal(text).startswith(message)


def test_an_alias_bomb_is_refused() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 40)
    )
    assert _fatal(bomb) == "6: holds more than 1000000 values, aliases counted in full"


def test_aliases_do_not_nest_deeper_than_brackets() -> None:
    chain = "a0: &a0 [x]\n" + "".join(
        f"a{level}: &a{level} [*a{level - 1}]\n" for level in range(1, 100)
    )
    assert _fatal(chain) == "64: nested deeper than 64 levels"


def test_neither_faults_nor_repr_repeat_a_value() -> None:
    for text in ("token: *hunter2", "token: !hunter2", "token: 'hunter2", "a: {token: hunter2"):
        document = _only(text)
        assert document.faults
        assert "hunter2" not in f"{document.faults} {document!r}"


def test_places_are_written_as_their_author_would() -> None:
    assert dotted(()) == ""
    assert dotted(("spec", "sinks", 0, "otlp_http")) == "spec.sinks[0].otlp_http"
    assert dotted(("headers", "X-Key")) == "headers.X-Key"
    assert dotted(("headers", "a.b")) == 'headers["a.b"]'
    assert dotted(("headers", "\x1b[1m\n")) == r'headers["\x1b[1m\n"]'
    assert len(shown("a" * 1000)) == 62


def test_files_are_decoded_strictly(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: b\xc3\xbc\r\n")
    assert [document.value for document in read_documents(file)] == [{"a": "bü"}]
    file.write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"f\.yaml: is not UTF-8 text: byte 3 does not belong"):
        read_documents(file)


def test_files_that_are_too_large_or_no_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("a: 12345\n")
    with pytest.raises(ConfigError, match="cannot be read: larger than 8 bytes"):
        read_documents(file, bytes_max=8)
    assert len(read_documents(file, bytes_max=9)) == 1
    fifo = tmp_path / "fifo.yaml"
    os.mkfifo(fifo)
    with pytest.raises(ConfigError, match="cannot be read: not a regular file"):
        read_documents(fifo)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_documents(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        read_documents(tmp_path / "missing.yaml")


def test_documents_keep_each_shown_line_once() -> None:
    text = "a: {b: 1, c: 2}\nd: 3\n"
    one, two = parse_documents(f"{text}---\n{text}", "f")
    wheres = [("a", "b"), ("a", "c"), ("a", "x"), ("a",), ("d",), ("a", "b")]
    before = [one.place(where) for where in wheres]
    one.let_go(wheres)
    two.let_go(wheres)
    assert [one.place(where) for where in wheres] == before
    assert one.place(("a", "x")) == one.place(("a",))
    assert one._kept._lines.split("\n") == [one.place(("a",)).shown, one.place(("d",)).shown]
    assert [two.place(where).line for where in wheres] == [place.line + 3 for place in before]
    assert one._numbers is two._numbers
    many = [("a", number) for number in range(document_module._SHARED_PLACES_MAX + 1)]
    one.let_go(many)
    assert one.place(many[-1]).line == 1, "nothing is known but the document's first line"


NUMBERS = st.integers(0, 2**32 - 1)
LINES = st.sampled_from(["", "a", "ab", "b: …", "é" * 600])


@given(st.lists(st.builds(SourcePlace, NUMBERS, NUMBERS, LINES, NUMBERS)))
def test_packed_places_are_what_they_were(places: list[SourcePlace]) -> None:
    packed = PackedPlaces(places)
    assert [packed[number] for number in range(len(places))] == places
