"""Results of requests of logs and traces, and their counts.

Compiled with what makes them for every request (:mod:`relay.pipeline.records.pipeline`).
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.codec.otlp.batch import OpenBatch
from relay.codec.signal_names import RecordSignal
from relay.pipeline.batching.transaction import AcceptedCounts
from relay.pipeline.records.entries import RecordPlan, ResourceEntry
from relay.pipeline.records.resource_table import ResourceTableStatistics
from relay.pipeline.records.selecting import Ranges
from relay.pipeline.records.sources import RecordRoute
from relay.pipeline.signal import Sealed


class RecordsTaken:
    """Implements :class:`relay.pipeline.signal.Accepted`."""

    def __init__(
        self,
        request: int,
        taken: AcceptedCounts,
        sealed: Sealed,
        dropped: dict[str, int],
        examples: list[str],
    ) -> None:
        self.request = request
        self.taken = taken
        self.sealed = sealed
        self.has_effect = False
        self.dropped = dropped
        self.examples = examples

    def __repr__(self) -> str:
        return f"<RecordsTaken {self.request} {self.taken}>"


@dataclass(frozen=True, slots=True)
class RecordsReplayed:
    """Implements :class:`relay.pipeline.signal.ReplayResult`."""

    transaction: RecordsTaken
    withheld: list[tuple[OpenBatch, int]]


@dataclass(frozen=True, slots=True)
class RecordStatistics:
    """Counters since the start: records received, without project, too large, and unmatched."""

    signal: RecordSignal
    received: int
    no_tenant: int
    oversized: int
    unmatched: int
    resources: ResourceTableStatistics


class RequestCounts:
    """Counts of one request, added to the counters once it is final.

    ``resources`` are those of the envelope, in its order; ``plans`` have the records that they
    took, ``sources`` those that were taken, those beyond the project's share, and those that are to
    be redacted and cannot be read.
    """

    def __init__(self) -> None:
        self.received = self.no_tenant = self.oversized = self.unmatched = 0
        self.resources: list[ResourceEntry] = []
        self.plans: list[tuple[RecordPlan, int]] = []
        self.sources: list[tuple[RecordRoute, int, int, int]] = []
        self.example = ""

    def __repr__(self) -> str:
        return f"<RequestCounts of {self.received} records>"


def count_taken(source: RecordRoute, count: int, refused: int = 0, unreadable: int = 0) -> None:
    """Count records for a source and the sinks that it feeds.

    Besides those taken: ``refused`` are beyond a share, ``unreadable`` could not be redacted.
    """
    matched = count + refused + unreadable
    source.counter.samples += matched
    for target in source.targets:
        counter = target.counter
        counter.samples += matched
        counter.refused += refused
        counter.exported += count
        counter.points += count


def covered_by(taken: list[Ranges], whole: Ranges) -> int:
    """Return how many records are in one of the rows at least."""
    if any(ranges is whole for ranges in taken):
        ((first, stop),) = whole
        return stop - first
    covered = reached = 0
    for first, stop in sorted(row for ranges in taken for row in ranges):
        if stop > reached:
            covered += stop - max(first, reached)
            reached = stop
    return covered
