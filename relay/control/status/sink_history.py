"""Keep the last hour and day of each sink: what it delivered, how fast, and what was lost. Pure.

* Counters are noted from time to time; what has come since the note before belongs to the minute,
  and the hour, of the note. A counter that is lower than before has begun anew.
* A sink takes some 2 kB. What is noted of a sink for the first time only is where it begins.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from relay.config.exporter.records.outputs import signal_of
from relay.control.reconcile.sink_report import SinkReport

MINUTES: Final = 60
HOURS: Final = 24
_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3600.0


class SinkCounters(NamedTuple):
    """Counters of a sink since it runs; ``lost`` is rejected, expired and dropped points."""

    delivered: int
    lost: int
    requests: int
    request_s: float


class HistoryMinute(NamedTuple):
    """Deliveries of a sink in the minute that began at ``at`` (wall clock, s)."""

    at: float
    delivered: float
    requests: int
    request_s: float


@dataclass(frozen=True, slots=True)
class SinkNow:
    """An exporter as of the last note: delivered a second, age of the oldest, lost in a day.

    What is delivered and lost is told of each signal, in its own unit: points, records or spans.
    """

    per_s: Mapping[str, float]
    oldest_s: float | None
    lost_in_day: Mapping[str, int]


class SinkHistory:
    """The history of one sink; ``now`` is the wall clock, s."""

    __slots__ = (
        "_delivered",
        "_hour",
        "_last",
        "_last_at",
        "_lost",
        "_minute",
        "_request_s",
        "_requests",
        "began_at",
        "oldest_s",
        "points_per_s",
    )

    def __init__(self, counters: SinkCounters, now: float) -> None:
        self.began_at: Final = now
        self.points_per_s: float | None = None
        self.oldest_s: float | None = None
        self._last = counters
        self._last_at = now
        self._minute = int(now // _MINUTE_S)
        self._hour = int(now // _HOUR_S)
        self._delivered = array("d", bytes(8 * MINUTES))
        self._requests = array("L", bytes(array("L").itemsize * MINUTES))
        self._request_s = array("f", bytes(4 * MINUTES))
        self._lost = array("d", bytes(8 * HOURS))

    def note(self, counters: SinkCounters, now: float, oldest_s: float | None) -> None:
        """Note counters as of now, and the age of the oldest point that waits."""
        self._advance(now)
        last = self._last
        if any(new < old for new, old in zip(counters, last, strict=True)):
            last = SinkCounters(0, 0, 0, 0.0)
        delivered = counters.delivered - last.delivered
        place = self._minute % MINUTES
        self._delivered[place] += delivered
        self._requests[place] += counters.requests - last.requests
        self._request_s[place] += counters.request_s - last.request_s
        self._lost[self._hour % HOURS] += counters.lost - last.lost
        passed = now - self._last_at
        if passed > 0:
            self.points_per_s = delivered / passed
        self.oldest_s = oldest_s
        self._last, self._last_at = counters, now

    def _advance(self, now: float) -> None:
        """Begin the minute and the hour of now; those between are empty."""
        minute, hour = int(now // _MINUTE_S), int(now // _HOUR_S)
        for one in range(max(self._minute + 1, minute - MINUTES + 1), minute + 1):
            place = one % MINUTES
            self._delivered[place], self._requests[place], self._request_s[place] = 0, 0, 0
        for one in range(max(self._hour + 1, hour - HOURS + 1), hour + 1):
            self._lost[one % HOURS] = 0
        self._minute, self._hour = max(self._minute, minute), max(self._hour, hour)

    def lost_in_day(self, now: float) -> int:
        """Return the points that were lost in the last 24 hours, in whole hours."""
        self._advance(now)
        return round(sum(self._lost))

    def minutes(self, now: float) -> list[HistoryMinute]:
        """Return the whole minutes of the last hour since the history began, the oldest first."""
        self._advance(now)
        first = max(self._minute - MINUTES + 1, math.ceil(self.began_at / _MINUTE_S))
        return [
            HistoryMinute(
                one * _MINUTE_S,
                self._delivered[one % MINUTES],
                self._requests[one % MINUTES],
                self._request_s[one % MINUTES],
            )
            for one in range(first, self._minute)
        ]

    def __repr__(self) -> str:
        return f"<SinkHistory since {self.began_at:.0f}>"


class SinkHistories:
    """The histories of all sinks, by the id of their exporter and their name."""

    def __init__(self) -> None:
        self._histories: dict[str, dict[str, SinkHistory]] = {}

    def note(self, exporter: str, reports: Mapping[str, SinkReport], now: float) -> None:
        """Note the counters of an exporter's sinks; of sinks that are gone nothing is kept."""
        known = self._histories.get(exporter, {})
        found: dict[str, SinkHistory] = {}
        for name, report in reports.items():
            counters = counters_of(report)
            history = known.get(name)
            if history is None:
                history = SinkHistory(counters, now)
                history.oldest_s = report.oldest_age_s(now) or None
            else:
                history.note(counters, now, report.oldest_age_s(now) or None)
            found[name] = history
        if found:
            self._histories[exporter] = found
        else:
            self._histories.pop(exporter, None)

    def forget_all_but(self, exporters: Iterable[str]) -> None:
        """Forget the exporters that are not among these."""
        for gone in self._histories.keys() - set(exporters):
            del self._histories[gone]

    def of(self, exporter: str) -> Mapping[str, SinkHistory]:
        """Return the histories of an exporter's sinks by name; {} where nothing was noted."""
        return self._histories.get(exporter, {})

    def now(self, exporter: str, now: float) -> SinkNow | None:
        """Return the sums of an exporter's sinks by signal, None where nothing was noted."""
        found = self._histories.get(exporter)
        if not found:
            return None
        rates: dict[str, float] = {}
        lost: dict[str, int] = {}
        for name, one in found.items():
            signal = signal_of(name)
            if one.points_per_s is not None:
                rates[signal] = rates.get(signal, 0.0) + one.points_per_s
            lost[signal] = lost.get(signal, 0) + one.lost_in_day(now)
        ages = [one.oldest_s for one in found.values() if one.oldest_s is not None]
        return SinkNow(rates, max(ages) if ages else None, lost)

    def __repr__(self) -> str:
        return f"<SinkHistories of {len(self._histories)} exporters>"


def counters_of(report: SinkReport) -> SinkCounters:
    """Return the counters of a sink's report."""
    ledger, requests = report.ledger, report.worker.throughput.requests
    return SinkCounters(ledger.delivered, ledger.lost, sum(requests.counts), requests.sum_s)
