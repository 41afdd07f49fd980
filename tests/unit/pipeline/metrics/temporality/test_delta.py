"""The rules of deltas one by one: firsts, resets, start times, stale markers, memory."""

from __future__ import annotations

import math
import struct

import pytest

from relay.codec.otlp.data_points import (
    STALE,
    Buckets,
    Exemplar,
    ExponentialPoint,
    HistogramPoint,
    NumberPoint,
    SummaryPoint,
)
from relay.pipeline.metrics.temporality.delta import DeltaStore, State

T0 = 1_700_000_000_000_000_000


def number(at: int, value: float, start: int = 0) -> NumberPoint:
    """A cumulative point ``at`` nanoseconds after T0."""
    return NumberPoint(T0 + at, struct.pack("<d", value), T0 + start if start else 0)


def histogram(at: int, *counts: int, total: float | None = 1.0) -> HistogramPoint:
    """A cumulative histogram with bounds 0, 1, …"""
    bounds = tuple(float(n) for n in range(len(counts) - 1))
    packed = None if total is None else struct.pack("<d", total)
    return HistogramPoint(T0 + at, sum(counts), packed, bounds, counts)


def stream(store: DeltaStore | None = None, name: str = "x", kind: str = "sum") -> State:
    """One stream's state."""
    state = (store or DeltaStore()).delta("", name, kind)  # type: ignore[arg-type]
    assert state is not None
    return state


def delta_outcomes(state: State) -> dict[str, int]:
    """What became of the points, without zeros."""
    return {name: count for name, count in state.store.outcomes.items() if count}


def test_only_what_has_a_temporality_has_a_delta() -> None:
    assert DeltaStore().delta("", "x", "gauge") is None
    assert DeltaStore().delta("", "x", "summary") is None


def test_equal_streams_share_their_state() -> None:
    store = DeltaStore()
    assert store.delta("", ("a", 1), "sum") is store.delta("", ("a", 1), "sum")
    assert store.delta("", ("a", 1), "sum") is not store.delta("", ("a", 1), "histogram")


def test_what_was_exported_before_is_not_exported_again() -> None:
    """A start before we began to watch: a relay before us may have sent all of it."""
    state = stream(DeltaStore(since_ns=T0))
    assert state.step(number(10, 7.0, -5)) is None
    assert delta_outcomes(state) == {"first": 1}


def test_a_stream_that_began_under_our_eyes_is_exported_whole() -> None:
    state = stream(DeltaStore(since_ns=T0))
    assert state.step(number(10, 7.0, 5)) == number(10, 7.0, 5)
    assert state.step(number(20, 9.0, 5)) == number(20, 2.0, 10)


def test_a_new_start_is_a_reset_though_the_value_is_higher() -> None:
    state = stream()
    state.step(number(10, 7.0))
    assert state.step(number(30, 9.0, 20)) == number(30, 9.0, 20)
    assert state.step(number(40, 10.0, 20)) == number(40, 1.0, 30)
    assert delta_outcomes(state) == {"first": 1, "reset": 1, "made": 1}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_swallowed(value: float) -> None:
    state = stream()
    state.step(number(10, 7.0))
    assert state.step(number(20, value)) is None
    assert state.step(number(30, 8.0)) == number(30, 1.0, 10)


def test_a_stale_marker_ends_nothing() -> None:
    state = stream()
    state.step(number(10, 7.0))
    assert state.step(NumberPoint(T0 + 20, STALE)) is None
    assert state.step(number(30, 9.0)) == number(30, 2.0, 10)
    state = stream(kind="histogram")
    state.step(histogram(10, 1, 1))
    assert state.step(HistogramPoint(T0 + 20, 0, None, (), (), stale=True)) is None
    assert delta_outcomes(state) == {"first": 1, "stale": 1}


def test_a_histogram_that_lost_observations_began_anew() -> None:
    state = stream(kind="histogram")
    state.step(histogram(10, 5, 5))
    made = state.step(histogram(20, 4, 9))
    assert isinstance(made, HistogramPoint)
    assert (made.counts, made.count, made.start_ns) == ((4, 9), 13, T0 + 10)
    assert delta_outcomes(state) == {"first": 1, "reset": 1}


def test_a_histogram_without_buckets_or_sum_has_its_count() -> None:
    state = stream(kind="histogram")
    state.step(HistogramPoint(T0, 5, None, (), ()))
    made = state.step(HistogramPoint(T0 + 1, 8, None, (), ()))
    assert made == HistogramPoint(T0 + 1, 3, None, (), (), start_ns=T0)


def test_sums_may_go_down() -> None:
    state = stream(kind="histogram")
    state.step(histogram(10, 1, 1, total=5.0))
    made = state.step(histogram(20, 2, 1, total=2.0))
    assert isinstance(made, HistogramPoint)
    assert made.sum == struct.pack("<d", -3.0)


def test_exemplars_go_with_their_delta_and_are_not_kept() -> None:
    state = stream()
    exemplar = Exemplar(T0, 1.0)
    state.step(NumberPoint(T0, struct.pack("<d", 1.0), 0, (exemplar,)))
    assert state.last == number(0, 1.0)
    made = state.step(NumberPoint(T0 + 1, struct.pack("<d", 3.0), 0, (exemplar,)))
    assert isinstance(made, NumberPoint)
    assert made.exemplars == (exemplar,)


def test_another_zero_threshold_begins_anew() -> None:
    state = stream(kind="exponential_histogram")
    state.step(ExponentialPoint(T0, 3, None, 0, 1, 0.0, Buckets(0, (2,))))
    assert state.step(ExponentialPoint(T0 + 1, 4, None, 0, 2, 0.5, Buckets(0, (2,)))) is None
    made = state.step(ExponentialPoint(T0 + 2, 6, None, 0, 3, 0.5, Buckets(0, (3,))))
    assert made == ExponentialPoint(T0 + 2, 2, None, 0, 1, 0.5, Buckets(0, (1,)), start_ns=T0 + 1)
    assert delta_outcomes(state) == {"first": 1, "layout": 1, "made": 1}


def test_an_exponential_histogram_that_lost_a_bucket_began_anew() -> None:
    state = stream(kind="exponential_histogram")
    state.step(ExponentialPoint(T0, 2, None, 0, positive=Buckets(0, (2,))))
    far = ExponentialPoint(T0 + 1, 3, None, 0, positive=Buckets(2_000_000, (3,)))
    made = state.step(far)
    assert isinstance(made, ExponentialPoint)
    assert (made.count, made.start_ns) == (3, T0)


def test_summaries_pass() -> None:
    point = SummaryPoint(T0, 1, bytes(8), ())
    assert stream(kind="sum").step(point) is point


def test_what_is_not_fed_is_forgotten_and_begins_anew() -> None:
    store = DeltaStore(age_max_s=60.0)
    quiet, busy = stream(store, "quiet"), stream(store, "busy")
    for state in (quiet, busy):
        state.step(number(10, 1.0))
    for tick in (0.0, 61.0, 122.0):
        store.tick(tick)
        busy.step(number(int(tick) + 20, 2.0 + tick))
    assert store.statistics().states == 1
    assert quiet.step(number(1000, 5.0)) is None
    assert busy.step(number(1000, 500.0)) is not None


def test_the_number_of_states_is_bounded() -> None:
    store = DeltaStore(states_max=100)
    for n in range(1000):
        stream(store, f"s{n}").step(number(10, 1.0))
        assert store.statistics().states <= 101
    assert store.statistics().forgotten >= 899


def test_people_can_read_it() -> None:
    store = DeltaStore()
    assert repr(store) == "<DeltaStore 0 states>"
    assert repr(stream(store)).startswith("<State ")
