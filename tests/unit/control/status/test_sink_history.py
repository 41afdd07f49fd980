"""The last hour and day of a sink."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.control.status.sink_history import (
    HOURS,
    MINUTES,
    SinkCounters,
    SinkHistories,
    SinkHistory,
)

START = 1_000_000 * 3600.0


def counters(delivered: int, lost: int = 0, requests: int = 0) -> SinkCounters:
    return SinkCounters(delivered, lost, requests, requests * 0.5)


def test_what_has_come_belongs_to_the_minute_of_the_note() -> None:
    history = SinkHistory(counters(100), START)
    history.note(counters(160, 1, 4), START + 30, 2.5)
    history.note(counters(220, 3, 8), START + 90, None)
    assert history.points_per_s == 1.0
    assert history.oldest_s is None
    first, second = history.minutes(START + 120)
    assert (first.at, first.delivered, first.requests, first.request_s) == (START, 60, 4, 2.0)
    assert (second.at, second.delivered) == (START + 60, 60)
    assert history.lost_in_day(START + 120) == 3


def test_the_minute_that_was_only_partly_seen_is_left_out() -> None:
    history = SinkHistory(counters(0), START + 30)
    history.note(counters(5), START + 50, None)
    history.note(counters(8), START + 70, None)
    (minute,) = history.minutes(START + 120)
    assert (minute.at, minute.delivered) == (START + 60, 3)


def test_a_counter_that_begins_anew_counts_from_zero() -> None:
    history = SinkHistory(counters(100, 50), START)
    history.note(counters(7, 2), START + 60, None)
    assert history.lost_in_day(START + 60) == 2
    assert sum(one.delivered for one in history.minutes(START + 120)) == 7


def test_minutes_without_notes_are_empty_and_old_ones_go() -> None:
    history = SinkHistory(counters(0), START)
    history.note(counters(5, 5), START + 10, None)
    found = history.minutes(START + 600)
    assert [one.delivered for one in found] == [5] + [0] * 9
    assert len(history.minutes(START + 7200)) == MINUTES - 1
    assert sum(one.delivered for one in history.minutes(START + 7200)) == 0
    assert history.lost_in_day(START + (HOURS - 1) * 3600) == 5
    assert history.lost_in_day(START + HOURS * 3600) == 0


@given(st.lists(st.tuples(st.floats(0, 500), st.integers(0, 1000)), max_size=60))
def test_the_hour_has_everything_that_was_noted_in_it(steps: list[tuple[float, int]]) -> None:
    history, now, total = SinkHistory(counters(0), START), START, 0
    expected: dict[int, int] = {}
    for passed, points in steps:
        now += passed
        total += points
        history.note(counters(total), now, None)
        minute = int(now // 60)
        expected[minute] = expected.get(minute, 0) + points
    last = int(now // 60)
    found = {int(one.at // 60): one.delivered for one in history.minutes(now)}
    for minute, points in expected.items():
        if last - MINUTES < minute < last:
            assert found[minute] == points


def test_a_clock_that_goes_back_harms_nothing() -> None:
    history = SinkHistory(counters(0), START)
    history.note(counters(5), START - 100_000, None)
    history.note(counters(9), START + 1, None)
    assert sum(one.delivered for one in history.minutes(START + 60)) == 9


def test_a_history_is_small() -> None:
    history = SinkHistory(counters(0), START)
    parts = (getattr(history, name) for name in SinkHistory.__slots__)
    assert sys.getsizeof(history) + sum(map(sys.getsizeof, parts)) < 2400


def now_of(histories: SinkHistories) -> tuple[object, ...]:
    now = histories.now("a", START + 10)
    assert now is not None
    return now.per_s, now.oldest_s, now.lost_in_day


def test_points_records_and_spans_are_not_added_up() -> None:
    histories = SinkHistories()
    names = ("one", "two", "one/logs", "two/traces")
    histories._histories["a"] = {name: SinkHistory(counters(0), START) for name in names}
    for number, name in enumerate(names):
        noted = counters(10 * 10**number, number)
        histories.of("a")[name].note(noted, START + 10, float(number))
    per_s = {"metrics": pytest.approx(11.0), "logs": pytest.approx(100), "traces": 1000.0}
    assert now_of(histories) == (per_s, 3.0, {"metrics": 1, "logs": 2, "traces": 3})


def test_of_exporters_that_are_gone_nothing_is_kept() -> None:
    histories = SinkHistories()
    assert histories.now("a", START) is None
    histories.note("a", {}, START)
    assert histories.of("a") == {}
    histories._histories["a"] = {"one": SinkHistory(counters(0), START)}
    histories.of("a")["one"].note(counters(20, 2), START + 10, 4.0)
    assert now_of(histories) == ({"metrics": pytest.approx(2.0)}, 4.0, {"metrics": 2})
    histories.forget_all_but(["b"])
    assert histories.now("a", START) is None
