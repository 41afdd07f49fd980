"""The report of one sink, and sums of its parts."""

from __future__ import annotations

import msgspec

from relay.sink.queue.queue import QueueStatistics
from relay.sink.reporting.ledger import LedgerStatistics
from relay.sink.reporting.statistics import SinkStatistics


class SinkReport(msgspec.Struct, frozen=True):
    """Ledger, queue and health of one sink at one moment.

    ``matched`` points are counted when a point is made from matched samples, or found on disk at
    the start; all other counts come from batching and sending, and :attr:`balanced` compares the
    two. ``matched_samples`` includes samples that wait for a point or became none. ``open`` points
    are in the batch that grows since ``open_since`` (wall clock, s); ``queued`` ones are behind it.
    ``removed``: the sink only drains. ``group`` is its project, or its exporter without tenancy;
    ``refused_samples``, part of the matched ones, were above the project's limits.
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
    group: str = ""
    refused_samples: int = 0

    @property
    def balanced(self) -> bool:
        """True if every matched point is accounted for exactly once."""
        return self.matched == self.ledger.offered + self.open and self.ledger.balanced

    def oldest_age_s(self, now: float) -> float:
        """Return the age of the oldest point queued or in an open batch in s; 0 if there is none.

        ``now`` is the wall clock, s.
        """
        opened = self.open_since
        return max(self.oldest_point_age_s or 0.0, now - opened if opened else 0.0)


def sum_queues(parts: list[QueueStatistics]) -> QueueStatistics:
    """Sum up the queues of several workers."""
    if len(parts) == 1:
        return parts[0]
    totals = (sum(column) for column in zip(*map(msgspec.structs.astuple, parts), strict=True))
    return QueueStatistics(*totals)


def sum_ledgers(parts: list[LedgerStatistics]) -> LedgerStatistics:
    """Sum up several ledgers."""
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
