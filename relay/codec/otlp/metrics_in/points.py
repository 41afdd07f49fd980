"""Read data points for sinks that get them in another form. Pure.

Points are read by the official classes: only sinks of another protocol or temporality need them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

from google.protobuf.message import DecodeError as ProtobufDecodeError

from relay.codec.otlp.any_value import value_text
from relay.codec.otlp.data_points import (
    STALE,
    Buckets,
    Exemplar,
    ExponentialPoint,
    HistogramPoint,
    NumberPoint,
    Point,
    SummaryPoint,
)
from relay.codec.otlp.metrics import Kind
from relay.codec.otlp.metrics_in.heads import POINTS
from relay.runtime.errors import WireError

BUCKETS_MAX: Final = 20_000
"""Buckets of one point."""

_NO_RECORDED_VALUE: Final = 1
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
_DOUBLE: Final = struct.Struct("<d")


class PointFault(WireError):  # noqa: N818 - a fault is data to count, the request goes on
    """Report a point that contradicts itself; ``reason`` is for counting."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


def read_point(message: bytes, kind: Kind) -> Point:
    """Return a point of this kind. Raise PointFault."""
    try:
        point = POINTS[kind].FromString(message)
    except ProtobufDecodeError as error:
        raise PointFault("unreadable", "the point cannot be read") from error
    if kind == "histogram":
        return _histogram(point)
    if kind == "exponential_histogram":
        return _exponential(point)
    if kind == "summary":
        return _summary(point)
    value = STALE if _is_stale(point) else _DOUBLE.pack(_number(point))
    return NumberPoint(
        point.time_unix_nano, value, point.start_time_unix_nano, _exemplars(point.exemplars)
    )


def read_exemplars(message: bytes) -> tuple[Exemplar, ...]:
    """Return the exemplars of a number point; none where it cannot be read."""
    try:
        return _exemplars(POINTS["gauge"].FromString(message).exemplars)
    except ProtobufDecodeError:
        return ()


def _histogram(point: Any) -> HistogramPoint:
    bounds = tuple(bound for bound in point.explicit_bounds if bound != math.inf)
    counts = tuple(point.bucket_counts)
    if len(counts) > BUCKETS_MAX:
        raise PointFault("histogram_too_large", f"{len(counts)} buckets")
    if len(bounds) < len(point.explicit_bounds) and len(counts) > len(bounds) + 1:
        # A bound of +Inf says nothing: its bucket and the one above are one.
        counts = (*counts[: len(bounds)], sum(counts[len(bounds) :]))
    if counts and len(counts) != len(bounds) + 1:
        raise PointFault("contradiction", f"{len(counts)} buckets for {len(bounds)} bounds")
    if not counts:
        bounds = ()
    if any(not lower < upper for lower, upper in pairwise(bounds)) or any(map(math.isnan, bounds)):
        raise PointFault("bad_bound", "bounds that do not increase")
    if counts and sum(counts) != point.count:
        raise PointFault("contradiction", "buckets that do not add up to the count")
    return HistogramPoint(
        point.time_unix_nano,
        point.count,
        _DOUBLE.pack(point.sum) if point.HasField("sum") else None,
        bounds,
        counts,
        point.start_time_unix_nano,
        _exemplars(point.exemplars),
        _is_stale(point),
    )


def _exponential(point: Any) -> ExponentialPoint:
    positive, negative = point.positive, point.negative
    if len(positive.bucket_counts) + len(negative.bucket_counts) > BUCKETS_MAX:
        raise PointFault("histogram_too_large", "too many buckets")
    return ExponentialPoint(
        point.time_unix_nano,
        point.count,
        _DOUBLE.pack(point.sum) if point.HasField("sum") else None,
        point.scale,
        point.zero_count,
        point.zero_threshold,
        Buckets(positive.offset, tuple(positive.bucket_counts)),
        Buckets(negative.offset, tuple(negative.bucket_counts)),
        point.start_time_unix_nano,
        _exemplars(point.exemplars),
        _is_stale(point),
    )


def _summary(point: Any) -> SummaryPoint:
    return SummaryPoint(
        point.time_unix_nano,
        point.count,
        _DOUBLE.pack(point.sum),
        tuple((one.quantile, one.value) for one in point.quantile_values),
        point.start_time_unix_nano,
        _is_stale(point),
    )


def _exemplars(exemplars: Iterable[Any]) -> tuple[Exemplar, ...]:
    return tuple(
        Exemplar(
            one.time_unix_nano,
            _number(one),
            one.trace_id if len(one.trace_id) == _TRACE_ID_BYTES else b"",
            one.span_id if len(one.span_id) == _SPAN_ID_BYTES else b"",
            tuple((each.key, value_text(each.value)) for each in one.filtered_attributes),
        )
        for one in exemplars
    )


def _number(point: Any) -> float:
    return float(point.as_int) if point.WhichOneof("value") == "as_int" else point.as_double


def _is_stale(point: Any) -> bool:
    return bool(point.flags & _NO_RECORDED_VALUE)
