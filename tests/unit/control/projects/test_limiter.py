"""Shares of series by samples a minute, and the queues of a project."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.control.projects.limiter import SHARE_MIN, RateLimiter, next_share
from relay.pipeline.routing.series_tally import SHARE_ALL

LIMIT = 6_000


class Applied:
    """A limiter of one project, and what it set."""

    def __init__(self) -> None:
        self.shares: list[int] = []
        limits = {"acme": LIMIT}
        self.limiter = RateLimiter(
            "maxSamplesPerMinute",
            "series",
            limits.get,
            lambda _, share: self.shares.append(share),
        )


@given(st.integers(1, 10**9))
def test_a_steady_demand_ends_within_the_limit_and_stays_there(demand: int) -> None:
    share, taken = SHARE_ALL, float(demand)
    for _ in range(40):
        share = next_share(share, per_minute=taken, limit=LIMIT)
        taken = demand * share / SHARE_ALL
    assert taken <= LIMIT or share == SHARE_MIN
    if demand <= LIMIT:
        assert share == SHARE_ALL
    elif share != SHARE_MIN:
        assert taken >= 0.7 * LIMIT
    assert next_share(share, per_minute=taken, limit=LIMIT) == share


def test_too_many_samples_lower_the_share_and_fewer_raise_it() -> None:
    applied = Applied()
    applied.limiter.observe("acme", 0, 0.0)
    applied.limiter.observe("acme", 24_000, 120.0)
    assert round(applied.limiter.share("acme"), 6) == 0.475
    applied.limiter.observe("acme", 24_000 + 5_700, 180.0)
    assert len(applied.shares) == 1
    applied.limiter.observe("acme", 29_700 + 600, 240.0)
    applied.limiter.observe("acme", 30_300 + 600, 300.0)
    assert applied.limiter.share("acme") == 1.0
    assert applied.shares[-1] == SHARE_ALL


def test_projects_without_the_limit_and_counters_that_fall_are_left_alone() -> None:
    applied = Applied()
    for now, samples in ((0.0, 0), (60.0, 10**9)):
        applied.limiter.observe("other", samples, now)
    applied.limiter.observe("acme", 10**9, 0.0)
    applied.limiter.observe("acme", 5, 60.0)
    assert applied.shares == []
    applied.limiter.observe("acme", 5 + LIMIT + 100, 120.0)
    assert applied.shares
    applied.limiter.forget("acme")
    assert applied.limiter.share("acme") == 1.0
