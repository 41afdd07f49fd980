"""One sink's account at one moment, and how accounts add up."""

from __future__ import annotations

import msgspec

from relay.sink.queue.queue import QueueStatistics
from relay.sink.reporting.ledger import LedgerStatistics
from relay.sink.reporting.statistics import SinkStatistics


class SinkReport(msgspec.Struct, frozen=True):
    """One sink's account at one moment.

    ``matched`` points are counted where series are matched (or where several samples became one
    point), or were found on disk at the start; all others where points are batched, sent and given
    up: that both sides agree is what :attr:`balanced` says. ``matched_samples`` are what the points
    were made of, and those that wait to become one or became none. ``open`` points are in the batch
    that still grows since ``open_since`` (wall clock, s), ``queued`` ones behind it. ``removed``:
    it only sends what is left.
    """

    exporter: str
    sink: str
    matched: int
    matched_samples: int
    ledger: LedgerStatistics
    open: int
    open_since: float | None
    worker: SinkStatistics
    queue: QueueStatistics
    oldest_point_age_s: float | None
    removed: bool = False

    @property
    def balanced(self) -> bool:
        """Whether every matched point is accounted for, exactly once."""
        return self.matched == self.ledger.offered + self.open and self.ledger.balanced


def sum_queues(parts: list[QueueStatistics]) -> QueueStatistics:
    """Several workers' queues as one."""
    if len(parts) == 1:
        return parts[0]
    totals = (sum(column) for column in zip(*map(msgspec.structs.astuple, parts), strict=True))
    return QueueStatistics(*totals)


def sum_ledgers(parts: list[LedgerStatistics]) -> LedgerStatistics:
    """Several ledgers as one."""
    if len(parts) == 1:
        return parts[0]
    rejected: dict[str, int] = {}
    dropped: dict[str, int] = {}
    for part in parts:
        for reason, points in part.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + points
        for reason, points in part.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + points
    return LedgerStatistics(
        offered=sum(part.offered for part in parts),
        delivered=sum(part.delivered for part in parts),
        rejected=rejected,
        expired=sum(part.expired for part in parts),
        dropped=dropped,
        queued=sum(part.queued for part in parts),
    )
