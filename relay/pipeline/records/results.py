"""Results of requests of logs and traces, and their counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.codec.otlp.batch import OpenBatch
from relay.codec.signal_names import RecordSignal
from relay.pipeline.batching.transaction import AcceptedCounts
from relay.pipeline.records.entries import RecordPlan
from relay.pipeline.records.resource_table import ResourceTableStatistics
from relay.pipeline.records.selecting import Ranges
from relay.pipeline.records.sources import RecordRoute
from relay.pipeline.signal import Sealed


@dataclass(slots=True)
class RecordsTaken:
    """Implements :class:`relay.pipeline.signal.Accepted`."""

    request: int
    taken: AcceptedCounts
    sealed: Sealed
    has_effect: bool
    dropped: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)


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


@dataclass(slots=True)
class RequestCounts:
    """Counts of one request, added to the counters once it is final."""

    received: int = 0
    no_tenant: int = 0
    oversized: int = 0
    unmatched: int = 0
    plans: list[tuple[RecordPlan, int]] = field(default_factory=list)
    sources: list[tuple[RecordRoute, int, int, int]] = field(default_factory=list)
    """With the records that were taken, those beyond the project's share, and those that are to be
    redacted and cannot be read."""
    example: str = ""


def count_taken(source: RecordRoute, count: int, *, refused: int = 0, unreadable: int = 0) -> None:
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
