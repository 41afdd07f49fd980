"""What of a histogram or summary is worked out once for its members, and not for every point.

:mod:`relay.pipeline.families` looks at every point with care. In the usual case nearly all of that
depends on the members alone: their order, their bounds, the encoding of those, and that none of
them is odd. A *layout* is what comes of it. It reads values that lie in *slots*, one for each
member, and knows which member's each one is. Rules:

* A layout reads full slots only, and exists only for members that can make a good point.
* Of values that are odd in any way it says nothing but None: then the careful way decides what
  becomes of them. What it does read, the careful way would read the same.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from operator import itemgetter, sub
from typing import Protocol

from relay.pipeline.families import COUNT_MAX
from relay.wire.otlp_points import (
    STALE,
    HistogramForm,
    HistogramPoint,
    Point,
    SummaryForm,
    SummaryPoint,
)

_ZERO = bytes(8)

Slots = list[bytes | None]
"""The values of a family's members for one time, each at a place of its own."""


class Layout(Protocol):
    """See the module's rules."""

    def counts(self, slots: Slots) -> list[int] | None:
        """The whole numbers of a point; None where the values are to be looked at with care."""
        ...

    def encode(self, slots: Slots, counts: list[int], time_ns: int, start_ns: int) -> bytes:
        """The point, without attributes; ``counts`` are what :meth:`counts` found."""
        ...

    def point(self, slots: Slots, counts: list[int], time_ns: int, start_ns: int) -> Point:
        """The same as a value."""
        ...


class ClassicLayout:
    """Cumulative buckets. ``places`` are theirs by ascending bound, ``top`` is that of +Inf."""

    __slots__ = ("_bounds", "_form", "_has_top", "_pick", "_read", "_total")

    def __init__(
        self,
        bounds: tuple[float, ...],
        places: Sequence[int],
        top: int | None,
        count: int,
        total: int | None,
    ) -> None:
        order = (*places, count) if top is None else (*places, top, count)
        assert len(order) > 1, "what picks one value picks no tuple"
        self._bounds = bounds
        self._has_top = top is not None
        self._pick = itemgetter(*order)
        self._read = struct.Struct(f"<{len(order)}d").unpack
        self._total = total
        self._form = HistogramForm(bounds)

    def counts(self, slots: Slots) -> list[int] | None:
        """The counts of the buckets, and behind them that of the histogram."""
        if self._total is not None and slots[self._total] == STALE:
            return None
        values = self._read(b"".join(self._pick(slots)))
        try:
            whole = tuple(map(int, values))
        except (ValueError, OverflowError):
            return None
        if whole != values or values[-1] >= COUNT_MAX:
            return None
        counts = list(map(sub, whole, (0, *whole)))
        if self._has_top and counts.pop():
            return None  # +Inf and the count contradict each other
        if min(counts) < 0:
            return None
        counts.append(whole[-1])
        return counts

    def encode(self, slots: Slots, counts: list[int], time_ns: int, start_ns: int) -> bytes:
        """See :class:`Layout`."""
        total = None if self._total is None else slots[self._total]
        return self._form.encode(time_ns, start_ns, counts[-1], total, counts[:-1])

    def point(self, slots: Slots, counts: list[int], time_ns: int, start_ns: int) -> Point:
        """See :class:`Layout`."""
        total = None if self._total is None else slots[self._total]
        return HistogramPoint(
            time_ns, counts[-1], total, self._bounds, tuple(counts[:-1]), start_ns
        )


class SummaryLayout:
    """Quantiles. ``places`` are theirs, ascending."""

    __slots__ = ("_count", "_form", "_places", "_quantiles", "_total")

    def __init__(
        self, quantiles: tuple[float, ...], places: Sequence[int], count: int, total: int | None
    ) -> None:
        self._quantiles = quantiles
        self._places = tuple(places)
        self._count = count
        self._total = total
        self._form = SummaryForm(quantiles)

    def counts(self, slots: Slots) -> list[int] | None:
        """The count."""
        value = slots[self._count]
        assert value is not None
        number = _double(value)
        if STALE in slots or not (0.0 <= number < COUNT_MAX and number.is_integer()):
            return None
        return [int(number)]

    def encode(self, slots: Slots, counts: list[int], time_ns: int, start_ns: int) -> bytes:
        """See :class:`Layout`."""
        total = _ZERO if self._total is None else slots[self._total]
        assert total is not None
        values = [slots[place] or _ZERO for place in self._places]
        return self._form.encode(time_ns, start_ns, counts[0], total, values)

    def point(self, slots: Slots, counts: list[int], time_ns: int, start_ns: int) -> Point:
        """See :class:`Layout`."""
        total = _ZERO if self._total is None else slots[self._total]
        assert total is not None
        values = [_double(slots[place] or _ZERO) for place in self._places]
        pairs = tuple(zip(self._quantiles, values, strict=True))
        return SummaryPoint(time_ns, counts[0], total, pairs, start_ns)


def classic_layout(
    count: int | None, total: int | None, buckets: Iterable[tuple[float, int]]
) -> ClassicLayout | None:
    """The layout of a histogram whose parts are at these places, buckets as (bound, place)."""
    ordered = sorted(buckets)
    if count is None or not ordered:
        return None
    top = ordered.pop()[1] if ordered[-1][0] == math.inf else None
    bounds = tuple(bound for bound, _ in ordered)
    if not all(map(math.isfinite, bounds)) or len(set(bounds)) < len(bounds):
        return None
    return ClassicLayout(bounds, [place for _, place in ordered], top, count, total)


def summary_layout(
    count: int | None, total: int | None, quantiles: Iterable[tuple[float, int]]
) -> SummaryLayout | None:
    """The layout of a summary whose parts are at these places, quantiles as (quantile, place)."""
    ordered = sorted(quantiles)
    known = tuple(quantile for quantile, _ in ordered)
    if count is None or not all(0.0 <= quantile <= 1.0 for quantile in known):
        return None
    if len(set(known)) < len(known):
        return None
    return SummaryLayout(known, [place for _, place in ordered], count, total)


def _double(eight: bytes) -> float:
    value: float = struct.unpack("<d", eight)[0]
    return value
