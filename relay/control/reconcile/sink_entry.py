"""One sink by name: its counter of matched points, its workers, and their dependencies."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from relay.config.exporter.types import Exporter, PrometheusRemoteWrite, Sink
from relay.control.reconcile.sink_report import SinkReport, sum_ledgers, sum_queues
from relay.pipeline.routing.match_set import PLAIN, OutputOptions, SinkCounter
from relay.sink.eviction import Evictor
from relay.sink.reporting.ledger import EMPTY_LEDGER, LedgerStatistics
from relay.sink.spill.owner import Owner
from relay.sink.worker import SinkWorker

if TYPE_CHECKING:
    from relay.sink.spill.orphans import StoredQueue
    from relay.sink.spill.store import QueueStore

_log = logging.getLogger("relay.control.reconcile")

SinkKey = tuple[str, str]
"""Exporter id and sink name."""


class ReconcilerHost(msgspec.Struct, frozen=True):
    """Implements :class:`relay.sink.interface.SinkHost` for the reconciler's sinks.

    ``awake`` is the reconciler's ordered set of the sinks that need :meth:`SinkWorker.tick`.
    """

    evictor: Evictor
    low_limit: Callable[[], int]
    awake: dict[SinkWorker, None]

    def make_room(self, worker: SinkWorker, size: int) -> bool:
        """Return whether a sink may store so many bytes, after evicting others' where possible."""
        return self.evictor.make_room(worker, size)

    def low_watermark(self) -> int:
        """Return the oldest ingest position that the pipeline holds."""
        return self.low_limit()

    def on_wake(self, worker: SinkWorker) -> None:
        """Call the sink's tick again."""
        self.awake[worker] = None


class SinksSnapshot(msgspec.Struct, frozen=True):
    """All exporters, the reports of their sinks, and the ledger of all removed sinks."""

    exporters: tuple[Exporter, ...]
    sinks: tuple[SinkReport, ...]
    removed_ledger: LedgerStatistics


NO_SINKS = SinksSnapshot((), (), EMPTY_LEDGER)


@dataclass(slots=True, eq=False)
class SinkEntry:
    """Workers and counters of one sink.

    ``worker`` serves the sink of ``owner``. ``draining``: workers from before it was removed and
    added again. ``ended_ledgers``: ledgers of workers that have ended. ``matched_before``: points
    that the worker had when the present version of its exporter was applied.
    """

    counter: SinkCounter
    worker: SinkWorker
    owner: Owner
    draining: tuple[SinkWorker, ...] = ()
    ended_ledgers: tuple[LedgerStatistics, ...] = ()
    matched_before: int = 0

    @property
    def key(self) -> SinkKey:
        """Exporter id and sink name."""
        return self.counter.exporter, self.counter.sink

    @property
    def workers(self) -> tuple[SinkWorker, ...]:
        """All workers, the current one first."""
        return (self.worker, *self.draining)

    def report(self, *, removed: bool) -> SinkReport:
        """Return the sink's report."""
        workers, points, since = self.workers, 0, math.inf
        for worker in workers:
            for shard in worker.shards:
                if shard.count:
                    points += shard.count
                    since = min(since, shard.opened_at)
        statistics = [worker.statistics() for worker in workers]
        ages = [one.oldest_point_age_s for one in statistics if one.oldest_point_age_s is not None]
        return SinkReport(
            self.counter.exporter,
            self.counter.sink,
            self.counter.points,
            self.counter.samples,
            sum_ledgers([*self.ended_ledgers, *[one.ledger for one in statistics]]),
            points,
            since if points else None,
            statistics[0],
            sum_queues([one.queue for one in statistics]),
            max(ages) if ages else None,
            removed,
            self.counter.group,
            self.counter.refused,
        )


@dataclass(slots=True, eq=False)
class RunningExporter:
    """An exporter as it runs, since when it does so (wall clock, s), and its outputs by name.

    A version that differs in nothing that runs only takes the place of ``exporter``.
    """

    exporter: Exporter
    programmed_at: float
    entries: Mapping[str, SinkEntry]


def members_of(entries: Iterable[SinkEntry]) -> Iterator[tuple[str, SinkWorker]]:
    """Yield every worker with its tenant."""
    for entry in entries:
        for worker in entry.workers:
            yield entry.counter.group, worker


def farewell(kept: int, lost: int, *, is_deleted: bool) -> str:
    """Return the log text for the points that a removed sink still had."""
    if lost and is_deleted:
        return "sink removed, its object is deleted: points that were left in its queue are dropped"
    if lost:
        return "sink removed, points that were left in its queue were given up"
    return "sink removed, its queue is kept" if kept else "sink removed, its queue is empty"


def output_options(sink: Sink) -> OutputOptions:
    """Return the sink's options for the pipeline."""
    endpoint = sink.endpoint
    if isinstance(endpoint, PrometheusRemoteWrite):
        return OutputOptions(
            protocol="remoteWrite1" if endpoint.version == "1.0" else "remoteWrite2",
            external_labels=endpoint.external_labels,
            sends_metadata=endpoint.sends_metadata,
        )
    kinds, keeps = endpoint.unsupported_kinds, endpoint.keeps_target_labels
    options = OutputOptions(endpoint.temporality, endpoint.promoted_labels, kinds, keeps)
    return PLAIN if options == PLAIN else options


def same_delivery(old: Sink, new: Sink) -> bool:
    """Return whether the worker of ``old`` serves ``new`` as it is, but for a pause."""
    return replace(old, sources=(), paused=False) == replace(new, sources=(), paused=False)


def log_fields(queue: StoredQueue) -> dict[str, object]:
    """Return the fields that identify a queue on disk in the log."""
    exporter, sink = queue.names
    return {"exporter": exporter, "sink": sink, "points": queue.points}


def keep_orphans(store: QueueStore, is_deleted: Callable[[Owner], bool]) -> None:
    """Make orphans of the queues that no sink has claimed, and delete those of deleted objects."""
    new = {id(queue) for queue in store.keep_orphans()}
    for queue in list(store.orphans):
        owner = queue.owner
        if owner is not None and owner.uid and owner.control_plane and is_deleted(owner):
            store.delete_orphan(queue)
            _log.warning(
                "queue on disk of a deleted object: dropped",
                extra={**log_fields(queue), "reason": "deleted"},
            )
        elif id(queue) in new and queue.points:
            _log.warning("queue on disk of a sink that does not run: kept", extra=log_fields(queue))
