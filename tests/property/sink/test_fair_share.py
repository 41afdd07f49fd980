"""Who gives way: the largest, down to the level of the next, and nobody more than needed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.sink.queue.fair_share import max_min_fair_cuts

usages = st.dictionaries(st.text(max_size=3), st.integers(0, 10**9), max_size=12)


@given(usage=usages, excess=st.integers(0, 10**10))
def test_the_sum_falls_by_what_is_needed(usage: dict[str, int], excess: int) -> None:
    given_up = max_min_fair_cuts(usage, excess)
    assert all(0 < amount <= usage[key] for key, amount in given_up.items())
    total = sum(given_up.values())
    assert min(excess, sum(usage.values())) <= total <= excess + len(usage) ** 2


@given(usage=usages, excess=st.integers(0, 10**10))
def test_nobody_is_left_with_less_than_one_who_gave_nothing(
    usage: dict[str, int], excess: int
) -> None:
    given_up = max_min_fair_cuts(usage, excess)
    level = min((usage[key] - amount for key, amount in given_up.items()), default=None)
    for key, used in usage.items():
        if key not in given_up and level is not None:
            assert used <= level + len(usage)


@given(usage=usages, bound=st.integers(1, 10**9))
def test_who_holds_no_more_than_an_equal_share_gives_nothing(
    usage: dict[str, int], bound: int
) -> None:
    excess = sum(usage.values()) - bound
    if excess <= 0 or not usage:
        return
    for key in max_min_fair_cuts(usage, excess):
        assert usage[key] * len(usage) >= bound - len(usage) ** 2
