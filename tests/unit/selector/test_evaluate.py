"""Matching, and what people are told about it."""

from __future__ import annotations

import pytest

from relay.selector.evaluate import MatchFailure, compile_selector, render, render_selector
from relay.selector.matchers import NAME, Matcher, Selector
from relay.selector.metricsql.parser import parse_selector


def test_everything() -> None:
    compiled = compile_selector(Selector(groups=()))
    assert compiled.matches({})
    explanation = compiled.explain({})
    assert (explanation.matched, explanation.group, explanation.failures) == (True, None, ())


def test_an_empty_group_matches_everything() -> None:
    compiled = compile_selector(Selector(groups=((Matcher("a", "=", "b"),), ())))
    assert compiled.matches({})
    assert compiled.explain({}).group == 1


@pytest.mark.parametrize("matcher", ['a=""', 'a!="b"', 'a!~"b"', 'a=~".*"', 'a=~"b|"', 'a!~".+"'])
def test_a_missing_label_is_an_empty_one(matcher: str) -> None:
    compiled = compile_selector(parse_selector("{" + matcher + "}"))
    assert compiled.matches({NAME: "m"})
    assert compiled.matches({NAME: "m", "a": ""})


def test_explanation_names_the_first_failure_as_written() -> None:
    compiled = compile_selector(parse_selector('{a=~"x+",b="c" or d="e" or f!="g"}'))
    labels = {"a": "y", "d": "z"}
    explanation = compiled.explain(labels)
    assert explanation.matched
    assert explanation.group == 2
    assert explanation.failures == (
        MatchFailure(Matcher("a", "=~", "x+"), "y"),
        MatchFailure(Matcher("d", "=", "e"), "z"),
    )
    assert str(explanation.failures[0]) == 'a=~"x+" fails: a is "y"'


def test_explanation_of_no_match() -> None:
    explanation = compile_selector(parse_selector('foo{a!=""}')).explain({NAME: "foo"})
    assert not explanation.matched
    assert explanation.group is None
    assert str(explanation.failures[0]) == 'a!="" fails: a is absent'


@pytest.mark.parametrize(
    ("matcher", "text"),
    [
        (Matcher("a", "=", "b"), 'a="b"'),
        (Matcher("foo-bar", "!=", 'x"y\\'), '"foo-bar"!="x\\"y\\\\"'),
        (Matcher("a", "=", "x\ny\t\x00\u200b\udcff"), r'a="x\ny\x09\x00\U0000200b\xff"'),
        (Matcher("房间", "=~", "é"), '"房间"=~"é"'),
    ],
)
def test_render(matcher: Matcher, text: str) -> None:
    assert render(matcher) == text
    assert parse_selector("{" + text + "}").groups == ((matcher,),)


def test_repr_is_the_selector() -> None:
    compiled = compile_selector(parse_selector('foo{a="b" or c="d"}'))
    assert repr(compiled) == ('<CompiledSelector {__name__="foo",a="b" or __name__="foo",c="d"}>')
    assert render_selector(Selector(groups=())) == "{}"
