"""A series takes little memory, and a chain of them is freed step by step."""

from __future__ import annotations

import gc
import random
import sys
from collections import deque

import pytest

from relay.pipeline.metrics.series.series import Series, SeriesQueue

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


def test_a_queue_is_as_a_deque_would_be() -> None:
    """Blocks are filled and emptied; a queue holds its series, and no others."""
    rng = random.Random(30)
    queue, expected = SeriesQueue(), deque[Series]()
    for grows in (0.7, 0.3, 0.7, 0.2) * 3:
        for _ in range(1_000):
            if rng.random() < grows:
                series = Series(b"key")
                queue.append(series)
                expected.append(series)
            elif expected:
                assert queue.popleft() is expected.popleft()
            assert len(queue) == len(expected)
            assert queue.first() is (expected[0] if expected else None)
        assert list(queue) == list(expected)
    held = Series(b"held")
    before = sys.getrefcount(held)
    queue.append(held)
    assert sys.getrefcount(held) == before + 1
    del queue
    assert sys.getrefcount(held) == before


def test_an_empty_queue_has_no_series() -> None:
    queue = SeriesQueue()
    with pytest.raises(IndexError):
        queue.popleft()
    assert (len(queue), list(queue), queue.first()) == (0, [], None)
    assert not gc.is_tracked(queue)
