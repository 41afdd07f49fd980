"""Regular expressions: Go's flavour, and when the engine need not be asked."""

from __future__ import annotations

import time

import pytest

from relay.runtime.errors import SelectorError
from relay.selector import regex as regex_module
from relay.selector.regex import compile_regex, or_values
from tests.own_time import slowness, without_collections


@pytest.mark.parametrize(
    ("pattern", "values"),
    [
        ("foo", {"foo"}),
        ("", {""}),
        ("a|b|c", {"a", "b", "c"}),
        ("a|", {"a", ""}),
        ("foo(bar|baz)?", {"foo", "foobar", "foobaz"}),
        ("^(?:a|b)c$", {"ac", "bc"}),
        ("x[0-2]", {"x0", "x1", "x2"}),
        (r"a\.b\-c\/", {"a.b-c/"}),
        ("ab?", {"a", "ab"}),
        ("ab??", {"a", "ab"}),
        ("房|间", {"房", "间"}),
        ("[a-z][a-z]", None),
        ("a.", None),
        ("a+", None),
        ("a.*", None),
        ("(?i)a", None),
        ("(?i:a)", None),
        (r"\d", None),
        (r"\Qa.b\E", None),
        ("a{,2}", None),
        ("a$b", None),
        ("(a", None),
        ("a)", None),
        ("a**", None),
        ("[^a]", None),
        ("[a", None),
        ("a|" * 200 + "b", {"a", "b"}),
        ("|".join(f"v{n}" for n in range(100)), {f"v{n}" for n in range(100)}),
        ("|".join(f"v{n}" for n in range(101)), None),
    ],
)
def test_or_values(pattern: str, values: set[str] | None) -> None:
    assert or_values(pattern) == values


@pytest.mark.parametrize(
    "pattern", ["foo", "a|b", "a.*", "a.+", ".*a", ".+a", ".*a.*", "a.*b", "a.*|b.*|c", ".*", ".+?"]
)
def test_simple_patterns_do_not_ask_the_engine(pattern: str) -> None:
    assert repr(compile_regex(pattern)).endswith("literal>")


@pytest.mark.parametrize("pattern", ["[a-z]+", "a.b", "(?i)foo", ".*a.*b.*", r"\w+", ".+.+"])
def test_others_do(pattern: str) -> None:
    assert repr(compile_regex(pattern)).endswith("engine>")


def test_the_dot_matches_line_breaks_and_the_end_is_the_end() -> None:
    assert compile_regex("x.y").matches("x\ny")
    assert not compile_regex("x$").matches("x\n")
    assert not compile_regex("a|b").matches("ab")


@pytest.mark.parametrize(
    "pattern",
    ["(", "a)(b", "*", "a{2,1}", "a{1001}", "(?=x)", r"(a)\1", r"\Z", r"\C", r"a\\\C", "x\udcff"],
)
def test_invalid_patterns(pattern: str) -> None:
    with pytest.raises(SelectorError, match="invalid regular expression"):
        compile_regex(pattern)


@pytest.mark.parametrize(
    "pattern", [r"\\C", r"\Q\C\E", r"[[:alpha:]]", r"\pL", r"\x{263a}", "(?U)x+"]
)
def test_valid_patterns(pattern: str) -> None:
    compile_regex(pattern)


def test_verdicts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex_module, "VERDICTS_MAX", 3)
    regex = compile_regex("[a-m]+bounded[0-9]+")
    for _ in range(2):
        for number in range(10):
            assert regex.matches(f"abounded{number}")
            assert not regex.matches(f"zbounded{number}")
    assert len(regex._verdicts) <= 3
    assert regex.matches("a" * 1_000 + "bounded1")
    assert len(regex._verdicts) <= 3


@pytest.mark.parametrize(
    "pattern",
    [
        "(a|b)" * 3_000,
        "(a?" * 2_000 + ")" * 2_000,
        "a?" * 8_000,
        r"a\." * 5_000,
        "(a|b|c)" * 3 + "x" * 9_000,
    ],
    ids=["product", "nesting", "optionals", "escapes", "long"],
)
def test_analysis_is_bounded(pattern: str) -> None:
    with without_collections():
        start = time.thread_time()
        or_values(pattern)
        taken_s = time.thread_time() - start
    assert taken_s < 0.3 * slowness()
