"""Delays and decisions of relay/sink/retry/backoff.py."""

from __future__ import annotations

import math
import random

import pytest

from relay.config.exporter.types import RetrySettings
from relay.sink.retry.backoff import (
    BACKOFF_S_MAX,
    RETRY_AFTER_S_MAX,
    Expire,
    GiveUp,
    TryAgain,
    decide,
    doubled_s,
    next_delay_s,
)


def test_delays_double_within_their_upper_half() -> None:
    rng = random.Random(1)
    for attempts, full in ((1, 2.0), (2, 4.0), (3, 8.0), (5, 32.0), (6, 60.0), (10_000, 60.0)):
        delays = [next_delay_s(attempts, backoff_s=2.0, rng=rng) for _ in range(200)]
        assert full / 2 <= min(delays) < full * 0.6
        assert full * 0.9 < max(delays) <= full


def test_a_pause_doubles_up_to_its_limit() -> None:
    pauses = [doubled_s(1.0, failures, 30.0) for failures in (1, 2, 3, 5, 6, 100_000)]
    assert pauses == [1.0, 2.0, 4.0, 16.0, 30.0, 30.0]


def test_a_longer_backoff_is_its_own_ceiling() -> None:
    rng = random.Random(1)
    delay = next_delay_s(9, backoff_s=300.0, rng=rng)
    assert 150.0 <= delay <= 300.0


@pytest.mark.parametrize(
    ("retry_after_s", "low", "high"),
    [
        (None, 1.0, 2.0),
        (0.0, 1.0, 2.0),
        (30.0, 30.0, 30.0),
        (10 * 365 * 86400.0, RETRY_AFTER_S_MAX, RETRY_AFTER_S_MAX),
        (math.inf, RETRY_AFTER_S_MAX, RETRY_AFTER_S_MAX),
    ],
)
def test_retry_after_and_backoff_whichever_is_longer(
    retry_after_s: float | None, low: float, high: float
) -> None:
    rng = random.Random(1)
    assert low <= next_delay_s(1, backoff_s=2.0, rng=rng, retry_after_s=retry_after_s) <= high


def test_attempts_max_counts_retries_after_the_first_attempt() -> None:
    rng = random.Random(1)
    retry = RetrySettings(attempts_max=3)
    decisions = [decide(retry, attempts=n, age_left_s=99.0, rng=rng) for n in (1, 2, 3, 4)]
    assert [type(each) for each in decisions] == [TryAgain, TryAgain, TryAgain, GiveUp]
    assert decisions[-1] == GiveUp("attempts_exhausted")


def test_without_a_maximum_only_age_ends_it() -> None:
    rng = random.Random(1)
    decision = decide(RetrySettings(), attempts=10**6, age_left_s=0.1, rng=rng)
    assert isinstance(decision, TryAgain)
    assert decision.delay_s <= BACKOFF_S_MAX
    assert decide(RetrySettings(), attempts=1, age_left_s=0.0, rng=rng) == Expire()


def test_disabled() -> None:
    decision = decide(
        RetrySettings(enabled=False), attempts=1, age_left_s=99.0, rng=random.Random(1)
    )
    assert decision == GiveUp("retry_disabled")
