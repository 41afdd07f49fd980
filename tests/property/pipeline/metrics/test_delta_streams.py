"""Deltas added up again are the increments that went in, whatever happened on the way."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.codec.otlp.data_points import (
    STALE,
    Buckets,
    ExponentialPoint,
    HistogramPoint,
    NumberPoint,
    Point,
)
from relay.pipeline.metrics.temporality.delta import DeltaStore, State
from relay.pipeline.metrics.temporality.exponential_buckets import coarsen, subtract

SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND

INCREMENTS = st.one_of(
    st.integers(0, 10**6).map(float), st.floats(0, 1e9, allow_nan=False, width=32)
)
LIVES = st.lists(st.lists(INCREMENTS, min_size=1, max_size=8), min_size=1, max_size=4)
"""Increments of a counter's lives, a reset between two of them."""


def double(value: float) -> bytes:
    return struct.pack("<d", value)


def value_of(point: Point) -> float:
    assert isinstance(point, NumberPoint)
    number: float = struct.unpack("<d", point.value)[0]
    return number


def fresh(kind: str = "sum") -> State:
    state = DeltaStore(states_max=10).delta("", "a stream", kind)  # type: ignore[arg-type]
    assert state is not None
    return state


def lives_of_counter(lives: list[list[float]]) -> list[NumberPoint]:
    """The cumulative points of a counter that restarts between lives."""
    points = []
    time_ns = T0
    for increments in lives:
        total = 0.0
        for increment in increments:
            total += increment
            time_ns += SECOND
            points.append(NumberPoint(time_ns, double(total)))
    return points


def visible_increase(points: list[NumberPoint]) -> float:
    """What a reader of these points, in order of time, sees the counter go up by."""
    values = [value_of(point) for point in points]
    return sum(b - a if b >= a else b for a, b in pairwise(values))


@given(LIVES, st.data())
def test_numbers_add_up_over_resets_gaps_reordering_and_duplicates(
    lives: list[list[float]], data: st.DataObject
) -> None:
    points = lives_of_counter(lives)
    arriving: list[NumberPoint] = []
    for point in points:
        if data.draw(st.sampled_from(["sent", "sent", "sent", "lost"])) == "sent":
            arriving.append(point)
            if data.draw(st.booleans()) and data.draw(st.booleans()):
                arriving.append(data.draw(st.sampled_from(arriving)))  # again, or out of order
            if data.draw(st.integers(0, 9)) == 0:
                arriving.append(NumberPoint(point.time_ns + 1, STALE))
    if len(arriving) > 1 and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(arriving) - 2))
        arriving[at], arriving[at + 1] = arriving[at + 1], arriving[at]
    state = fresh()
    made = [delta for delta in map(state.step, arriving) if delta is not None]
    newest: list[NumberPoint] = []
    for point in arriving:
        if point.value != STALE and (not newest or point.time_ns > newest[-1].time_ns):
            newest.append(point)
    assert [delta.time_ns for delta in made] == [point.time_ns for point in newest[1:]]
    assert [delta.start_ns for delta in made] == [point.time_ns for point in newest[:-1]]
    assert all(value_of(delta) >= 0 for delta in made)
    total = sum(map(value_of, made))
    expected = visible_increase(newest)
    assert abs(total - expected) <= 1e-12 * max(1.0, expected) * len(points)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=200))
def test_rounding_does_not_drift(increments: list[float]) -> None:
    """Adding up the deltas in doubles, as a backend does, stays within a rounding of the stream."""
    state = fresh()
    total = added = 0.0
    for number, increment in enumerate(increments):
        total += increment
        delta = state.step(NumberPoint(T0 + number, double(total)))
        if delta is not None:
            added += value_of(delta)
        else:
            added = total
    assert abs(added - total) <= 4e-16 * total


COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=6)


@given(st.lists(COUNTS, min_size=2, max_size=8), st.data())
def test_histograms_add_up_though_bounds_come_and_go(
    rows: list[list[int]], data: st.DataObject
) -> None:
    """Rows are observations in the buckets (-inf,0], (0,1], … of a second; some are unseen."""
    width = max(len(row) for row in rows)
    cumulative = [0] * width
    state = fresh("histogram")
    seen: list[int] | None = None
    for second, row in enumerate(rows):
        for index, count in enumerate(row):
            cumulative[index] += count
        kept = [n for n in range(width - 1) if data.draw(st.integers(0, 4))]
        counts = _merged(cumulative, kept)
        point = HistogramPoint(
            T0 + second, sum(cumulative), double(0.0), tuple(map(float, kept)), counts
        )
        delta = state.step(point)
        if seen is None:
            assert delta is None
        else:
            assert isinstance(delta, HistogramPoint)
            known = [int(bound) for bound in delta.bounds]
            grown = [now - before for now, before in zip(cumulative, seen, strict=True)]
            assert delta.counts == _merged(grown, known)
            assert delta.count == sum(delta.counts) == sum(grown)
            assert (delta.start_ns, delta.time_ns) == (T0 + second - 1, T0 + second)
        seen = list(cumulative)


def _merged(counts: list[int], bounds: list[int]) -> tuple[int, ...]:
    """Counts of the buckets between these bounds only."""
    merged, start = [], 0
    for bound in bounds:
        merged.append(sum(counts[start : bound + 1]))
        start = bound + 1
    return (*merged, sum(counts[start:]))


BUCKETS = st.builds(
    Buckets, st.integers(-2000, 2000), st.lists(st.integers(0, 9), max_size=40).map(tuple)
)


def _by_index(buckets: Buckets, levels: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for index, count in enumerate(buckets.counts, buckets.offset):
        if count:
            found[index >> levels] = found.get(index >> levels, 0) + count
    return found


@given(BUCKETS, st.integers(0, 12))
def test_coarser_buckets_hold_the_same(buckets: Buckets, levels: int) -> None:
    assert _by_index(coarsen(buckets, levels), 0) == _by_index(buckets, levels)


@given(BUCKETS, BUCKETS, st.integers(0, 6), st.integers(0, 6))
def test_differences_are_those_of_each_bucket(
    old: Buckets, new: Buckets, old_levels: int, new_levels: int
) -> None:
    before, after = _by_index(old, old_levels), _by_index(new, new_levels)
    difference = subtract(new, new_levels, old, old_levels)
    if any(after.get(index, 0) < count for index, count in before.items()):
        assert difference is None
    else:
        assert difference is not None
        expected = {index: count - before.get(index, 0) for index, count in after.items()}
        assert _by_index(difference, 0) == {n: count for n, count in expected.items() if count}


@given(
    st.lists(
        st.tuples(st.dictionaries(st.integers(-40, 40), st.integers(1, 5)), st.integers(0, 3)),
        min_size=2,
        max_size=8,
    )
)
def test_exponential_histograms_add_up_over_scales(
    seconds: list[tuple[dict[int, int], int]],
) -> None:
    """Observations by bucket of scale 3; the scale that is reported only ever goes down."""
    cumulative: dict[int, int] = {}
    state = fresh("exponential_histogram")
    lost = 0
    before: dict[int, int] = {}
    for second, (observed, down) in enumerate(seconds):
        for index, count in observed.items():
            cumulative[index] = cumulative.get(index, 0) + count
        lost = max(lost, down)
        dense = coarsen(_dense(cumulative), lost)
        total = sum(cumulative.values())
        delta = state.step(
            ExponentialPoint(T0 + second, total, double(total), 3 - lost, positive=dense)
        )
        if second:
            assert isinstance(delta, ExponentialPoint)
            grown = {n: count - before.get(n, 0) for n, count in cumulative.items()}
            assert delta.scale == 3 - lost
            assert _by_index(delta.positive, 0) == _by_index(_dense(grown), lost)
            assert delta.count == sum(grown.values())
        before = dict(cumulative)


def _dense(counts: dict[int, int]) -> Buckets:
    if not counts:
        return Buckets()
    low, high = min(counts), max(counts)
    return Buckets(low, tuple(counts.get(index, 0) for index in range(low, high + 1)))
