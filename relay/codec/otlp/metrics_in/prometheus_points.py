"""Histograms and summaries as Prometheus has them. Pure.

As Prometheus' own OTLP receiver does it (``storage/remote/otlptranslator``): an explicit histogram
becomes a classic one, an exponential one a native one, a summary its quantiles, sum and count.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from relay.codec.otlp.data_points import (
    STALE,
    Buckets,
    Exemplar,
    ExponentialPoint,
    HistogramPoint,
    SummaryPoint,
)
from relay.codec.protobuf import field_bytes, varint
from relay.codec.remote_write.raw_series import RawExemplar
from relay.codec.remote_write.v1 import label_key

SCALE_MIN: Final = -4
SCALE_MAX: Final = 8
"""Range of schemas of native histograms."""
ZERO_THRESHOLD: Final = 1e-128
"""Of native histograms whose point has none, as Prometheus sets it."""
EXEMPLAR_CHARS_MAX: Final = 128
"""Most characters of an exemplar's labels (OpenMetrics 1.0, "Exemplars")."""

_NS_PER_MS: Final = 1_000_000
_GAP_MAX: Final = 2
"""Empty buckets in a row that are written out: a new span takes more bytes."""
_DOUBLE: Final = struct.Struct("<d")
_BOUNDS_MAX: Final = 4_096


class FamilyMember(NamedTuple):
    """One sample of a histogram or summary: the suffix of its name, and a label or ("", "")."""

    suffix: str
    label: tuple[str, str]
    value: bytes
    exemplars: tuple[RawExemplar, ...] = ()


def members_of(point: HistogramPoint | SummaryPoint) -> Iterator[FamilyMember]:
    """Yield the samples of a classic histogram or of a summary."""
    none = ("", "")
    if isinstance(point, SummaryPoint):
        yield FamilyMember("_sum", none, STALE if point.stale else point.sum)
        yield FamilyMember("_count", none, _count(point.count, point.stale))
        for quantile, value in point.quantiles:
            bits = STALE if point.stale else _DOUBLE.pack(value)
            yield FamilyMember("", ("quantile", bound_text(quantile)), bits)
        return
    if point.sum is not None:
        yield FamilyMember("_sum", none, STALE if point.stale else point.sum)
    yield FamilyMember("_count", none, _count(point.count, point.stale))
    exemplars = _by_bucket(point.exemplars, point.bounds)
    total = 0
    for bound, count, own in zip(point.bounds, point.counts, exemplars, strict=False):
        total += count
        yield FamilyMember("_bucket", ("le", bound_text(bound)), _count(total, point.stale), own)
    top = _count(point.count, point.stale)
    yield FamilyMember("_bucket", ("le", "+Inf"), top, exemplars[-1])


def native_histogram(point: ExponentialPoint) -> bytes | None:
    """Return a Histogram message of remote write 2.0; None for a scale that it has no schema for.

    Buckets of a finer scale than there is a schema for are merged.
    """
    if point.scale < SCALE_MIN:
        return None
    down = max(0, point.scale - SCALE_MAX)
    total = STALE if point.stale else point.sum or bytes(8)
    parts = [
        b"\x08" + varint(point.count),
        b"\x19" + total,
        b"\x20" + varint(_zigzag(point.scale - down)),
        b"\x29" + _DOUBLE.pack(point.zero_threshold or ZERO_THRESHOLD),
        b"\x30" + varint(point.zero_count),
    ]
    for buckets, spans_tag, deltas_tag in (
        (point.negative, b"\x42", b"\x4a"),
        (point.positive, b"\x5a", b"\x62"),
    ):
        spans, deltas = _layout(buckets, down)
        parts += [
            field_bytes(spans_tag, b"\x08" + varint(_zigzag(offset)) + b"\x10" + varint(length))
            for offset, length in spans
        ]
        if deltas:
            packed = b"".join(varint(_zigzag(delta)) for delta in deltas)
            parts.append(field_bytes(deltas_tag, packed))
    parts.append(b"\x78" + varint(point.time_ns // _NS_PER_MS))
    if 0 < point.start_ns <= point.time_ns:
        parts.append(b"\x88\x01" + varint(point.start_ns // _NS_PER_MS))
    return b"".join(parts)


def raw_exemplar(exemplar: Exemplar) -> RawExemplar:
    """Return an exemplar as remote write has it.

    Attributes are left out where the labels would be longer than OpenMetrics allows.
    """
    labels: dict[str, str] = {}
    if exemplar.trace_id:
        labels["trace_id"] = exemplar.trace_id.hex()
    if exemplar.span_id:
        labels["span_id"] = exemplar.span_id.hex()
    rest = {key: value for key, value in exemplar.attributes if key and value and key not in labels}
    if sum(len(name) + len(value) for name, value in {**rest, **labels}.items()) <= (
        EXEMPLAR_CHARS_MAX
    ):
        labels |= rest
    time_ms = exemplar.time_ns // _NS_PER_MS
    return RawExemplar(label_key(sorted(labels.items())), _DOUBLE.pack(exemplar.value), time_ms)


@lru_cache(maxsize=_BOUNDS_MAX)
def bound_text(bound: float) -> str:
    """Return a bound as Prometheus writes it in a label: the shortest decimal, no exponent."""
    if not math.isfinite(bound):
        return "NaN" if math.isnan(bound) else "+Inf" if bound > 0 else "-Inf"
    text = format(Decimal(repr(bound)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _count(count: int, stale: bool) -> bytes:
    return STALE if stale else _DOUBLE.pack(count)


def _by_bucket(
    exemplars: Sequence[Exemplar], bounds: Sequence[float]
) -> list[tuple[RawExemplar, ...]]:
    """Return the exemplars of each bucket, by time."""
    found: list[list[RawExemplar]] = [[] for _ in range(len(bounds) + 1)]
    for one in sorted(exemplars, key=lambda exemplar: exemplar.time_ns):
        found[bisect_left(bounds, one.value)].append(raw_exemplar(one))
    return [tuple(each) for each in found]


def _layout(buckets: Buckets, down: int) -> tuple[list[tuple[int, int]], list[int]]:
    """Return spans (offset, length) and deltas of buckets, ``down`` schemas coarser."""
    counts: dict[int, int] = {}
    for at, count in enumerate(buckets.counts, buckets.offset):
        if count:
            # Bucket n of OTLP is (base^n, base^(n+1)], bucket n of Prometheus (base^(n-1), base^n].
            index = (at >> down) + 1
            counts[index] = counts.get(index, 0) + count
    spans: list[tuple[int, int]] = []
    deltas: list[int] = []
    last = end = 0
    for index, count in counts.items():
        gap = index - end
        if spans and gap <= _GAP_MAX:
            deltas += [-last, *([0] * (gap - 1))] if gap else []
            last = 0 if gap else last
            spans[-1] = spans[-1][0], spans[-1][1] + gap + 1
        else:
            spans.append((gap, 1))
        deltas.append(count - last)
        last = count
        end = index + 1
    return spans, deltas


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1
