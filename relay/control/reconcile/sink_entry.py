"""One sink by name: its count of matched points, the workers that serve it, and what those need."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from relay.config.exporter.types import Exporter
from relay.control.reconcile.sink_report import SinkReport, sum_ledgers, sum_queues
from relay.pipeline.routing.match_set import SinkCounter
from relay.sink.reporting.ledger import LedgerStatistics
from relay.sink.spill.owner import Owner
from relay.sink.spill.store import SinkStore
from relay.sink.worker import SinkWorker


@dataclass(frozen=True, slots=True)
class SinkDependencies:
    """What the fleet gives a sink's worker: its part of the disk, or None; whom to ask before it
    stores; the oldest position that the pipeline holds; whom to tell that it needs upkeep again."""

    store: SinkStore | None
    make_room: Callable[[SinkWorker, int], bool]
    low_limit: Callable[[], int]
    awake: Callable[[SinkWorker], None]


@dataclass(frozen=True, slots=True)
class SinksSnapshot:
    """All exporters, the accounts of their sinks, and that of all sinks that are gone."""

    exporters: tuple[Exporter, ...]
    sinks: tuple[SinkReport, ...]
    departed: LedgerStatistics


@dataclass(slots=True, eq=False)
class SinkEntry:
    """``worker`` serves the sink of ``owner`` now; ``leaving`` are those of before it was removed
    and added again, ``past`` the ledgers of those that have ended."""

    tally: SinkCounter
    worker: SinkWorker
    owner: Owner
    leaving: list[SinkWorker] = field(default_factory=list)
    past: list[LedgerStatistics] = field(default_factory=list)

    @property
    def workers(self) -> tuple[SinkWorker, ...]:
        """All of them, the present one first."""
        return (self.worker, *self.leaving)

    def report(self, *, removed: bool) -> SinkReport:
        """The sink's account at this moment."""
        workers, points, since = self.workers, 0, math.inf
        for worker in workers:
            for shard in worker.shards:
                if shard.count:
                    points += shard.count
                    since = min(since, shard.opened_at)
        statistics = [worker.statistics() for worker in workers]
        ages = [one.oldest_point_age_s for one in statistics if one.oldest_point_age_s is not None]
        return SinkReport(
            self.tally.exporter,
            self.tally.sink,
            self.tally.points,
            self.tally.samples,
            sum_ledgers([*self.past, *[one.ledger for one in statistics]]),
            points,
            since if points else None,
            statistics[0],
            sum_queues([one.queue for one in statistics]),
            max(ages) if ages else None,
            removed,
        )


def farewell(kept: int, lost: int) -> str:
    """Say what became of the points that a removed sink still had."""
    if lost:
        return "sink removed, points that were left in its queue were given up"
    return "sink removed, its queue is kept" if kept else "sink removed, its queue is empty"
