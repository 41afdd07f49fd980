"""Decode remote write's native histograms (the same in both versions) to OTLP points.

* Integer histograms of schema -4 to 8 become exponential histograms, schema -53 (custom buckets)
  explicit ones. Gauge histograms, float histograms and other schemas have no OTLP equivalent: they
  are refused by reason, not as a sender's fault (compatibility specification, "Histograms").
* Inconsistent histograms are refused as a sender's fault, by the checks of Prometheus'
  ``model/histogram``: number of spans and buckets, negative buckets, count unequal to the buckets'
  total (larger is allowed if the sum is NaN: NaN is in no bucket).
* Spans may claim any range in ten bytes, so extents are summed before buckets are allocated.
* The exported count is that of the zero bucket and the kept buckets: OTLP wants them equal, and has
  no place for NaN observations or the overflow bucket.
* Prometheus' bucket i spans base**(i-1) to base**i, OTLP's base**i to base**(i+1): offsets differ
  by one. Fields: ``prompb/types.proto`` and ``prompb/io/prometheus/write/v2``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, Literal

from relay.codec.otlp.data_points import STALE, Buckets, ExponentialPoint, HistogramPoint
from relay.codec.protobuf import (
    BYTES,
    FIELDS_MAX,
    FIXED64,
    VARINT,
    iter_fields,
    read_varint,
    signed64,
    zigzag32,
    zigzag64,
)
from relay.runtime.errors import DecodeError, TooLargeError, WireError

BUCKETS_MAX = 16_384
"""Most buckets of one side, gaps included: schema 8 from 10**-9 to 10**9 has 15,307."""

PARTS_MAX = 4 * BUCKETS_MAX
"""Most spans, deltas and bounds of one histogram together."""

_STEP = 256  # fields between two calls of ``pause``

SCHEMA_MIN, SCHEMA_MAX, SCHEMA_CUSTOM = -4, 8, -53

HistogramReason = Literal[
    "histogram_gauge",
    "histogram_float",
    "histogram_schema",
    "histogram_invalid",
    "histogram_too_large",
    "timestamp",
]

OTLP_CANNOT_EXPRESS: Final[frozenset[HistogramReason]] = frozenset(
    ("histogram_gauge", "histogram_float", "histogram_schema", "histogram_too_large")
)
"""Reasons that are not about the histogram itself: remote write can carry it on."""

_RESET_HINT_GAUGE = 3
_COUNT_MAX = (1 << 63) - 1
"""Largest count: most readers keep OTLP's unsigned counts in a signed 64-bit integer."""
_TIME_MS_MAX = (2**63 - 1) // 1_000_000
_ZERO = bytes(8)
_SPANS_PER_BUCKET_MAX = 2  # empty spans are allowed, up to this ratio


class HistogramFault(WireError):  # noqa: N818 - a fault is data to count, the request goes on
    """Report one unusable histogram; ``reason`` is for counting."""

    def __init__(self, reason: HistogramReason, message: str) -> None:
        self.reason: HistogramReason = reason
        super().__init__(message)


class _Raw:
    """Fields of a Histogram message, unchecked."""

    __slots__ = (
        "count",
        "custom",
        "is_float",
        "negative_deltas",
        "negative_spans",
        "positive_deltas",
        "positive_spans",
        "reset_hint",
        "schema",
        "start_ms",
        "sum",
        "time_ms",
        "zero_count",
        "zero_threshold",
    )

    def __init__(self) -> None:
        self.count = self.zero_count = self.schema = self.reset_hint = 0
        self.time_ms = self.start_ms = 0
        self.sum = self.zero_threshold = _ZERO
        self.is_float = False
        self.negative_spans: list[tuple[int, int]] = []
        self.positive_spans: list[tuple[int, int]] = []
        self.negative_deltas: list[int] = []
        self.positive_deltas: list[int] = []
        self.custom: list[float] = []


def _no_pause() -> None:
    pass


def parse_histogram(
    data: bytes,
    start: int,
    stop: int,
    *,
    created_ms: int = 0,
    pause: Callable[[], None] = _no_pause,
) -> ExponentialPoint | HistogramPoint:
    """Convert the Histogram message at ``data[start:stop]`` to a point.

    ``created_ms`` is its start if it has none of its own.

    Raise DecodeError if it is not protobuf, TooLargeError for over :data:`PARTS_MAX` spans, deltas
    and bounds, and HistogramFault if it is unusable.
    """
    raw = _read(data, start, stop, pause)
    raw.start_ms = raw.start_ms or created_ms
    if not 0 < raw.time_ms <= _TIME_MS_MAX:
        raise HistogramFault("timestamp", f"a histogram at {raw.time_ms} ms")
    if raw.sum == STALE:
        # Only the sum of a stale histogram is meaningful.
        return ExponentialPoint(raw.time_ms * 1_000_000, 0, None, 0, stale=True)
    if raw.reset_hint == _RESET_HINT_GAUGE:
        raise HistogramFault("histogram_gauge", "a gauge histogram")
    if raw.is_float:
        raise HistogramFault("histogram_float", "a float histogram")
    if raw.schema == SCHEMA_CUSTOM:
        return _explicit(raw)
    if not SCHEMA_MIN <= raw.schema <= SCHEMA_MAX:
        raise HistogramFault("histogram_schema", f"schema {raw.schema}")
    return _exponential(raw)


def check_histogram(
    data: bytes, start: int, stop: int, *, pause: Callable[[], None] = _no_pause
) -> int:
    """Check the Histogram message at ``data[start:stop]`` as far as remote write is concerned.

    Return its time, ns. Raise like :func:`parse_histogram`, but not where only OTLP has no form
    for it. Buckets of floats are not checked.
    """
    raw = _read(data, start, stop, pause)
    if not 0 < raw.time_ms <= _TIME_MS_MAX:
        raise HistogramFault("timestamp", f"a histogram at {raw.time_ms} ms")
    if raw.sum != STALE and not raw.is_float:
        if raw.schema == SCHEMA_CUSTOM:
            _explicit(raw)
        else:
            _sides(raw)
    return raw.time_ms * 1_000_000


def buckets_of(point: ExponentialPoint | HistogramPoint) -> int:
    """Return the number of buckets of a point, to bound the expansion of a request."""
    if isinstance(point, HistogramPoint):
        return len(point.counts)
    return len(point.positive.counts) + len(point.negative.counts)


def _sides(raw: _Raw) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the negative and the positive buckets, by index, if they are consistent."""
    negative = _indexed(raw.negative_spans, raw.negative_deltas)
    positive = _indexed(raw.positive_spans, raw.positive_deltas)
    seen = raw.zero_count + sum(count for _, count in (*negative, *positive))
    _check_count(raw, seen)
    zero_threshold = struct.unpack("<d", raw.zero_threshold)[0]
    if not zero_threshold >= 0:
        raise HistogramFault("histogram_invalid", f"a zero threshold of {zero_threshold}")
    return negative, positive


def _exponential(raw: _Raw) -> ExponentialPoint:
    negative, positive = _sides(raw)
    # The bucket beyond the largest double is for infinities, which OTLP does not have.
    index_max = 1024 << raw.schema if raw.schema >= 0 else 1024 >> -raw.schema
    kept = [
        [(index, count) for index, count in side if index <= index_max]
        for side in (negative, positive)
    ]
    return ExponentialPoint(
        raw.time_ms * 1_000_000,
        raw.zero_count + sum(count for side in kept for _, count in side),
        raw.sum,
        raw.schema,
        raw.zero_count,
        struct.unpack("<d", raw.zero_threshold)[0],
        positive=_dense(kept[1]),
        negative=_dense(kept[0]),
        start_ns=_start_ns(raw),
    )


def _explicit(raw: _Raw) -> HistogramPoint:
    bounds = tuple(raw.custom)
    if raw.negative_spans or raw.negative_deltas or raw.zero_count:
        raise HistogramFault("histogram_invalid", "custom buckets with a zero or negative bucket")
    if not all(map(math.isfinite, bounds)) or any(a >= b for a, b in pairwise(bounds)):
        raise HistogramFault("histogram_invalid", "custom bounds must be finite and increase")
    if len(bounds) >= BUCKETS_MAX:
        raise HistogramFault("histogram_too_large", f"{len(bounds)} custom bounds")
    counts = [0] * (len(bounds) + 1)
    seen = 0
    for index, count in _indexed(raw.positive_spans, raw.positive_deltas):
        if not 0 <= index < len(counts):
            raise HistogramFault("histogram_invalid", f"bucket {index} of {len(counts)}")
        counts[index] = count
        seen += count
    _check_count(raw, seen)
    return HistogramPoint(
        raw.time_ms * 1_000_000, seen, raw.sum, bounds, tuple(counts), _start_ns(raw)
    )


def _start_ns(raw: _Raw) -> int:
    # A start after the point's own time is ignored.
    return raw.start_ms * 1_000_000 if 0 < raw.start_ms <= raw.time_ms else 0


def _check_count(raw: _Raw, seen: int) -> None:
    """Check that the buckets' total is the count, or at most the count if the sum is NaN."""
    sum_is_nan = math.isnan(struct.unpack("<d", raw.sum)[0])
    if seen > _COUNT_MAX or raw.count > _COUNT_MAX:
        raise HistogramFault("histogram_invalid", "a count over 63 bits")
    if seen != raw.count and not (sum_is_nan and seen < raw.count):
        raise HistogramFault(
            "histogram_invalid", f"count {raw.count}, but {seen} in zero bucket and buckets"
        )


def _indexed(spans: Sequence[tuple[int, int]], deltas: Sequence[int]) -> list[tuple[int, int]]:
    """Return (index, count) of every bucket, from spans (offset, length) and deltas."""
    total = sum(length for _, length in spans)
    if total != len(deltas):
        raise HistogramFault("histogram_invalid", f"spans of {total} buckets, {len(deltas)} given")
    if total > BUCKETS_MAX or len(spans) > _SPANS_PER_BUCKET_MAX * BUCKETS_MAX:
        raise HistogramFault("histogram_too_large", f"{total} buckets in {len(spans)} spans")
    buckets = []
    rest = iter(deltas)
    index = count = 0
    for number, (offset, length) in enumerate(spans):
        if number and offset < 0:
            raise HistogramFault("histogram_invalid", f"span {number} goes back by {-offset}")
        index += offset
        for _ in range(length):
            count += next(rest)
            if count < 0:
                raise HistogramFault("histogram_invalid", f"bucket {index} has {count}")
            buckets.append((index, count))
            index += 1
    return buckets


def _dense(buckets: Sequence[tuple[int, int]]) -> Buckets:
    """Fill gaps with zeros. Raise HistogramFault for an implausible extent."""
    if not buckets:
        return Buckets()
    first = buckets[0][0]
    extent = buckets[-1][0] - first + 1
    if extent > BUCKETS_MAX:
        raise HistogramFault("histogram_too_large", f"buckets over a range of {extent}")
    if not -(1 << 31) <= first - 1 <= (1 << 31) - extent:
        raise HistogramFault("histogram_too_large", f"bucket {first} is beyond 32 bits")
    counts = [0] * extent
    for index, count in buckets:
        counts[index - first] = count
    return Buckets(first - 1, tuple(counts))


def _read(data: bytes, start: int, stop: int, pause: Callable[[], None]) -> _Raw:
    raw = _Raw()
    left = _STEP
    fields = iter_fields(data, start, stop, fields_max=PARTS_MAX)
    for number, wire_type, _, payload, end in fields:
        left -= 1
        if not left:
            left = _STEP
            pause()
        if wire_type == VARINT:
            _read_varint_field(raw, number, read_varint(data, payload, end)[0])
        elif wire_type == FIXED64:
            value = data[payload:end]
            if number == 3:
                raw.sum = value
            elif number == 5:
                raw.zero_threshold = value
            elif number in (2, 7, 10, 13):
                raw.is_float = True
            elif number == 16:
                raw.custom.append(struct.unpack("<d", value)[0])
        elif wire_type == BYTES:
            _read_bytes_field(raw, number, data, payload, end, pause)
    return raw


def _read_varint_field(raw: _Raw, number: int, value: int) -> None:
    match number:
        case 1:
            raw.count = value
        case 4:
            raw.schema = zigzag32(value)
        case 6:
            raw.zero_count = value
        case 9:
            raw.negative_deltas.append(zigzag64(value))
        case 12:
            raw.positive_deltas.append(zigzag64(value))
        case 14:
            raw.reset_hint = value
        case 15:
            raw.time_ms = signed64(value)
        case 17:
            raw.start_ms = signed64(value)


def _read_bytes_field(
    raw: _Raw, number: int, data: bytes, start: int, stop: int, pause: Callable[[], None]
) -> None:
    """Read spans, and the packed form of repeated numbers."""
    match number:
        case 8:
            raw.negative_spans.append(_span(data, start, stop))
        case 11:
            raw.positive_spans.append(_span(data, start, stop))
        case 9 | 12:
            deltas = raw.negative_deltas if number == 9 else raw.positive_deltas
            pos = start
            while pos < stop:
                value, pos = read_varint(data, pos, stop)
                deltas.append(zigzag64(value))
                if not len(deltas) % _STEP:
                    pause()
                if len(deltas) > PARTS_MAX:
                    raise TooLargeError(f"over {PARTS_MAX} buckets in one native histogram")
        case 10 | 13:
            _check_doubles(start, stop)
            raw.is_float = raw.is_float or stop > start
        case 16:
            _check_doubles(start, stop)
            if len(raw.custom) + (stop - start) // 8 > PARTS_MAX:
                raise TooLargeError(f"over {PARTS_MAX} bounds in one native histogram")
            raw.custom += struct.unpack(f"<{(stop - start) // 8}d", data[start:stop])


def _check_doubles(start: int, stop: int) -> None:
    if (stop - start) % 8:
        raise DecodeError("packed doubles of a size that is no multiple of 8", offset=start)


def _span(data: bytes, start: int, stop: int) -> tuple[int, int]:
    offset = length = 0
    for number, wire_type, _, payload, end in iter_fields(data, start, stop, fields_max=FIELDS_MAX):
        if wire_type == VARINT:
            value = read_varint(data, payload, end)[0]
            if number == 1:
                offset = zigzag32(value)
            elif number == 2:
                length = value & 0xFFFFFFFF
    return offset, length
