"""Encode OTLP data points of every kind.

* Plain number points (time and value only) are encoded by :mod:`relay.codec.otlp.metrics`; this
  module is for histograms, summaries, and numbers with a start time or exemplars.
* Times are nanoseconds since the Unix epoch; a start of 0 is absent. Doubles whose bits matter (a
  number's value, a sum) are eight little-endian bytes, because arithmetic may change a NaN.
* Attributes are encoded once per stream, by :func:`encode_attributes`.
* Repeated numbers are packed, as in proto3.
* Field numbers are from opentelemetry-proto, ``metrics/v1/metrics.proto``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from relay.codec.otlp.metrics import Kind, key_value
from relay.codec.protobuf import field_bytes, varint

STALE = b"\x02\x00\x00\x00\x00\x00\xf0\x7f"
"""Prometheus' stale marker: NaN with payload 2, little-endian (``model/value/value.go``)."""

Attributes = tuple[tuple[str, str], ...]

_POINT_TAG = b"\x0a"  # data_points (1), in all five kinds
_ATTRIBUTE_TAG: dict[Kind, bytes] = {
    "gauge": b"\x3a",  # NumberDataPoint.attributes (7)
    "sum": b"\x3a",
    "histogram": b"\x4a",  # 9
    "exponential_histogram": b"\x0a",  # 1
    "summary": b"\x3a",  # 7
}
_START_TAG, _TIME_TAG = b"\x11", b"\x19"  # fields 2 and 3, fixed64, in all four messages
_COUNT_TAG, _SUM_TAG = b"\x21", b"\x29"  # fields 4 (fixed64) and 5 (double), likewise
_FILTERED_TAG = b"\x3a"  # Exemplar.filtered_attributes (7)
_SINGLE = struct.Struct("<Q")
_DOUBLE = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class Exemplar:
    """Exemplar of a point. ``trace_id`` has 16 bytes and ``span_id`` 8, or they are empty."""

    time_ns: int
    value: float
    trace_id: bytes = b""
    span_id: bytes = b""
    attributes: Attributes = ()


@dataclass(frozen=True, slots=True)
class NumberPoint:
    """Point of a gauge or a sum; stale if ``value`` is :data:`STALE`."""

    time_ns: int
    value: bytes
    start_ns: int = 0
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(frozen=True, slots=True)
class HistogramPoint:
    """Histogram with explicit buckets: ``len(counts) == len(bounds) + 1``, or both empty.

    ``counts`` sum to ``count``; ``sum`` None is absent. A stale point ends its stream.
    """

    time_ns: int
    count: int
    sum: bytes | None
    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    start_ns: int = 0
    exemplars: tuple[Exemplar, ...] = ()
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Buckets:
    """Dense exponential buckets: ``counts[i]`` belongs to index ``offset + i``."""

    offset: int = 0
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ExponentialPoint:
    """Histogram with exponential buckets; ``count`` includes the zero count and all buckets."""

    time_ns: int
    count: int
    sum: bytes | None
    scale: int
    zero_count: int = 0
    zero_threshold: float = 0.0
    positive: Buckets = field(default_factory=Buckets)
    negative: Buckets = field(default_factory=Buckets)
    start_ns: int = 0
    exemplars: tuple[Exemplar, ...] = ()
    stale: bool = False


@dataclass(frozen=True, slots=True)
class SummaryPoint:
    """Summary; ``quantiles`` are (quantile, value), strictly increasing by quantile."""

    time_ns: int
    count: int
    sum: bytes
    quantiles: tuple[tuple[float, float], ...]
    start_ns: int = 0
    stale: bool = False


Point = NumberPoint | HistogramPoint | ExponentialPoint | SummaryPoint


def encode_attributes(attributes: Iterable[tuple[str, str]], kind: Kind) -> bytes:
    """Encode a point's attribute fields; keys must be unique, order is kept."""
    tag = _ATTRIBUTE_TAG[kind]
    return b"".join(field_bytes(tag, key_value(key, value)) for key, value in attributes)


def encode_point(attributes: bytes, point: Point) -> bytes:
    """Encode a ``data_points`` field; ``attributes`` must be encoded for the point's kind."""
    match point:
        case NumberPoint():
            body = _number(point)
        case HistogramPoint():
            body = _histogram(point)
        case ExponentialPoint():
            body = _exponential(point)
        case SummaryPoint():
            body = _summary(point)
    return wrap_point(attributes, body)


def wrap_point(attributes: bytes, body: bytes) -> bytes:
    """Encode a ``data_points`` field; ``body`` is the point without its attributes."""
    return _POINT_TAG + varint(len(attributes) + len(body)) + attributes + body


def _number(point: NumberPoint) -> bytes:
    return b"".join(
        [
            _times(point.start_ns, point.time_ns),
            b"\x21" + point.value,  # as_double (4)
            _exemplars(b"\x2a", point.exemplars),  # 5
            # A point without a value is invalid: the stale marker stays, with its flag (8).
            b"\x40\x01" if point.value == STALE else b"",
        ]
    )


def _histogram(point: HistogramPoint) -> bytes:
    assert not point.counts or len(point.counts) == len(point.bounds) + 1
    size = len(point.counts)
    parts = [
        _times(point.start_ns, point.time_ns),
        _COUNT_TAG + _SINGLE.pack(point.count),
        _SUM_TAG + point.sum if point.sum is not None else b"",
    ]
    if size:
        parts.append(field_bytes(b"\x32", struct.pack(f"<{size}Q", *point.counts)))  # 6
        if point.bounds:
            packed = struct.pack(f"<{size - 1}d", *point.bounds)
            parts.append(field_bytes(b"\x3a", packed))  # explicit_bounds (7)
    parts.append(_exemplars(b"\x42", point.exemplars))  # 8
    if point.stale:
        parts.append(b"\x50\x01")  # flags (10)
    return b"".join(parts)


def _exponential(point: ExponentialPoint) -> bytes:
    return b"".join(
        [
            _times(point.start_ns, point.time_ns),
            _COUNT_TAG + _SINGLE.pack(point.count),
            _SUM_TAG + point.sum if point.sum is not None else b"",
            b"\x30" + _zigzag(point.scale) if point.scale else b"",  # scale (6)
            b"\x39" + _SINGLE.pack(point.zero_count) if point.zero_count else b"",  # 7
            _buckets(b"\x42", point.positive),  # 8
            _buckets(b"\x4a", point.negative),  # 9
            b"\x50\x01" if point.stale else b"",  # flags (10)
            _exemplars(b"\x5a", point.exemplars),  # 11
            b"\x71" + _DOUBLE.pack(point.zero_threshold) if point.zero_threshold else b"",  # 14
        ]
    )


def _summary(point: SummaryPoint) -> bytes:
    parts = [
        _times(point.start_ns, point.time_ns),
        _COUNT_TAG + _SINGLE.pack(point.count),
        _SUM_TAG + point.sum,
    ]
    for quantile, value in point.quantiles:
        body = b"\x09" + _DOUBLE.pack(quantile) + b"\x11" + _DOUBLE.pack(value)
        parts.append(field_bytes(b"\x32", body))  # quantile_values (6)
    if point.stale:
        parts.append(b"\x40\x01")  # flags (8)
    return b"".join(parts)


def _times(start_ns: int, time_ns: int) -> bytes:
    time = _TIME_TAG + _SINGLE.pack(time_ns)
    return _START_TAG + _SINGLE.pack(start_ns) + time if start_ns else time


def _buckets(tag: bytes, buckets: Buckets) -> bytes:
    if not buckets.counts:
        return b""
    packed = b"".join(map(varint, buckets.counts))
    offset = b"\x08" + _zigzag(buckets.offset) if buckets.offset else b""
    return field_bytes(tag, offset + field_bytes(b"\x12", packed))


def _zigzag(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _exemplars(tag: bytes, exemplars: tuple[Exemplar, ...]) -> bytes:
    return b"".join(field_bytes(tag, _exemplar(exemplar)) for exemplar in exemplars)


def _exemplar(exemplar: Exemplar) -> bytes:
    parts = [b"\x11" + _SINGLE.pack(exemplar.time_ns), b"\x19" + _DOUBLE.pack(exemplar.value)]
    if exemplar.span_id:
        parts.append(field_bytes(b"\x22", exemplar.span_id))  # 4
    if exemplar.trace_id:
        parts.append(field_bytes(b"\x2a", exemplar.trace_id))  # 5
    parts += [
        field_bytes(_FILTERED_TAG, key_value(key, value)) for key, value in exemplar.attributes
    ]
    return b"".join(parts)
