"""A series takes little memory, and a chain of them is freed step by step."""

from __future__ import annotations

import gc
import sys

import pytest

from relay.pipeline.metrics.series.series import Series

CHAIN = 200_000
"""Series; freed by recursion, a tenth of them overflow the stack."""


def test_it_takes_no_more_than_nine_lines_of_sixteen_bytes() -> None:
    series = Series(b"key")
    assert sys.getsizeof(series) == 144
    assert not gc.is_tracked(series)


def test_a_long_chain_is_freed() -> None:
    first = last = Series(b"first")
    for _ in range(CHAIN):
        last.predicted_next = last = Series(b"next")
    held = last
    before = sys.getrefcount(held)
    del last
    first.predicted_next = None
    assert sys.getrefcount(held) == before - 2, "the name, and the one before it"


def test_a_chain_ends_at_a_series_that_is_used_elsewhere() -> None:
    first, kept, behind = Series(b"1"), Series(b"2"), Series(b"3")
    first.predicted_next, kept.predicted_next = kept, behind
    del first
    assert kept.predicted_next is behind


@pytest.mark.parametrize(
    ("name", "usual", "value"),
    [("fault", "", "too_large"), ("native", None, object()), ("info_claim", None, object())],
)
def test_uncommon_fields_are_there_once_they_are_set(
    name: str, usual: object, value: object
) -> None:
    series = Series(b"key")
    assert getattr(series, name) == usual
    setattr(series, name, usual)
    assert getattr(series, name) == usual
    setattr(series, name, value)
    assert getattr(series, name) is value
    series.empty(b"")
    assert getattr(series, name) == usual
