"""Read data points for sinks that get them in another form. Pure.

Points are read by the official classes: only sinks of another protocol or temporality need them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import islice, pairwise
from typing import Any, Final

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
from relay.runtime.errors import WireError

BUCKETS_MAX: Final = 1_000
"""Buckets of one point."""
EXEMPLARS_MAX: Final = 100
"""Exemplars of one point that are kept."""
EXEMPLAR_ATTRIBUTES_MAX: Final = 64
"""Attributes of an exemplar that are looked at; lists and mappings are left out."""

TOO_MANY: Final = "too_many_members"
"""Reason for points with more buckets or quantiles."""

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
    points, unreadable = _official()
    try:
        point = points[kind].FromString(message)
    except unreadable as error:
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


def buckets_of(point: Point) -> int:
    """Return the number of buckets or quantiles of a point."""
    match point:
        case HistogramPoint():
            return len(point.counts)
        case ExponentialPoint():
            return len(point.positive.counts) + len(point.negative.counts)
        case SummaryPoint():
            return len(point.quantiles)
        case NumberPoint():
            return 0


def read_exemplars(message: bytes) -> tuple[Exemplar, ...]:
    """Return the exemplars of a number point; none where it cannot be read."""
    points, unreadable = _official()
    try:
        return _exemplars(points["gauge"].FromString(message).exemplars)
    except unreadable:
        return ()


@cache
def _official() -> tuple[Mapping[Kind, Any], type[Exception]]:
    """Return the classes of points, and what they raise; imported for the first point."""
    from relay.codec.otlp.metrics_in.messages import POINTS, ProtobufDecodeError

    return POINTS, ProtobufDecodeError


def _histogram(point: Any) -> HistogramPoint:
    if max(len(point.bucket_counts), len(point.explicit_bounds)) > BUCKETS_MAX:
        raise PointFault(TOO_MANY, f"{len(point.bucket_counts)} buckets")
    bounds = tuple(bound for bound in point.explicit_bounds if bound != math.inf)
    counts = tuple(point.bucket_counts)
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
        raise PointFault(TOO_MANY, "too many buckets")
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
    if len(point.quantile_values) > BUCKETS_MAX:
        raise PointFault(TOO_MANY, f"{len(point.quantile_values)} quantiles")
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
            tuple(
                (each.key, value_text(each.value))
                for each in islice(one.filtered_attributes, EXEMPLAR_ATTRIBUTES_MAX)
                if each.value.WhichOneof("value") not in ("array_value", "kvlist_value")
            ),
        )
        for one in islice(exemplars, EXEMPLARS_MAX)
    )


def _number(point: Any) -> float:
    return float(point.as_int) if point.WhichOneof("value") == "as_int" else point.as_double


def _is_stale(point: Any) -> bool:
    return bool(point.flags & _NO_RECORDED_VALUE)
