"""What a series matched: sources, the sinks that they feed, and how their samples are counted.

All series that matched the same sources share one :class:`Plan`; a sample is counted there, and
the sums are handed on to sources and sinks when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.wire.batch import OpenBatch


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
    """Points that one sink must account for: the left side of its ledger. Compared by identity."""

    __slots__ = ("exporter", "points", "sink")

    def __init__(self, exporter: str, sink: str) -> None:
        self.exporter = exporter
        self.sink = sink
        self.points = 0

    def __repr__(self) -> str:
        return f"<SinkTally {self.exporter} {self.sink} {self.points}>"


class Target:
    """One sink as the pipeline sees it: its open batches, one per lane, and what it was given."""

    __slots__ = ("lanes", "tally")

    def __init__(self, tally: SinkTally, lanes: Sequence[OpenBatch]) -> None:
        assert lanes
        self.lanes = tuple(lanes)
        self.tally = tally

    def __repr__(self) -> str:
        return f"<Target {self.tally.exporter} {self.tally.sink}>"


class SourceRoute:
    """One source of one exporter, and the sinks that it feeds. Compared by identity.

    ``sequence`` is its place among all sources, in the order in which they came. ``targets`` change
    in place when only the exporter's sinks do; the plans that hold the route end with that.
    ``alive`` is False once the source is no longer routed.
    """

    __slots__ = ("alive", "sequence", "tally", "targets")

    def __init__(self, tally: SourceTally, targets: Sequence[Target], sequence: int) -> None:
        self.tally = tally
        self.targets = tuple(targets)
        self.sequence = sequence
        self.alive = True

    def __repr__(self) -> str:
        return f"<SourceRoute {self.tally.exporter} {self.tally.source}>"


class Partition:
    """The exporters that may see a series at all, those of its project; ``version`` moves with
    every change of what they select."""

    __slots__ = ("project", "version")

    def __init__(self, project: str, version: int = 0) -> None:
        self.project = project
        self.version = version

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.project!r} version {self.version}>"


DEAD = Partition("", -2)
"""The partition of a plan that must not be used any more: no series was ever resolved at its
version."""


class Plan:
    """The set of sources that a series matched, shared by all series with the same set.

    A series may use its plan for as long as ``partition.version`` is what it was resolved at.

    ``samples`` is counted once for a stretch of samples and handed on by :meth:`fold`, so that
    neither the number of sources nor the number of sinks costs anything per sample. A sink appears
    once for each of its sources that matched: two sources that match the same series export it
    twice.
    """

    __slots__ = ("home", "matched", "partition", "samples", "sinks", "sources")

    def __init__(self, home: Partition, matched: tuple[SourceRoute, ...] = ()) -> None:
        self.home = home
        self.partition = home
        self.matched = matched
        self.sources = tuple(route.tally for route in matched)
        self.sinks = tuple(target.tally for route in matched for target in route.targets)
        self.samples = 0

    def fold(self) -> None:
        """Move what was counted here into the tallies of sources and sinks."""
        if self.samples:
            for source in self.sources:
                source.samples += self.samples
            for sink in self.sinks:
                sink.points += self.samples
            self.samples = 0

    def kill(self) -> None:
        """Make every series that holds the plan look for another one."""
        self.partition = DEAD

    def __repr__(self) -> str:
        return f"<Plan {len(self.sources)} sources, {len(self.sinks)} sinks>"


UNMATCHED = Plan(Partition(""))
"""Stands in until a series is resolved; the router makes the ones that count."""
