"""Builds one histogram or summary point from its components, or gives the reason why not.

Rules (reference, section B and vectors 8 to 12 and 16):

* ``le`` values become bounds, without +Inf; a bucket's count is its difference to the bucket below.
  Without +Inf, the last bucket is the difference to the count.
* A missing ``_count`` is the ``+Inf`` bucket, or the sum of all ranges (VictoriaMetrics' components
  expose no ``_count``). A point without either is dropped. A missing sum stays unset; a summary's
  is 0.
* Nothing is repaired: fractional or decreasing counts, contradictions, a repeated bound or NaN drop
  the set.
* ``vmrange`` buckets (VictoriaMetrics) are not cumulative, and only non-empty ones exist: gaps are
  buckets with count 0. A range of width 0, as older versions write ``0...0``, is the bucket that
  ends there.
* A quantile may be NaN: the summary's window was empty.
* A set with a stale count is a stale point with the family's last bounds and quantiles, empty:
  backends end only series that a point names. A single stale component counts as absent.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Literal, NamedTuple, Protocol

from relay.codec.otlp.data_points import STALE, Exemplar, HistogramPoint, Point, SummaryPoint
from relay.codec.otlp.metrics import Kind
from relay.pipeline.metrics.histograms.point_layout import COUNT_MAX, ClassicLayout, SummaryLayout

Refusal = Literal[
    "no_count",
    "not_whole",
    "not_monotone",
    "contradiction",
    "duplicate_bound",
    "bad_bound",
]
"""Reasons why a set becomes no point."""


class FamilyKey(NamedTuple):
    """Identity of a family; ``labels`` are those that all components share."""

    project: str
    kind: Kind
    name: str
    labels: tuple[tuple[str, str], ...]


Part = tuple[str, tuple[float, float], bytes]
"""A component's part, its sort key among components of that part, and its value."""

Slots = list[bytes | None]
"""The values of a family's members for one time, each at a place of its own."""


class Layout(Protocol):
    """Precomputed encoding of the points of one set of components."""

    def encode(self, slots: Slots, time_ns: int, start_ns: int) -> bytes | None:
        """Encode the point without attributes; None if the values need the validating slow path."""
        ...

    def point(self, slots: Slots, time_ns: int, start_ns: int) -> Point | None:
        """Return the point as a value; None if the values need the validating slow path."""
        ...


PARSE_ULPS = 4
"""Distance of a count from a whole number that is still taken for one, in units in the last place:
vmagent reads ``4.175658e+06`` as 4175658.0000000005."""

_DOUBLE = struct.Struct("<d")
_ZERO = bytes(8)
_STALE_VALUE: float = _DOUBLE.unpack(STALE)[0]


def parse_bound(text: str) -> float:
    """Parse a ``le`` or ``quantile`` label; NaN if it is not a number."""
    try:
        # float() takes more than Go's ParseFloat: underscores, blanks, the digits of all scripts.
        return float(text) if text.isascii() and not set("_ \t\n\r") & set(text) else math.nan
    except ValueError:
        return math.nan


def parse_range(text: str) -> tuple[float, float]:
    """Parse the bounds of a ``vmrange`` label (``1.000e+00...1.136e+00``); NaN if invalid."""
    low, dots, high = text.partition("...")
    lower, upper = (parse_bound(low), parse_bound(high)) if dots else (math.nan, math.nan)
    return (lower, upper) if lower <= upper else (math.nan, math.nan)


def classic_histogram(
    time_ns: int,
    count: bytes | None,
    total: bytes | None,
    buckets: Sequence[tuple[float, bytes]],
    start_ns: int = 0,
    exemplars: tuple[Exemplar, ...] = (),
) -> HistogramPoint | Refusal:
    """Build the point of cumulative buckets, (bound, value) sorted by bound."""
    count = _present(count)
    if count is None:
        tops = [value for bound, value in buckets if bound == math.inf and value != STALE]
        if not tops:
            return "no_count"
        count = tops[0]
    whole = _whole(count)
    if whole is None:
        return "not_whole"
    bounds: list[float] = []
    counts: list[int] = []
    below = 0
    last: float | None = None
    for bound, value in buckets:
        if value == STALE:
            continue
        if not bound > -math.inf:
            return "bad_bound"
        if bound == last:
            return "duplicate_bound"
        last = bound
        cumulative = _whole(value)
        if cumulative is None:
            return "not_whole"
        if cumulative < below:
            return "not_monotone"
        if cumulative > whole or (bound == math.inf and cumulative != whole):
            return "contradiction"
        if bound != math.inf:
            bounds.append(bound)
            counts.append(cumulative - below)
            below = cumulative
    if last is not None:
        counts.append(whole - below)
    return HistogramPoint(
        time_ns, whole, _present(total), tuple(bounds), tuple(counts), start_ns, exemplars
    )


def range_histogram(
    time_ns: int,
    count: bytes | None,
    total: bytes | None,
    buckets: Sequence[tuple[float, float, bytes]],
    start_ns: int = 0,
    exemplars: tuple[Exemplar, ...] = (),
) -> HistogramPoint | Refusal:
    """Build the point of ``vmrange`` buckets, (lower, upper, value) sorted by bounds."""
    bounds: list[float] = []
    counts: list[int] = []
    for lower, upper, value in buckets:
        if value == STALE:
            continue
        if math.isnan(lower):
            return "bad_bound"
        within = _whole(value)
        if within is None:
            return "not_whole"
        if bounds and (lower < bounds[-1] or upper == bounds[-1]):
            return "duplicate_bound"
        if -math.inf < lower < upper and (not bounds or lower > bounds[-1]):
            bounds.append(lower)
            counts.append(0)
        bounds.append(upper)
        counts.append(within)
    count = _present(count)
    if count is None and not bounds:
        return "no_count"
    whole = sum(counts) if count is None else _whole(count)
    if whole is None:
        return "not_whole"
    if sum(counts) != whole:
        return "contradiction"
    if bounds and bounds[-1] == math.inf:
        bounds.pop()
    elif bounds:
        counts.append(0)
    elif whole:
        return "contradiction"
    return HistogramPoint(
        time_ns, whole, _present(total), tuple(bounds), tuple(counts), start_ns, exemplars
    )


def summary(
    time_ns: int,
    count: bytes | None,
    total: bytes | None,
    quantiles: Sequence[tuple[float, bytes]],
    start_ns: int = 0,
) -> SummaryPoint | Refusal:
    """Build the point of a summary, (quantile, value) sorted by quantile."""
    if count is None or count == STALE:
        return "no_count"
    whole = _whole(count)
    if whole is None:
        return "not_whole"
    pairs: list[tuple[float, float]] = []
    for quantile, value in quantiles:
        if value == STALE:
            continue
        if not 0.0 <= quantile <= 1.0:
            return "bad_bound"
        if pairs and pairs[-1][0] == quantile:
            return "duplicate_bound"
        pairs.append((quantile, _DOUBLE.unpack(value)[0]))
    return SummaryPoint(time_ns, whole, _present(total) or _ZERO, tuple(pairs), start_ns)


def point_of(
    kind: Kind,
    parts: Sequence[Part],
    last: Iterable[tuple[str, tuple[float, float]]],
    time_ns: int,
    start_ns: int,
    exemplars: tuple[Exemplar, ...],
    is_ranged: bool,
) -> HistogramPoint | SummaryPoint | Refusal:
    """Build the point of all present parts, at least one.

    ``last`` are the components that the family had last, (part, order): a stale point ends these.
    """
    if kind == "summary":
        if has_ended(parts):
            return ended_summary(time_ns, last)
        return summary_of(parts, time_ns, start_ns)
    if has_ended(parts):
        return ended_histogram(time_ns, last, is_ranged=is_ranged)
    return histogram_of(parts, time_ns, start_ns, exemplars, is_ranged=is_ranged)


def histogram_of(
    parts: Iterable[Part],
    time_ns: int,
    start_ns: int,
    exemplars: tuple[Exemplar, ...],
    *,
    is_ranged: bool,
) -> HistogramPoint | Refusal:
    """Build the point of all present parts of a histogram.

    ``is_ranged``: there are ``vmrange`` buckets and no cumulative ones.
    """
    single, bounded = _sorted_out(parts)
    head = time_ns, single.get("count"), single.get("sum")
    if is_ranged:
        ranges = [(*order, value) for part, order, value in bounded if part == "vmrange"]
        return range_histogram(*head, ranges, start_ns, exemplars)
    buckets = [(order[0], value) for part, order, value in bounded if part != "vmrange"]
    return classic_histogram(*head, buckets, start_ns, exemplars)


def summary_of(parts: Iterable[Part], time_ns: int, start_ns: int) -> SummaryPoint | Refusal:
    """Build the point of all present parts of a summary."""
    single, bounded = _sorted_out(parts)
    quantiles = [(order[0], value) for _, order, value in bounded]
    return summary(time_ns, single.get("count"), single.get("sum"), quantiles, start_ns)


def has_ended(parts: Sequence[Part]) -> bool:
    """Return True if the family ends: all parts that carry a count are stale.

    ``parts`` are all parts of a set, at least one; if none carries a count, all must be stale.
    """
    heads = [
        value
        for part, (bound, _), value in parts
        if part in ("count", "vmrange") or (part == "le" and bound == math.inf)
    ]
    return all(value == STALE for value in heads or [value for _, _, value in parts])


def ended_histogram(
    time_ns: int, members: Iterable[tuple[str, tuple[float, float]]], *, is_ranged: bool
) -> HistogramPoint:
    """Build the stale point of a histogram that last had these components, (part, order)."""
    # Two spellings of one bound count once; an invalid bound was in no point.
    kept = {(part, order): None for part, order in members if _has_place(part, order[0])}
    parts = [(part, order, _ZERO) for part, order in (("count", (0.0, 0.0)), *kept)]
    point = histogram_of(parts, time_ns, 0, (), is_ranged=is_ranged)
    if isinstance(point, str):
        # Overlapping ranges: no point ever had them.
        point = HistogramPoint(time_ns, 0, None, (), ())
    return replace(point, stale=True)


def _has_place(part: str, bound: float) -> bool:
    """Return True if a histogram's point shows that it had this component."""
    return part == "sum" or (bound > -math.inf if part == "le" else not math.isnan(bound))


def ended_summary(time_ns: int, members: Iterable[tuple[str, tuple[float, float]]]) -> SummaryPoint:
    """Build the stale point of a summary that last had these components, (part, order)."""
    quantiles = sorted({bound for part, (bound, _) in members if part == "quantile"})
    pairs = tuple((bound, _STALE_VALUE) for bound in quantiles if 0.0 <= bound <= 1.0)
    return SummaryPoint(time_ns, 0, _ZERO, pairs, stale=True)


def _sorted_out(parts: Iterable[Part]) -> tuple[dict[str, bytes], list[Part]]:
    """Return count and sum by part, and the parts that have a bound, in its order."""
    single: dict[str, bytes] = {}
    bounded: list[Part] = []
    for part in parts:
        if part[0] in ("count", "sum"):
            single[part[0]] = part[2]
        else:
            bounded.append(part)
    return single, sorted(bounded, key=itemgetter(1))


def layout_of(kind: Kind, members: Iterable[tuple[str, float, int]]) -> Layout | None:
    """Return the layout of components (part, bound, slot); None if points cannot use one."""
    single: dict[str, int] = {}
    bounded: list[tuple[float, int]] = []
    for part, bound, place in members:
        if part == "vmrange":
            return None
        if part in ("count", "sum"):
            single[part] = place
        else:
            bounded.append((bound, place))
    make = classic_layout if kind == "histogram" else summary_layout
    return make(single.get("count"), single.get("sum"), bounded)


def classic_layout(
    count: int | None, total: int | None, buckets: Iterable[tuple[float, int]]
) -> ClassicLayout | None:
    """Return the layout of a histogram with its parts in these slots, buckets as (bound, slot)."""
    ordered = sorted(buckets)
    top = ordered.pop()[1] if ordered and ordered[-1][0] == math.inf else None
    if count is None:
        count = top
    if count is None or (top is None and not ordered):
        return None
    bounds = tuple(bound for bound, _ in ordered)
    if not all(map(math.isfinite, bounds)) or len(set(bounds)) < len(bounds):
        return None
    return ClassicLayout(bounds, [place for _, place in ordered], top, count, total)


def summary_layout(
    count: int | None, total: int | None, quantiles: Iterable[tuple[float, int]]
) -> SummaryLayout | None:
    """Return the layout of a summary with its parts in these slots.

    Quantiles are (quantile, slot).
    """
    ordered = sorted(quantiles)
    known = tuple(quantile for quantile, _ in ordered)
    if count is None or not all(0.0 <= quantile <= 1.0 for quantile in known):
        return None
    if len(set(known)) < len(known):
        return None
    return SummaryLayout(known, [place for _, place in ordered], count, total)


def ranges_add_up(count: bytes, values: Iterable[bytes]) -> bool:
    """Return True if ``vmrange`` buckets add up to the count: then none is missing."""
    if count == STALE:
        return False
    total = sum(_near_whole(_DOUBLE.unpack(value)[0]) for value in values if value != STALE)
    return total == _near_whole(_DOUBLE.unpack(count)[0])


def _whole(value: bytes) -> int | None:
    """Return a count, or None if it is fractional, negative or not a number."""
    number = _near_whole(_DOUBLE.unpack(value)[0])
    return int(number) if 0.0 <= number < COUNT_MAX and number.is_integer() else None


def _near_whole(number: float) -> float:
    """Return the whole number that is at most :data:`PARSE_ULPS` away, else the number."""
    if not math.isfinite(number):
        return number
    nearest = float(round(number))
    return nearest if abs(number - nearest) <= PARSE_ULPS * math.ulp(number) else number


def _present(value: bytes | None) -> bytes | None:
    """Return the value; None for a missing one and for the stale marker."""
    return None if value == STALE else value
