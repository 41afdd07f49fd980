"""When a queue will be full, and when a sink stands still."""

from __future__ import annotations

import pytest

from relay.sink.reporting.forecast import RATE_S, STALLED_S, Forecast, Forecaster


def watched(growth: float, seconds: int, *, bytes_max: int = 1_000_000, moved: int = 0) -> Forecast:
    forecaster = Forecaster()
    for second in range(seconds):
        forecaster.observe(
            float(second), bytes_held=int(growth * second), bytes_max=bytes_max, moved=moved
        )
    return forecaster


def test_a_queue_that_grows_steadily_says_when_it_is_full() -> None:
    forecaster = watched(1000.0, int(5 * RATE_S))
    left_s = (1_000_000 - 1000 * (5 * RATE_S - 1)) / 1000
    assert forecaster.forecast(300.0).full_in_s == pytest.approx(left_s, rel=0.02)


def test_a_single_batch_is_no_alarm() -> None:
    forecaster = Forecaster()
    for second in range(100):
        forecaster.observe(
            float(second), bytes_held=10_000 * (second % 10 == 5), bytes_max=1_000_000, moved=second
        )
    full_in_s = forecaster.forecast(100.0).full_in_s
    assert full_in_s is None or full_in_s > 3600


def test_an_idle_or_shrinking_queue_is_never_full() -> None:
    assert Forecaster().forecast(5.0).full_in_s is None
    forecaster = watched(1000.0, 60)
    for second in range(60, 600):
        forecaster.observe(float(second), bytes_held=0, bytes_max=1_000_000, moved=second)
    assert forecaster.forecast(600.0).full_in_s is None


def test_a_full_queue_is_full_though_it_cannot_grow() -> None:
    forecaster = watched(0.0, 10)
    for second in range(10, 400):
        forecaster.observe(float(second), bytes_held=990_000, bytes_max=1_000_000, moved=0)
    assert forecaster.forecast(400.0).full_in_s == 0.0


def test_the_watchdog_barks_where_data_waits_and_nothing_moves() -> None:
    forecaster = Forecaster()
    moved = 0
    for second in range(int(STALLED_S)):
        moved += second < 10
        forecaster.observe(float(second), bytes_held=5, bytes_max=100, moved=moved)
    assert not forecaster.forecast(STALLED_S).stalled
    assert forecaster.forecast(STALLED_S + 10).stalled
    forecaster.observe(STALLED_S + 11, bytes_held=5, bytes_max=100, moved=moved + 1)
    assert forecaster.forecast(STALLED_S + 11).stalled_s == 0.0
    forecaster.observe(STALLED_S + 12, bytes_held=0, bytes_max=100, moved=moved + 1)
    assert forecaster.forecast(10 * STALLED_S).stalled_s == 0.0
    assert "bytes a second" in repr(forecaster)
