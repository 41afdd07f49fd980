"""Series, where they go, and the table that recognises them.

A *series* is its raw label bytes, as they stand in the sender's message. What depends on labels
alone is worked out when those bytes are first seen and kept here; a sample then costs a comparison
of bytes and an append. Rules:

* ``Series.generation`` equals ``SeriesTable.generation`` exactly while its routes may be used. A
  change of exporters, of a metric's type, or a rotation of the table makes it differ, and the
  series goes through :meth:`SeriesTable.find` once more.
* ``Series.generation`` is negative for a series that is forgotten, or not kept yet.
* ``Series.next`` is only a guess: the series that followed last time. A wrong guess costs a
  dictionary look-up, never a wrong answer, because bytes are compared first.
* The table forgets what has not been seen for a whole rotation. A rotation happens when the young
  half is full, so at most ``series_max`` series are held and those in use stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.wire.batch import OpenBatch
from relay.wire.otlp import MetricGroup

if TYPE_CHECKING:
    from relay.pipeline.metric_types import Typing
    from relay.pipeline.native import NativeRoute
    from relay.pipeline.streams import Handler

Route = tuple[OpenBatch, MetricGroup, bytes]
"""Where a series' points go: the batch, the metric they belong to, and their prepared prefix."""


class SourceTally:
    """Samples that one source of one exporter has matched. Compared by identity."""

    __slots__ = ("exporter", "samples", "source")

    def __init__(self, exporter: str, source: str) -> None:
        self.exporter = exporter
        self.source = source
        self.samples = 0

    def __repr__(self) -> str:
        return f"<SourceTally {self.exporter} {self.source} {self.samples}>"


class SinkTally:
    """Points that one sink must account for: the left side of its ledger. Compared by identity.

    ``samples`` counts what its sources matched, ``points`` what was made of that for it: several
    samples may become one point, or none.
    """

    __slots__ = ("exporter", "points", "samples", "sink")

    def __init__(self, exporter: str, sink: str) -> None:
        self.exporter = exporter
        self.sink = sink
        self.points = 0
        self.samples = 0

    def __repr__(self) -> str:
        return f"<SinkTally {self.exporter} {self.sink} {self.points}>"


class Plan:
    """The set of sources that a series matched, shared by all series with the same set.

    ``samples`` is counted once for a stretch of samples and handed on by :meth:`fold`, so that
    neither the number of sources nor the number of sinks costs anything per sample. A sink appears
    once for each of its sources that matched: two sources that match the same series export it
    twice. To ``sinks`` every sample is a point; ``handled_sinks`` get what the series' handlers
    make, and their points are counted when they are made.
    """

    __slots__ = ("handled", "handled_sinks", "samples", "sinks", "sources")

    def __init__(
        self,
        sources: tuple[SourceTally, ...],
        sinks: tuple[SinkTally, ...],
        handled_sinks: tuple[SinkTally, ...] = (),
    ) -> None:
        self.sources = sources
        self.sinks = sinks
        self.handled_sinks = handled_sinks
        self.handled = bool(handled_sinks)
        """Whether samples must be handed to the series' handlers, besides its routes."""
        self.samples = 0

    def fold(self) -> None:
        """Move what was counted here into the tallies of sources and sinks."""
        if self.samples:
            for source in self.sources:
                source.samples += self.samples
            for sink in self.sinks:
                sink.points += self.samples
                sink.samples += self.samples
            for sink in self.handled_sinks:
                sink.samples += self.samples
            self.samples = 0

    def __repr__(self) -> str:
        return f"<Plan {len(self.sources)} sources, {len(self.sinks)} sinks>"


class Fact:
    """Something that series rest on and that may change; ``version`` counts how often it did."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = 0


class Series:
    """One series as the kernel sees it; see the module's rules.

    ``name`` is the metric's name and ``fault`` the reason why none of its samples can be used, ""
    for a good series. ``resolved`` is the version of the routes that it holds and ``typing`` the
    type they were made for, None where they are for no type or there are none; ``facts`` is what
    else they rest on, and ``seen`` the sum of the facts' versions then. ``handlers`` get each
    sample besides the routes, where the plan says so; ``native`` is where native histograms go,
    None until the first one comes.
    """

    __slots__ = (
        "facts",
        "fault",
        "generation",
        "handlers",
        "key",
        "name",
        "native",
        "next",
        "plan",
        "resolved",
        "routes",
        "seen",
        "typing",
    )

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.next: Series | None = None
        self.generation = -1
        self.resolved = -1
        self.plan = UNMATCHED
        self.routes: tuple[Route, ...] = ()
        self.handlers: tuple[Handler, ...] = ()
        self.typing: Typing | None = None
        self.facts: tuple[Fact, ...] = ()
        self.seen = 0
        self.native: NativeRoute | None = None
        self.name = ""
        self.fault = ""

    def __repr__(self) -> str:
        return f"<Series {self.name or self.key!r} -> {len(self.routes)} routes>"


UNMATCHED = Plan((), ())
"""Stands in until a series is resolved; the router makes the one that counts."""


@dataclass(frozen=True, slots=True)
class SeriesTableStatistics:
    """``active`` series known now; ``created`` and ``forgotten`` since the start."""

    active: int
    created: int
    forgotten: int
    rotations: int


class SeriesTable:
    """Finds series by their bytes; bounded by ``series_max``."""

    def __init__(self, *, series_max: int) -> None:
        assert series_max >= 2
        self.root = Series(b"")
        self.root.generation = 0
        """Its successor is the series that began the last request."""
        self.generation = 0
        self._half = series_max // 2
        self._young: dict[bytes, Series] = {}
        self._old: dict[bytes, Series] = {}
        self._created = 0
        self._forgotten = 0
        self._rotations = 0

    def find(self, key: bytes) -> Series | None:
        """Return the series with these bytes, marking it as seen, or None."""
        series = self._young.get(key)
        if series is None:
            series = self._old.pop(key, None)
            if series is not None:
                self._keep(series)
        return series

    def add(self, series: Series) -> None:
        """Keep a series that :meth:`find` did not know. The oldest unseen ones may be forgotten."""
        self._created += 1
        self._keep(series)

    def invalidate(self) -> None:
        """Make every series go through :meth:`find` before its routes are used again."""
        self.generation += 1

    def statistics(self) -> SeriesTableStatistics:
        """A snapshot."""
        active = len(self._young) + len(self._old)
        return SeriesTableStatistics(active, self._created, self._forgotten, self._rotations)

    def _keep(self, series: Series) -> None:
        if len(self._young) >= self._half:
            self._rotate()
        self._young[series.key] = series

    def _rotate(self) -> None:
        # A forgotten series may still be some live one's guess: cut its own guess, or a whole chain
        # of forgotten series would be kept alive behind it.
        for series in self._old.values():
            series.next = None
            series.generation = -1
        self._forgotten += len(self._old)
        self._old = self._young
        self._young = {}
        self._rotations += 1
        # Series recognised by their link alone must pass through find() once to be kept.
        self.generation += 1

    def __repr__(self) -> str:
        return f"<SeriesTable {len(self._young)}+{len(self._old)} series>"
