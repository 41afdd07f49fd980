"""Selectors that take histograms apart are told so, and only those."""

from __future__ import annotations

import pytest

from relay.selector.evaluate import compile_selector
from relay.selector.histogram_coverage import (
    asked_for_family,
    missing_members,
    possible_families,
    split_histograms,
    whole_names,
)
from relay.selector.matchers import NAME
from relay.selector.metricsql.parser import parse_query


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ("foo_bucket", "foo_count and foo_sum"),
        ('{__name__=~"foo_bucket|foo_count",job=~"a.*"}', "foo_sum"),
        ('{__name__=~"foo_(bucket|count|sum)",le="0.5"}', "foo_count and foo_sum and foo_bucket"),
    ],
)
def test_part_of_a_histogram_is_warned_of(query: str, missing: str) -> None:
    (warning,) = split_histograms(parse_query(query))
    assert warning.startswith(f"foo_bucket without {missing}")
    assert '{__name__=~"foo_(bucket|count|sum)"}' in warning


@pytest.mark.parametrize(
    "query",
    [
        "",
        "foo_count",
        '{__name__=~"foo_.*"}',
        '{__name__=~"foo_(bucket|count|sum)",job="a"}',
        '{__name__="foo_bucket" or __name__="foo_sum" or __name__="foo_count"}',
        '{job="a"}',
    ],
)
def test_the_whole_and_what_is_none_is_not(query: str) -> None:
    assert list(split_histograms(parse_query(query))) == []


def test_warnings_are_bounded() -> None:
    names = "|".join(f"n{number}_bucket" for number in range(50))
    assert len(list(split_histograms(parse_query(f'{{__name__=~"{names}"}}')))) == 10


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ("foo_bucket", ("foo_count", "foo_sum")),
        ('{__name__=~"foo_.*",job="a"}', ()),
        ('{__name__=~"foo_.*",le!="+Inf"}', ('foo_bucket{le="+Inf"}',)),
    ],
)
def test_what_a_source_lacks_of_a_series_histogram(query: str, missing: tuple[str, ...]) -> None:
    selector = compile_selector(parse_query(query))
    assert missing_members(selector, {NAME: "foo_bucket", "job": "a", "le": "1"}) == missing
    assert missing_members(selector, {NAME: "foo_total", "job": "a"}) is None


@pytest.mark.parametrize(
    "query",
    [
        "http_request_duration_seconds",
        '{__name__=~"http_request_duration_seconds|up"}',
        '{__name__="http_request_duration_seconds", job="a"}',
        'http_request_duration_seconds{job="a" or job="b"}',
    ],
)
def test_the_name_that_otlp_has_for_a_histogram(query: str) -> None:
    (warning,) = whole_names(parse_query(query))
    assert warning.startswith("http_request_duration_seconds: the series of a histogram or summary")
    assert '{__name__=~"http_request_duration_seconds(_bucket|_count|_sum)?"}' in warning


@pytest.mark.parametrize(
    "query",
    [
        '{__name__=~"http_request_duration_seconds(_bucket|_count|_sum)?"}',
        '{__name__=~"http_request_duration_seconds.*"}',
        '{__name__="a_latency_seconds" or __name__=~"a_latency_seconds_.*"}',
        "scrape_duration_seconds",
        "node_filesystem_size_bytes",
        'up{job="x_duration_seconds"}',
        '{__name__!="http_request_duration_seconds"}',
    ],
)
def test_names_that_are_meant_so(query: str) -> None:
    assert list(whole_names(parse_query(query))) == []


def test_a_member_of_the_family_that_was_asked_for() -> None:
    selector = compile_selector(parse_query('h{job="a"}'))
    bucket = {"__name__": "h_bucket", "le": "1", "job": "a"}
    assert asked_for_family(selector, bucket) == "h"
    assert asked_for_family(selector, {**bucket, "job": "b"}) == ""
    assert asked_for_family(selector, {"__name__": "_bucket", "job": "a"}) == ""
    assert possible_families("h_bucket") == {"h_bucket", "h"}
    assert possible_families("_sum") == {"_sum"}
