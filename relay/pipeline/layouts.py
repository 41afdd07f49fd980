"""What of a histogram or summary is worked out once for its members, and not for every point.

:mod:`relay.pipeline.families` looks at every point with care. In the usual case nearly all of that
depends on the members alone: their order, their bounds, the encoding of those, and that none of
them is odd. A *layout* is what comes of it. It reads values that lie in *slots*, one for each
member, and knows which member's each one is. Rules:

* A layout reads full slots only, and exists only for members that can make a good point
  (:func:`~relay.pipeline.families.classic_layout`).
* Of values that are odd in any way it says nothing but None: then the careful way decides what
  becomes of them. What it does read, the careful way would read the same.

This is the readable reference; ``layouts.pyx`` is the same on raw memory (:mod:`relay.hot_path`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import itemgetter, sub

from relay.wire.otlp_points import (
    STALE,
    HistogramForm,
    HistogramPoint,
    SummaryForm,
    SummaryPoint,
)

COUNT_MAX = float(1 << 64)
"""Counts are below this: OTLP's have 64 bits."""

_ZERO = bytes(8)


class ClassicLayout:
    """Cumulative buckets. ``places`` are those of finite bounds, ascending, ``top`` is +Inf's."""

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

    def encode(self, slots: list[bytes | None], time_ns: int, start_ns: int) -> bytes | None:
        """The point, without attributes."""
        counts = self._counts(slots)
        if counts is None:
            return None
        whole = counts.pop()
        total = None if self._total is None else slots[self._total]
        return self._form.encode(time_ns, start_ns, whole, total, counts)

    def point(
        self, slots: list[bytes | None], time_ns: int, start_ns: int
    ) -> HistogramPoint | None:
        """The same as a value."""
        counts = self._counts(slots)
        if counts is None:
            return None
        whole = counts.pop()
        total = None if self._total is None else slots[self._total]
        return HistogramPoint(time_ns, whole, total, self._bounds, tuple(counts), start_ns)

    def _counts(self, slots: list[bytes | None]) -> list[int] | None:
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

    def encode(self, slots: list[bytes | None], time_ns: int, start_ns: int) -> bytes | None:
        """The point, without attributes."""
        parts = self._parts(slots)
        return None if parts is None else self._form.encode(time_ns, start_ns, *parts)

    def point(self, slots: list[bytes | None], time_ns: int, start_ns: int) -> SummaryPoint | None:
        """The same as a value."""
        parts = self._parts(slots)
        if parts is None:
            return None
        whole, total, values = parts
        pairs = tuple(zip(self._quantiles, map(_double, values), strict=True))
        return SummaryPoint(time_ns, whole, total, pairs, start_ns)

    def _parts(self, slots: list[bytes | None]) -> tuple[int, bytes, list[bytes]] | None:
        """Count, sum and the quantiles' values."""
        if STALE in slots:
            return None
        full = [value for value in slots if value is not None]
        assert len(full) == len(slots)
        number = _double(full[self._count])
        if not (0.0 <= number < COUNT_MAX and number.is_integer()):
            return None
        total = _ZERO if self._total is None else full[self._total]
        return int(number), total, [full[place] for place in self._places]


def _double(eight: bytes) -> float:
    value: float = struct.unpack("<d", eight)[0]
    return value
