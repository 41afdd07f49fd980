"""Routes the native histograms of a series.

Native histograms arrive as samples of an ordinary series, ``foo`` and not ``foo_bucket``, and only
the sample shows it. Rules:

* A schema from -4 to 8 becomes an exponential histogram, -53 an explicit one: two metrics in OTLP,
  made when the first point of either comes.
* A stale marker has no buckets to tell which of the two it ends. It ends the one that the series
  had last, and is an exponential one where there was none since we started.
* Prometheus can send the same histogram twice, as a classic one and with custom buckets. Both are
  one metric in OTLP: a source that takes both gets the classic one, for as long as that comes.
* Backends that store buckets as series end those alone that a stale point names: it repeats the
  buckets of the last point. Explicit ones are empty in it. Exponential ones keep their counts, as
  VictoriaMetrics passes empty ones over; with the flag set, no count means anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from relay.codec.otlp.data_points import Exemplar, ExponentialPoint
from relay.codec.otlp.metrics import Kind
from relay.pipeline.batching.emitter import Emitter, Stream
from relay.pipeline.batching.transaction import NativePoint
from relay.pipeline.drop_counters import DropTable
from relay.pipeline.routing.match_set import MatchedSource, MatchSet, SinkCounter


class Ways(NamedTuple):
    """Outputs of one kind of native histogram.

    Its streams, the sinks that do not take this kind, and the sinks that get the classic histogram
    of the same name.
    """

    streams: tuple[Stream, ...]
    refused: tuple[SinkCounter, ...]
    doubled: tuple[SinkCounter, ...]


Make = Callable[[Kind, frozenset[MatchedSource]], Ways]
"""Builds the outputs of a kind, for all sources but these."""
_NONE: frozenset[MatchedSource] = frozenset()


_ZERO = bytes(8)


class NativeRoute:
    """The native histograms of one series.

    ``match_set`` counts them. No sink takes them if ``make`` is None. ``twins`` returns the sources
    that have the classic histogram for a time, ns.
    """

    __slots__ = (
        "_drops",
        "_kind",
        "_last",
        "_make",
        "_name",
        "_twins",
        "_ways",
        "exemplars",
        "match_set",
    )

    def __init__(
        self,
        name: str,
        match_set: MatchSet,
        drops: DropTable,
        make: Make | None = None,
        twins: Callable[[int], frozenset[MatchedSource]] = lambda time_ns: _NONE,
    ) -> None:
        self._name = name
        self._twins = twins
        self._drops = drops
        self.match_set = match_set
        self.exemplars: tuple[Exemplar, ...] = ()
        """Exemplars that came without a sample; they go with the next point."""
        self._make = make
        self._kind: Kind = "exponential_histogram"
        self._last: NativePoint | None = None
        self._ways: dict[tuple[Kind, frozenset[MatchedSource]], Ways] = {}

    @property
    def wanted(self) -> bool:
        """Return True if any sink takes native histograms of the series."""
        return self._make is not None

    def push(self, point: NativePoint, emitter: Emitter) -> None:
        """Send one point to every sink that wants it."""
        if self._make is None:
            return
        if not point.stale:
            self._kind = _kind(point)
            self._last = point
        elif self._last is not None:
            point = _ended(self._last, point.time_ns)
        if self.exemplars:
            point = dataclasses.replace(point, exemplars=point.exemplars + self.exemplars)
            self.exemplars = ()
        twins = self._twins(point.time_ns) if self._kind == "histogram" else _NONE
        ways = self._ways.get((self._kind, twins))
        if ways is None:
            ways = self._ways[self._kind, twins] = self._make(self._kind, twins)
        is_sent = False
        for stream in ways.streams:
            is_sent |= stream.push(point, emitter.origin, emitter)
        if point.exemplars:
            emitter.transaction.note_exemplars(len(point.exemplars), is_sent)
        if ways.refused:
            self._drops.count(self._name, "unsupported_kind", 1, ways.refused)
        if ways.doubled:
            self._drops.count(self._name, "classic_twin", 1, ways.doubled)

    def __repr__(self) -> str:
        return f"<NativeRoute {self._kind} {self._ways!r}>"


def _ended(last: NativePoint, time_ns: int) -> NativePoint:
    """Return the stale point that ends a series with this last point."""
    ended = dataclasses.replace(last, time_ns=time_ns, start_ns=0, exemplars=(), stale=True)
    if isinstance(ended, ExponentialPoint):
        return ended
    total = None if ended.sum is None else _ZERO
    return dataclasses.replace(ended, count=0, sum=total, counts=(0,) * len(ended.counts))


def _kind(point: NativePoint) -> Kind:
    return "exponential_histogram" if isinstance(point, ExponentialPoint) else "histogram"
