"""Warnings about valid selectors, and that "never matches" is never wrong."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.runtime.errors import SelectorError
from relay.selector.evaluate import compile_selector
from relay.selector.lint import overlaps, remarks
from relay.selector.matchers import Matcher, Op, Selector
from relay.selector.metricsql.parser import parse_query
from relay.selector.regex import compile_regex
from relay.selector.regex_classes import translated
from tests.kit.examples import examples

OPS: list[Op] = ["=", "!=", "=~", "!~"]
VALUES = ["", "a", "b", "ab"]
PATTERNS = ["", "a", "a|b", "a.*", "b.*", ".*a", ".*b", ".+", ".*", "a?", "(a|b).+", "[ab]", "a+"]
TEXTS = ["".join(text) for size in range(4) for text in itertools.product("abc", repeat=size)]


@pytest.mark.parametrize(
    "text",
    [
        'up{job="api"}',
        '{__name__=~"http_.*"}',
        '{job=~"api|web"}',
        '{job=~"api-[0-9]*"}',
        '{job=~"(ab)*"}',
        '{job!="a",job!="b"}',
        '{job=~"a.*",job=~".*b"}',
        '{path="/v1/a.b"}',
        '{job="",other!=""}',
        '{job="a" or job="b"}',
        '{__name__="up" or "down"}',
    ],
)
def test_what_is_meant_is_not_warned_of(text: str) -> None:
    selector = parse_query(text)
    assert (*selector.remarks, *remarks(selector)) == ()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(OPS[:2]), st.sampled_from(VALUES)),
            st.tuples(st.sampled_from(OPS[2:]), st.sampled_from(PATTERNS)),
        ),
        min_size=1,
        max_size=4,
    )
)
@examples(300)
def test_what_never_matches_matches_nothing(conditions: list[tuple[Op, str]]) -> None:
    group = tuple(Matcher("x", op, value) for op, value in conditions)
    selector = Selector((group,))
    matches = compile_selector(selector).matches
    said = any("never match" in remark.text for remark in remarks(selector))
    if said:
        assert not any(matches({"x": text}) for text in TEXTS)
    if any(op == "=" for op, _ in conditions):
        assert said != any(matches({"x": value}) for op, value in conditions if op == "=")


def test_sources_that_take_the_same_are_found() -> None:
    texts = ["", "{}", 'up{a="b",c="d"}', '{c="d",__name__="up",a="b"}', "down"]
    named = [(f"s{index}", parse_query(text)) for index, text in enumerate(texts)]
    assert [index for index, _ in overlaps([*named, ("r", None)])] == [1, 3]


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (r"\p{Letter}+", "aé", "1"),
        (r"\p{uppercase letter}", "A", "a"),
        (r"\p{^Letter}", "1", "a"),
        (r"\P{Decimal_Number}", "a", "1"),
        (r"\p{ASCII}+", "a~", "é"),
        (r"\P{ASCII}", "é", "a"),
        (r"[\P{ASCII}x]+", "éx", "y"),
        (r"[^\p{ASCII}]", "é", "a"),
        (r"\p{LC}", "a", "ª"),
        (r"\P{LC}", "1", "a"),
        (r"[\p{LC}1]", "1", "2"),
        (r"\p{Cn}", "\u0378", "a"),
        (r"\P{Cn}", "a", "\u0378"),
        (r"[\p{Assigned}]", "a", "\u0378"),
        (r"\Q\p{Letter}\E", r"\p{Letter}", "a"),
        (r"[[:alpha:]\p{Nd}]+", "a1", "-"),
        (r"[]\p{LC}]+", "]a", "1"),
        (r"\\p\{LC\}", r"\p{LC}", "a"),
        (r"\pL\p{Greek}", "aα", "aa"),
        (r"\p{greek}\p{any}", "αa", "aa"),
        (r"\p{OLD PERSIAN}", "\U000103a0", "a"),
        (r"\p{Phags_Pa}", "\ua840", "a"),
    ],
)
def test_class_names_of_go_are_taken(pattern: str, yes: str, no: str) -> None:
    regex = compile_regex(pattern)
    assert regex.matches(yes)
    assert not regex.matches(no)


@pytest.mark.parametrize("pattern", [r"[\p{Cn}]", r"[a\P{LC}]", r"[\P{Assigned}]"])
def test_what_re2_cannot_say_is_refused_where_it_stands(pattern: str) -> None:
    with pytest.raises(SelectorError, match="cannot stand inside brackets") as caught:
        translated(pattern)
    assert pattern[caught.value.offset] == "\\"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ('up{a="b",c=~"x(y"}', "(y"),
        ('up{a=~"\\\\d+[z-a]"}', "z-a"),
        ("up{a=~`é(y`}", "(y"),
        ('up{a=~"\\xc3\\xa9**"}', "**"),
        ('up{a=~"ab)"}', ")"),
    ],
)
def test_faults_in_a_pattern_have_their_place_in_the_selector(text: str, at: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_query(text)
    assert text[caught.value.offset :].startswith(at)
