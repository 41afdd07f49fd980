"""What may stand where somebody writes a selector."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.selector.metricsql.parser import parse_selector
from relay.ui.authoring import completion
from relay.ui.authoring.completion import (
    CompletionPlace,
    inserted,
    options_of,
    place_of,
    selector_for,
)

SERIES = (
    'http_requests_total{code="200",method="GET"}',
    'http_requests_total{code="500",path="/a"}',
)


@pytest.mark.parametrize(
    ("text", "expecting", "word", "metric", "label"),
    [
        ("", "name", "", "", ""),
        ("http_", "name", "http_", "", ""),
        ("http_requests_total{", "label", "", "http_requests_total", ""),
        ("http_requests_total{co", "label", "co", "http_requests_total", ""),
        ('{__name__="a",co', "label", "co", "", ""),
        ('a{code="200", me', "label", "me", "a", ""),
        ('a{code="2', "value", "2", "a", "code"),
        ('a{code=~"2|', "value", "2|", "a", "code"),
        ('a{x="{,}", code!="', "value", "", "a", "code"),
        ('a{x="1" or co', "label", "co", "a", ""),
    ],
)
def test_places(text: str, expecting: str, word: str, metric: str, label: str) -> None:
    place = place_of(text, len(text))
    assert place is not None
    assert (place.expecting, place.word, place.metric, place.label) == (
        expecting,
        word,
        metric,
        label,
    )
    assert text[place.start : place.end] == word


@pytest.mark.parametrize("text", ['a{code="2"', "a{code", 'a{code="2"} b', 'a "b', "a{b=", "a b"])
def test_places_where_nothing_is_expected_or_a_word_ends(text: str) -> None:
    place = place_of(text, len(text))
    assert place is None or place.word == "code"


@given(st.text('abc{}=~!",\\ \n_:0', max_size=40), st.integers(0, 40))
def test_every_selector_that_is_asked_can_be_read(text: str, at: int) -> None:
    place = place_of(text, min(at, len(text)))
    if place is not None:
        parse_selector(selector_for(place, ["a.b", 'q"']))


def test_options_are_those_that_fit_the_word() -> None:
    place = place_of("a{", 2)
    assert place is not None
    assert options_of(place, SERIES) == ["code", "method", "path"]
    place = place_of('a{code="', 8)
    assert place is not None
    assert options_of(place, (*SERIES, "cut{off")) == ["200", "500"]
    place = place_of("REQ", 3)
    assert place is not None
    assert options_of(place, SERIES, ["other", "requests"]) == ["requests", "http_requests_total"]


def test_values_are_quoted_where_they_go() -> None:
    place = CompletionPlace("value", 0, 0, "", "a", "b")
    assert inserted(place, 'say "x"\\') == 'say \\"x\\"\\\\'
    assert inserted(CompletionPlace("label", 0, 0, ""), "code") == "code"


@pytest.mark.parametrize(
    ("text", "at", "option", "made"),
    [
        ("a{co", 4, "code", 'a{code="'),
        ('a{co,method="GET"}', 4, "code", 'a{code,method="GET"}'),
        ('a{code="2', 9, "200", 'a{code="200"}'),
        ('a{code!="', 9, "200", 'a{code!="200"}'),
        ('a{code=~"2', 10, "200", 'a{code=~"200'),
        ('a{code="2"}', 9, "200", 'a{code="200"}'),
    ],
)
def test_what_has_to_follow_is_inserted_at_the_end(
    text: str, at: int, option: str, made: str
) -> None:
    place = place_of(text, at)
    assert place is not None
    assert text[: place.start] + inserted(place, option) + text[place.end :] == made


def test_values_that_are_known_are_excluded() -> None:
    place = CompletionPlace("value", 0, 0, "2", "a", "code")
    assert selector_for(place, ["200", "2.0"]) == ('{__name__="a",code=~"2.+",code!~"200|2\\\\.0"}')


@pytest.mark.parametrize(
    "text",
    [
        "{" + "a" * 200_000,
        "a:" * 100_000,
        '{a="' + '\\"' * 100_000,
        "{" + " " * 200_000,
        '"' * 200_001,
    ],
)
def test_a_long_text_is_read_once(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_CHARS_MAX", len(text))
    began = time.process_time()
    place_of(text, len(text))
    assert time.process_time() - began < 5  # some 20 ms; reading it for each character: an hour
