"""Native histograms of any shape, by both versions, against the slow derivation.

The messages are built by the official classes, so are the points that come out.
"""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from relay.codec.otlp.data_points import HistogramPoint, encode_attributes, encode_point
from relay.codec.otlp.groups import MetricGroup, ResourceGroup, ScopeGroup
from relay.codec.otlp.metrics import MetricIdentity
from relay.codec.otlp.point_buffer import PointBuffer
from relay.codec.remote_write.native_histogram import HistogramFault, buckets_of, parse_histogram
from relay.runtime.errors import DecodeError
from tests.kit.oracle.any_points import read_points
from tests.kit.oracle.slow_native import derive
from tests.kit.remote_write.prompb import Histogram, HistogramV2

T0_MS = 1_700_000_000_000

SUMS = st.one_of(
    st.floats(width=64),
    st.sampled_from([float("nan"), 0.0, -0.0, float("inf")]),
)
TIMES = st.one_of(
    st.integers(T0_MS, T0_MS + 9), st.sampled_from([0, -1, 1, 2**62, (2**63 - 1) // 10**6])
)
SPANS = st.lists(
    st.tuples(
        st.one_of(st.integers(-6, 6), st.integers(-6, 6), st.integers(-(2**31), 2**31 - 1)),
        st.integers(0, 4),
    ),
    max_size=4,
)


@st.composite
def histograms(draw: st.DrawFn) -> dict[str, Any]:
    """A histogram's parts; mostly consistent, sometimes contradictory."""
    schema = draw(st.sampled_from([-4, -1, 0, 0, 3, 8, 8, -53, -53, 9, -5, 127]))
    parts: dict[str, Any] = {"schema": schema, "timestamp": draw(TIMES), "sum": draw(SUMS)}
    total = 0
    if schema != -53 or not draw(st.integers(0, 9)):
        parts["zero_count_int"] = total = draw(st.integers(0, 9))
        parts["zero_threshold"] = draw(st.sampled_from([0.0, 1e-128, 0.5, -1.0, float("nan")]))
    for side in ("positive", "negative"):
        if side == "negative" and schema == -53 and draw(st.integers(0, 9)):
            continue
        spans = draw(SPANS)
        if schema == -53:
            spans = [(abs(offset) % 4, length) for offset, length in spans]
        counts = [draw(st.integers(0, 9)) for _, length in spans for _ in range(length)]
        deltas = [count - before for count, before in zip(counts, [0, *counts], strict=False)]
        if not draw(st.integers(0, 14)):
            deltas = [*deltas, -1]
        total += sum(counts)
        parts[f"{side}_spans"], parts[f"{side}_deltas"] = spans, deltas
    wrong = draw(st.sampled_from([0] * 8 + [1, -1, 2**63]))
    parts["count_int"] = max(0, total + wrong)
    if schema == -53:
        bounds = draw(st.lists(st.integers(-9, 9), max_size=12, unique=True))
        parts["custom_values"] = sorted(map(float, bounds))
        if not draw(st.integers(0, 9)):
            parts["custom_values"].append(draw(st.sampled_from([-9.0, float("inf")])))
    if not draw(st.integers(0, 9)):
        parts["reset_hint"] = draw(st.integers(0, 3))
    if not draw(st.integers(0, 14)):
        del parts["count_int"]
        parts["count_float"] = 1.0
    return parts


def build(parts: dict[str, Any], histogram: Any) -> Any:
    """The message of either version."""
    for field, value in parts.items():
        if field.endswith("_spans"):
            for offset, length in value:
                getattr(histogram, field).add(offset=offset, length=length)
        elif isinstance(value, list):
            getattr(histogram, field).extend(value)
        else:
            setattr(histogram, field, value)
    return histogram


def exported(encoded: bytes) -> tuple[str, Any]:
    """The reason why it is dropped, or the point as the official classes read it."""
    try:
        point = parse_histogram(encoded, 0, len(encoded))
    except HistogramFault as fault:
        return fault.reason, None
    assert buckets_of(point) <= 2 * 16_384 + 1
    explicit = isinstance(point, HistogramPoint)
    kind = "histogram" if explicit else "exponential_histogram"
    group = MetricGroup(
        ScopeGroup(ResourceGroup([("a", "b")]), "s"),
        MetricIdentity("m", kind),  # type: ignore[arg-type]
    )
    point_buffer = PointBuffer()
    point_buffer.add_finished(
        encode_point(encode_attributes([("le", "x")], group.identity.kind), point)
    )
    point_buffer.close_run(group)
    (read,) = read_points(point_buffer.encode())
    assert read.attributes == (("le", "x"),)
    return "", read


@example({"schema": 8, "timestamp": T0_MS, "sum": 1.0, "count_int": 0})
@example(
    {
        "schema": 8,
        "timestamp": T0_MS,
        "sum": 1.0,
        "count_int": 2,
        "positive_spans": [(1, 1), (16_382, 1)],
        "positive_deltas": [1, 0],
    }
)
@example(
    {
        "schema": 8,
        "timestamp": T0_MS,
        "sum": 1.0,
        "count_int": 2,
        "positive_spans": [(1, 1), (16_383, 1)],
        "positive_deltas": [1, 0],
    }
)
@given(histograms())
def test_any_histogram_becomes_what_the_slow_derivation_says(parts: dict[str, Any]) -> None:
    for message in (Histogram(), HistogramV2()):
        histogram = build(parts, message)
        wanted = derive(histogram)
        reason, point = exported(histogram.SerializeToString())
        assert reason == wanted.reason
        if reason:
            continue
        assert (point.time_ns, point.flags) == (wanted.time_ns, wanted.flags)
        if not wanted.flags:
            assert point.identity.kind == wanted.kind
            assert point.data == wanted.data


@given(histograms(), st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_histogram_is_refused_or_is_valid_otlp(
    parts: dict[str, Any], at: int, byte: int
) -> None:
    encoded = bytearray(build(parts, HistogramV2()).SerializeToString())
    encoded[at % len(encoded)] = byte
    try:
        exported(bytes(encoded))
    except DecodeError:
        return


@given(histograms(), st.integers(T0_MS - 5, T0_MS + 15), st.booleans())
def test_start_times(parts: dict[str, Any], start_ms: int, of_the_series: bool) -> None:
    histogram = build(parts, HistogramV2())
    created_ms = start_ms if of_the_series else 0
    if not of_the_series:
        histogram.start_timestamp = start_ms
    wanted = derive(histogram, created_ms=created_ms)
    encoded = histogram.SerializeToString()
    try:
        point = parse_histogram(encoded, 0, len(encoded), created_ms=created_ms)
    except HistogramFault:
        assert wanted.reason
        return
    assert point.start_ns == wanted.start_ns
