"""What is worked out once for a family's members gives the same points as looking with care."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codec.otlp.data_points import (
    STALE,
    HistogramPoint,
    SummaryPoint,
    encode_point,
    wrap_point,
)
from relay.pipeline.metrics.histograms.build_point import (
    Slots,
    classic_histogram,
    classic_layout,
    summary,
    summary_layout,
)
from relay.pipeline.metrics.histograms.point_layout import ClassicLayout, SummaryLayout

ATTRIBUTES = b"\x4a\x03abc"
ODD = (-1.0, -0.0, 0.5, math.nan, math.inf, -math.inf, 2.0**64, 2.0**64 - 2048, 2.0**53 + 2, 1e300)


def double(value: float) -> bytes:
    """Its eight bytes."""
    return struct.pack("<d", value)


STEPS = st.lists(st.integers(0, 1 << 50), min_size=1, max_size=8)
BOUNDS = st.lists(
    st.one_of(st.floats(allow_nan=True), st.just(math.inf), st.sampled_from((0.0, 1.0, -0.0))),
    max_size=8,
)


@given(STEPS, BOUNDS, st.booleans(), st.booleans(), st.sampled_from((0, 5)), st.data())
def test_a_layout_says_what_care_says_or_nothing(
    steps: list[int],
    bounds: list[float],
    has_count: bool,
    has_sum: bool,
    start_ns: int,
    data: st.DataObject,
) -> None:
    rising = [float(sum(steps[: n + 1])) for n in range(len(steps))]
    ranked = sorted(bounds)
    values = [double(rising[min(n, len(rising) - 1)]) for n in range(len(ranked))]
    count = values[-1] if values and ranked[-1] == math.inf else double(rising[-1])
    total = double(data.draw(st.floats()))
    parts: list[bytes] = [*values, *([count] if has_count else []), *([total] if has_sum else [])]
    if data.draw(st.booleans()) and parts:
        place = data.draw(st.integers(0, len(parts) - 1))
        parts[place] = data.draw(st.sampled_from((*map(double, ODD), STALE, parts[0])))
    places = data.draw(st.permutations(range(len(parts))))
    slots: Slots = [None] * len(parts)
    for place, part in zip(places, parts, strict=True):
        slots[place] = part
    top = len(values)
    layout = classic_layout(
        places[top] if has_count else None,
        places[-1] if has_sum else None,
        list(zip(ranked, places, strict=False)),
    )
    buckets = sorted(zip(ranked, parts, strict=False), key=lambda bucket: bucket[0])
    careful = classic_histogram(
        7, parts[top] if has_count else None, parts[-1] if has_sum else None, buckets, start_ns
    )
    body = layout.encode(slots, 7, start_ns) if layout is not None else None
    if layout is None or body is None:
        is_point = isinstance(careful, HistogramPoint) and bool(careful.counts)
        assert not is_point or STALE in parts, "nothing is odd about it"
        return
    assert isinstance(careful, HistogramPoint)
    assert layout.point(slots, 7, start_ns) == careful
    assert wrap_point(ATTRIBUTES, body) == encode_point(ATTRIBUTES, careful)


VALUES = st.one_of(st.binary(min_size=8, max_size=8), st.just(STALE), st.just(double(math.nan)))
COUNTS = st.one_of(
    st.integers(0, 1 << 62).map(float).map(double), st.sampled_from((*map(double, ODD), STALE))
)
QUANTILES = st.lists(
    st.tuples(st.one_of(st.floats(0, 1), st.sampled_from((0.5, -0.0, 1.5, math.nan))), VALUES),
    max_size=5,
)


@given(st.none() | COUNTS, st.none() | VALUES, QUANTILES, st.sampled_from((0, 5)), st.data())
def test_the_layout_of_a_summary_says_what_care_says_or_nothing(
    count: bytes | None,
    total: bytes | None,
    quantiles: list[tuple[float, bytes]],
    start_ns: int,
    data: st.DataObject,
) -> None:
    parts = [part for part in (count, total) if part is not None]
    head = len(parts)
    parts += [value for _, value in quantiles]
    places = data.draw(st.permutations(range(len(parts))))
    slots: Slots = [None] * len(parts)
    for place, part in zip(places, parts, strict=True):
        slots[place] = part
    layout = summary_layout(
        places[0] if count is not None else None,
        places[head - 1] if total is not None else None,
        [(each, place) for (each, _), place in zip(quantiles, places[head:], strict=True)],
    )
    careful = summary(7, count, total, sorted(quantiles, key=lambda each: each[0]), start_ns)
    body = layout.encode(slots, 7, start_ns) if layout is not None else None
    if layout is None or body is None:
        assert not isinstance(careful, SummaryPoint) or STALE in parts, "nothing is odd about it"
        return
    assert isinstance(careful, SummaryPoint)
    point = layout.point(slots, 7, start_ns)
    assert point is not None
    encoded = encode_point(ATTRIBUTES, careful)
    assert wrap_point(ATTRIBUTES, body) == encode_point(ATTRIBUTES, point) == encoded


def test_values_that_are_not_there_are_never_read() -> None:
    """On raw memory nobody else would notice."""
    slots: Slots = [double(0.0)] * 3
    for layout in (ClassicLayout((1.0,), (0,), 3, 1, 2), ClassicLayout((1.0,), (5,), None, 1, 2)):
        with pytest.raises((AssertionError, IndexError)):
            layout.encode(slots, 1, 0)
    with pytest.raises((AssertionError, IndexError)):
        SummaryLayout((0.5,), (3,), 0, 1).encode(slots, 1, 0)
