"""Count durations in fixed buckets of plain integers."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

DURATION_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Inclusive upper bounds for operations that should take milliseconds; s."""

REQUEST_BOUNDS_S = (0.1, 0.5, 2.0, 10.0)
LATENCY_BOUNDS_S = (1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)
"""Inclusive upper bounds of a sink's requests and of its delivery latency; s. Few, because each
sink has its own: 10,000 sinks are 150,000 lines of a scrape."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Snapshot of a histogram.

    ``counts`` has one entry for each of ``bounds_s`` (inclusive upper bounds, s) and one for larger
    values; ``sum_s`` is the sum of all observations.
    """

    counts: tuple[int, ...] = (0,) * (len(DURATION_BOUNDS_S) + 1)
    sum_s: float = 0.0
    bounds_s: tuple[float, ...] = DURATION_BOUNDS_S


class Durations:
    """Histogram of durations; an observation takes 0.3 µs."""

    __slots__ = ("_bounds_s", "_counts", "_sum_s")

    def __init__(self, bounds_s: tuple[float, ...] = DURATION_BOUNDS_S) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration in seconds."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def statistics(self) -> Distribution:
        """Return a snapshot."""
        return Distribution(tuple(self._counts), self._sum_s, self._bounds_s)

    def __repr__(self) -> str:
        return f"<Durations {sum(self._counts)} counted>"
