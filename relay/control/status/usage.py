"""Meters what exporters, their sources and sinks, and projects cost now. Pure.

Rules:

* Rates are over the last five minutes, or since an exporter was first seen if that is shorter, but
  at least over a minute: what comes once shows, and does not look like a flood.
* A meter holds counters of earlier moments only. They are taken by :meth:`UsageMeter.mark`, about
  once a minute; figures compare them with the present counters.
* Log records and spans are *records*, and no samples.
* Samples of an exporter and of a project are those of all their sinks: a sample that goes to two
  sinks counts twice. Series count once.
* Bytes are sent by sinks: a source has none.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from relay.control.status.object_status import UsageFigures

WINDOW_S: Final = 300.0
"""Time that rates are averaged over, s."""
MARK_S: Final = 60.0
"""Interval of :meth:`UsageMeter.mark`, and the least time that rates are averaged over; s."""
KEPT_S: Final = 5.0
"""Time for which figures are given again as they were computed, s."""
_MARKS: Final = round(WINDOW_S / MARK_S)
_SHARED_NAMES_MAX: Final = 256
_US: Final = 1_000_000
_NEVER: Final = float("-inf")
_NOTHING: Final = UsageFigures()
_COUNTERS: Final = {"source": 2, "sink": 4}


class SourceReading(NamedTuple):
    """Series that match a source now; since the start: samples, log records and spans of it.

    A source of a policy may have several signals.
    """

    series: int = 0
    samples: int = 0
    records: int = 0


class SinkReading(NamedTuple):
    """Series that a sink takes now; since the start: samples for it, bytes sent, points resent.

    ``records`` are log records and spans for it. Bytes and resent points are of all signals.
    """

    series: int = 0
    samples: int = 0
    bytes: int = 0
    resent: int = 0
    records: int = 0


class UsageReading(NamedTuple):
    """The counters of one exporter, by name of source and of sink; ``series`` that any takes."""

    series: int
    sources: Mapping[str, SourceReading]
    sinks: Mapping[str, SinkReading]


class ExporterUsage(msgspec.Struct, frozen=True):
    """The usage of one exporter, and of each of its sources and sinks by name."""

    total: UsageFigures = _NOTHING
    sources: Mapping[str, UsageFigures] = msgspec.field(default_factory=dict)
    sinks: Mapping[str, UsageFigures] = msgspec.field(default_factory=dict)


NO_USAGE: Final = ExporterUsage()


@lru_cache(maxsize=_SHARED_NAMES_MAX)
def _names(sources: tuple[str, ...], sinks: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return what tells counters apart; exporters often have the same names."""
    return (*(("source", one) for one in sources), *(("sink", one) for one in sinks))


class _Window:
    """Counters of one exporter at earlier moments, the oldest first.

    ``names`` tell which counters they are: ``("source", name)`` has two, ``("sink", name)`` four.
    All ``marks`` are in one array, whose memory stays: objects that each mark makes anew for
    10,000 exporters would hold on to memory that others around them have left.
    """

    __slots__ = ("kept", "kept_until", "marks", "names", "rows")

    def __init__(self) -> None:
        self.names: tuple[tuple[str, str], ...] = ()
        self.marks = 0  # the number of rows, at most _MARKS
        self.rows: array[int] = array("q")  # each the time, µs, and the counters
        self.kept = NO_USAGE
        self.kept_until = _NEVER

    def take(self, reading: UsageReading, now: float, *, marked: bool) -> array[int]:
        """Return the counters of a reading; ``marked``: keep them as those of now."""
        names = _names(tuple(reading.sources), tuple(reading.sinks))
        counters = array("q")
        for one in (*reading.sources.values(), *reading.sinks.values()):
            counters.extend(one[1:])
        if names != self.names:
            self._rename(names)
        size = 1 + len(counters)
        if not self.marks or any(a < b for a, b in zip(counters, self._last(size), strict=True)):
            # New here, or began anew: what is counted has come since the last look.
            self.marks, self.rows = 1, array("q", bytes(8 * size * _MARKS))
            self.rows[0] = round(now * _US)
        elif marked:
            if self.marks == _MARKS:
                self.rows[:-size] = self.rows[size:]
            else:
                self.marks += 1
            start = size * (self.marks - 1)
            self.rows[start] = round(now * _US)
            self.rows[start + 1 : start + size] = counters
        return counters

    def first(self, count: int) -> tuple[float, array[int]]:
        """Return the time of the oldest mark, s, and its ``count`` counters."""
        return self.rows[0] / _US, self.rows[1 : 1 + count]

    def _last(self, size: int) -> array[int]:
        return self.rows[size * (self.marks - 1) + 1 : size * self.marks]

    def _rename(self, names: tuple[tuple[str, str], ...]) -> None:
        """Bring the marks into the order of other names; counters that are new were 0."""
        places: dict[tuple[str, str], tuple[int, int]] = {}
        size = 1
        for name in self.names:
            places[name] = (size, size + _COUNTERS[name[0]])
            size += _COUNTERS[name[0]]
        renamed = array("q")
        for start in range(0, size * self.marks, size):
            old = self.rows[start : start + size]
            renamed.append(old[0])
            for name in names:
                first, end = places.get(name, (0, 0))
                renamed.extend(old[first:end] or [0] * _COUNTERS[name[0]])
        width = 1 + sum(_COUNTERS[kind] for kind, _ in names)
        renamed.extend([0] * (width * (_MARKS - self.marks)))
        self.names = names
        self.rows = renamed


class UsageMeter:
    """The usage of every exporter; ``read`` returns the counters of one by its id, None if gone.

    ``now`` is any monotonic clock, s.
    """

    def __init__(self, read: Callable[[str], UsageReading | None]) -> None:
        self._read = read
        self._windows: dict[str, _Window] = {}

    def mark(self, exporter: str, now: float) -> None:
        """Take the counters of an exporter as those of now, about every :data:`MARK_S`."""
        reading = self._read(exporter)
        if reading is not None:
            window = self._windows.setdefault(exporter, _Window())
            window.take(reading, now, marked=True)
            if now >= window.kept_until:
                window.kept = NO_USAGE

    def forget_all_but(self, exporters: Iterable[str]) -> None:
        """Forget the exporters that are not among these."""
        for gone in self._windows.keys() - set(exporters):
            del self._windows[gone]

    def usage(self, exporter: str, now: float, *, kept: bool = True) -> ExporterUsage:
        """Return the usage of an exporter; nothing if it does not run.

        Cheap where it is asked for often: the same object for :data:`KEPT_S`. Not ``kept``: for one
        page of all exporters, whose figures would take more than all their counters.
        """
        window = self._windows.get(exporter)
        if window is not None and now < window.kept_until:
            return window.kept
        reading = self._read(exporter)
        if reading is None:
            return NO_USAGE
        if window is None:
            window = self._windows[exporter] = _Window()
        figures = _figures(reading, window, now)
        if kept:
            window.kept, window.kept_until = figures, now + KEPT_S
        return figures

    def __repr__(self) -> str:
        return f"<UsageMeter of {len(self._windows)} exporters>"


def _figures(reading: UsageReading, window: _Window, now: float) -> ExporterUsage:
    counters = window.take(reading, now, marked=False)
    began, before = window.first(len(counters))
    factor = 60.0 / max(now - began, MARK_S)
    rates = iter([round((a - b) * factor) for a, b in zip(counters, before, strict=True)])
    sources = {
        name: UsageFigures(one.series, next(rates), records_per_minute=next(rates))
        for name, one in reading.sources.items()
    }
    sinks = {
        name: UsageFigures(one.series, next(rates), next(rates), next(rates), next(rates))
        for name, one in reading.sinks.items()
    }
    return ExporterUsage(sum_usage(sinks.values(), reading.series), sources, sinks)


def sum_usage(parts: Iterable[UsageFigures], series: int) -> UsageFigures:
    """Return the sum of exporters that take so many different series together."""
    samples = sent = resent = records = 0
    for one in parts:
        samples += one.samples_per_minute
        sent += one.bytes_per_minute
        resent += one.resent_per_minute
        records += one.records_per_minute
    return UsageFigures(series, samples, sent, resent, records)
