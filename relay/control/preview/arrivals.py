"""Measure how often some series arrive, without a cost for any other.

* A series whose generation is behind the table's is looked up at its next sample, which brings its
  generation up to date (:mod:`relay.pipeline.metrics.series.series_table`). So a series that is set
  back a generation tells, at the next look, whether it arrived meanwhile.
* Several samples of a series between two looks count once: intervals below :data:`LOOK_S` are not
  seen.
* Two arrivals give a series' interval; with fewer it counts by the time that it was watched. All
  series of a sample count alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.pipeline.metrics.series.series import Series
from relay.pipeline.metrics.series.series_table import SeriesTable

LOOK_S: Final = 0.5
"""Time between two looks; s."""


@dataclass(slots=True)
class _Watched:
    series: Series
    generation: int
    arrivals: int = 0
    first_at: float = 0.0
    last_at: float = 0.0


class Arrivals:
    """Watches a sample of series from ``now`` on, s on a monotonic clock; between requests only."""

    def __init__(self, table: SeriesTable, series: Iterable[Series], now: float) -> None:
        self._table = table
        self._began = self._now = now
        self._watched = {one: _Watched(one, 0) for one in series if one.generation >= 0}
        for one in self._watched.values():
            self._set_back(one)

    def _set_back(self, one: _Watched) -> None:
        one.generation = self._table.generation
        one.series.generation = one.generation - 1

    def look(self, now: float) -> None:
        """Count the series that have arrived since the last look."""
        self._now = now
        for one in self._watched.values():
            if one.series.generation >= one.generation:
                one.arrivals += 1
                one.first_at = one.first_at or now
                one.last_at = now
                self._set_back(one)

    @property
    def settled(self) -> bool:
        """True once the interval of every series is known, or there is none."""
        return all(one.arrivals >= 2 for one in self._watched.values())

    @property
    def watched_s(self) -> float:
        """Duration of the measurement so far; s."""
        return self._now - self._began

    def per_minute(self, series: Iterable[Series]) -> float | None:
        """Return the mean arrivals a minute of these; None if nothing can be said."""
        sampled = [self._watched[one] for one in series if one in self._watched]
        if not sampled or self.watched_s <= 0:
            return None
        total = 0.0
        for one in sampled:
            if one.arrivals >= 2:
                total += (one.arrivals - 1) / (one.last_at - one.first_at)
            else:
                total += one.arrivals / self.watched_s
        return 60 * total / len(sampled)

    def __repr__(self) -> str:
        return f"<Arrivals of {len(self._watched)} series, {self.watched_s:.1f} s>"
