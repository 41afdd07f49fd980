"""Measure how often some series arrive, without a cost for any other.

* A series whose generation is behind the table's is looked up at its next sample, which brings its
  generation up to date (:mod:`relay.pipeline.metrics.series.series_table`). So a series that is set
  back a generation tells, at the next look, whether it arrived meanwhile.
* Several samples of a series between two looks count once: intervals below :data:`LOOK_S` are not
  seen.
* Several measurements share one watch of the table: an arrival counts for all of them.
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
    """One series of the table, and how often it was seen to arrive; ``views`` watch it."""

    generation: int
    arrivals: int = 0
    last_at: float = 0.0
    views: int = 1


class ArrivalWatch:
    """Watches series of a table for all who measure at the same time; between requests only.

    One watch for each table: two would take each other's arrivals.
    """

    def __init__(self, table: SeriesTable) -> None:
        self._table = table
        self._watched: dict[Series, _Watched] = {}
        self._looked_at = -LOOK_S

    def add(self, series: Iterable[Series], now: float) -> None:
        """Watch series from ``now`` on, s on a monotonic clock."""
        self._look(now)
        for one in series:
            known = self._watched.get(one)
            if known is None:
                self._watched[one] = known = _Watched(0)
                self._set_back(one, known)
            else:
                known.views += 1

    def remove(self, series: Iterable[Series]) -> None:
        """Let series go that were added."""
        for one in series:
            known = self._watched[one]
            known.views -= 1
            if not known.views:
                del self._watched[one]

    def look(self, now: float) -> None:
        """Count what has arrived since the last look, unless that was just now."""
        if now - self._looked_at >= LOOK_S / 2:
            self._look(now)

    def _look(self, now: float) -> None:
        self._looked_at = now
        for series, one in self._watched.items():
            if series.generation >= one.generation:
                one.arrivals += 1
                one.last_at = now
                self._set_back(series, one)

    def _set_back(self, series: Series, one: _Watched) -> None:
        one.generation = self._table.generation
        series.generation = one.generation - 1

    def of(self, series: Series) -> _Watched:
        """Return what is known of a series that was added."""
        return self._watched[series]

    def __repr__(self) -> str:
        return f"<ArrivalWatch of {len(self._watched)} series>"


@dataclass(slots=True)
class _Seen:
    """Arrivals of one series in one measurement; those before ``base`` are older."""

    watched: _Watched
    base: int
    arrivals: int = 0
    first_at: float = 0.0
    last_at: float = 0.0

    def note(self) -> None:
        """Note that the series has arrived since the last look of this measurement."""
        arrivals, at = self.watched.arrivals, self.watched.last_at
        if self.arrivals:
            self.arrivals, self.last_at = arrivals - self.base, at
        else:
            # Of several since then, the time of the last one alone is known.
            self.base, self.arrivals = arrivals - 1, 1
            self.first_at = self.last_at = at


class Arrivals:
    """Measures a sample of series from ``now`` on, s on a monotonic clock; to be closed."""

    def __init__(self, watch: ArrivalWatch, series: Iterable[Series], now: float) -> None:
        self._watch = watch
        self._began = self._now = now
        own = dict.fromkeys(one for one in series if one.generation >= 0)
        watch.add(own, now)
        self._seen = {one: _Seen(watch.of(one), watch.of(one).arrivals) for one in own}

    def close(self) -> None:
        """Watch no longer; what was measured stays."""
        self._watch.remove(self._seen)

    def look(self, now: float) -> None:
        """Count the series that have arrived since the last look."""
        before, self._now = self._now, now
        self._watch.look(now)
        for one in self._seen.values():
            if one.watched.last_at > before:
                one.note()

    @property
    def settled(self) -> bool:
        """True once the interval of every series is known, or there is none."""
        return all(one.arrivals >= 2 for one in self._seen.values())

    @property
    def watched_s(self) -> float:
        """Duration of the measurement so far; s."""
        return self._now - self._began

    def per_minute(self, series: Iterable[Series]) -> float | None:
        """Return the mean arrivals a minute of these; None if nothing can be said."""
        sampled = [self._seen[one] for one in series if one in self._seen]
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
        return f"<Arrivals of {len(self._seen)} series, {self.watched_s:.1f} s>"
