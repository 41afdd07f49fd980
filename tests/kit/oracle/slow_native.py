"""Native histograms, derived slowly and without the relay's own code.

The arithmetic is written down a second time from our digest of the specifications (section B,
"native integer counter" and "native -53", vectors 17 to 22), over exact fractions of the official
message and bucket by bucket. Nothing of ``relay.pipeline`` or ``relay.codec`` may be imported here.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

from tests.kit.oracle.any_points import bits

STALE_BITS = 0x7FF0000000000002
TIME_MS_MAX = (2**63 - 1) // 1_000_000
DENSE_MAX = 16_384
"""How far apart the relay lets the first and the last bucket of a side be."""


class SlowHistogram(NamedTuple):
    """What one native histogram must become; ``data`` is that of an ``AnyPoint``.

    ``reason`` is why it is dropped, "" where it is not. ``kind`` is "" for a stale marker.
    """

    reason: str = ""
    kind: str = ""
    time_ns: int = 0
    start_ns: int = 0
    flags: int = 0
    data: Any = None


def derive(histogram: Any, *, created_ms: int = 0) -> SlowHistogram:
    """What a Histogram message, of either version, must become."""
    if not 1 <= histogram.timestamp <= TIME_MS_MAX:
        return SlowHistogram("timestamp")
    time_ns = histogram.timestamp * 1_000_000
    if bits(histogram.sum) == STALE_BITS:
        return SlowHistogram("", "", time_ns, 0, 1)
    if histogram.reset_hint == 3:
        return SlowHistogram("histogram_gauge")
    floats = histogram.WhichOneof("count") == "count_float"
    floats = floats or histogram.WhichOneof("zero_count") == "zero_count_float"
    if floats or histogram.positive_counts or histogram.negative_counts:
        return SlowHistogram("histogram_float")
    start_ms = getattr(histogram, "start_timestamp", 0) or created_ms
    start_ns = start_ms * 1_000_000 if 0 < start_ms <= histogram.timestamp else 0
    if histogram.schema == -53:
        reason, data = _custom(histogram)
        return SlowHistogram(reason, "histogram", time_ns, start_ns, 0, data)
    if not -4 <= histogram.schema <= 8:
        return SlowHistogram("histogram_schema")
    reason, data = _exponential(histogram)
    return SlowHistogram(reason, "exponential_histogram", time_ns, start_ns, 0, data)


def _exponential(histogram: Any) -> tuple[str, Any]:
    sides = []
    total = histogram.zero_count_int
    for spans, deltas in (
        (histogram.positive_spans, histogram.positive_deltas),
        (histogram.negative_spans, histogram.negative_deltas),
    ):
        reason, buckets = _walk(spans, deltas)
        if reason:
            return reason, None
        total += sum(buckets.values())
        sides.append(buckets)
    if not _count_agrees(histogram, total) or not histogram.zero_threshold >= 0:
        return "histogram_invalid", None
    kept = [
        {index: count for index, count in buckets.items() if not _overflows(index, histogram)}
        for buckets in sides
    ]
    for buckets in kept:
        if buckets and max(buckets) - min(buckets) >= DENSE_MAX:
            return "histogram_too_large", None
        if any(not -(2**31) <= index - 1 < 2**31 for index in buckets):
            return "histogram_too_large", None
    count = histogram.zero_count_int + sum(sum(buckets.values()) for buckets in kept)
    positive, negative = (
        tuple((index - 1, count) for index, count in sorted(buckets.items()) if count)
        for buckets in kept
    )
    return "", (
        count,
        bits(histogram.sum),
        histogram.schema,
        histogram.zero_count_int,
        histogram.zero_threshold,
        positive,
        negative,
    )


def _overflows(index: int, histogram: Any) -> bool:
    """Whether a bucket begins at or above the largest power of two that a double reaches.

    Bucket i begins at base**(i - 1), with base = 2**(2**-schema).
    """
    return Fraction(index - 1) * Fraction(2) ** -histogram.schema >= 1024


def _custom(histogram: Any) -> tuple[str, Any]:
    bounds = tuple(histogram.custom_values)
    if histogram.negative_spans or histogram.negative_deltas or histogram.zero_count_int:
        return "histogram_invalid", None
    if any(math.isnan(bound) or math.isinf(bound) for bound in bounds):
        return "histogram_invalid", None
    if sorted(set(bounds)) != list(bounds):
        return "histogram_invalid", None
    reason, buckets = _walk(histogram.positive_spans, histogram.positive_deltas)
    if reason:
        return reason, None
    if any(not 0 <= index <= len(bounds) for index in buckets):
        return "histogram_invalid", None
    counts = tuple(buckets.get(index, 0) for index in range(len(bounds) + 1))
    if not _count_agrees(histogram, sum(counts)):
        return "histogram_invalid", None
    return "", (sum(counts), bits(histogram.sum), bounds, counts)


def _count_agrees(histogram: Any, total: int) -> bool:
    """NaN observations are counted and are in no bucket; they make the sum NaN."""
    if max(total, histogram.count_int) >= 2**63:
        return False
    if math.isnan(histogram.sum):
        return bool(total <= histogram.count_int)
    return bool(total == histogram.count_int)


def _walk(spans: Any, deltas: Any) -> tuple[str, dict[int, int]]:
    """Buckets by Prometheus' index."""
    lengths = sum(span.length for span in spans)
    if lengths != len(deltas):
        return "histogram_invalid", {}
    buckets = {}
    index = count = 0
    values = iter(deltas)
    for number, span in enumerate(spans):
        if number and span.offset < 0:
            return "histogram_invalid", {}
        index += span.offset
        for _ in range(span.length):
            count += next(values)
            if count < 0:
                return "histogram_invalid", {}
            buckets[index] = count
            index += 1
    return "", buckets
