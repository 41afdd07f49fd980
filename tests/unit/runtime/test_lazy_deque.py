"""The lazy queue does what a deque does, and takes nothing while it is empty."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.runtime.lazy_deque import LazyDeque

CALLS = st.one_of(
    st.tuples(st.sampled_from(["append", "remove"]), st.integers(0, 3)),
    st.tuples(st.just("popleft")),
)


@given(st.lists(CALLS, max_size=30))
def test_it_is_a_deque(calls: list[tuple[Any, ...]]) -> None:
    lazy, usual = LazyDeque[int](), deque[int]()
    for name, *arguments in calls:
        results = []
        for queue in (lazy, usual):
            try:
                results.append(getattr(queue, name)(*arguments))
            except (IndexError, ValueError) as error:
                results.append(type(error))
        assert results[0] == results[1]
        assert list(lazy) == list(usual)
        assert len(lazy) == len(usual)
        assert bool(lazy) == bool(usual)
        if usual:
            assert (lazy[0], lazy[-1]) == (usual[0], usual[-1])


def test_an_empty_one_has_no_items() -> None:
    with pytest.raises(IndexError):
        LazyDeque[int]()[0]


@pytest.mark.parametrize("end", [lambda it: it.popleft(), lambda it: it.remove(1)])
def test_its_last_item_frees_it(end: Any) -> None:
    queue = LazyDeque[int]()
    queue.append(1)
    assert sys.getsizeof(queue._items) > 500
    end(queue)
    assert queue._items is None
