"""The sinks in service, and how a new set of exporters becomes them.

Rules:

* Whatever did not change is not touched: an exporter that is equal keeps its routes, a sink that is
  equal keeps its worker with its batches, queue and connections.
* A sink that leaves first sends what it has, for as long as the drain timeout allows; what is left
  then is dropped and counted.
* Changes are applied one exporter at a time, each at once and as a whole; after some milliseconds
  of that, senders have their turn.
* A sink's ledger outlives its workers: figures are those of its worker, of earlier ones that still
  drain, and of those that are gone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from relay.exporter.model import Exporter, Sink
from relay.pipeline.engine import Engine
from relay.pipeline.plans import SinkTally, Target, TargetOptions
from relay.pipeline.router import Sources
from relay.sink.ledger import LedgerStatistics
from relay.sink.worker import SinkStatistics, SinkWorker

_log = logging.getLogger("relay.fleet")

MakeWorker = Callable[[Exporter, Sink], SinkWorker]
"""Builds the worker of one sink, not started."""

SinkKey = tuple[str, str]
"""Exporter's id and sink's name."""


SLICE_S = 0.005
"""How long changes are applied before whoever waits for the loop has a turn."""


@dataclass(frozen=True, slots=True)
class Differences:
    """What has to be done so that exactly the exporters in ``wanted`` run, by id."""

    wanted: Mapping[str, Exporter]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What applying a new set of exporters did; ids of exporters."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class SinkReport:
    """One sink's account at one moment.

    ``matched`` points are counted where series are matched (or where several samples became one
    point), all others where points are batched, sent and given up: that both sides agree is what
    :attr:`balanced` says. ``matched_samples`` are what the points were made of, and those that
    wait to become one or became none. ``open`` points are in the batch that still grows since
    ``open_since`` (wall clock, s), ``queued`` ones behind it.
    """

    exporter: str
    sink: str
    matched: int
    matched_samples: int
    ledger: LedgerStatistics
    open: int
    open_since: float | None
    worker: SinkStatistics

    @property
    def balanced(self) -> bool:
        """Whether every matched point is accounted for, exactly once."""
        return self.matched == self.ledger.offered + self.open and self.ledger.balanced


@dataclass(slots=True, eq=False)
class _Record:
    """One sink by name: its count of matched points, its worker, and those before it."""

    tally: SinkTally
    worker: SinkWorker
    leaving: list[SinkWorker] = field(default_factory=list)
    past: list[LedgerStatistics] = field(default_factory=list)

    def ledger(self) -> LedgerStatistics:
        parts = [worker.statistics().ledger for worker in (self.worker, *self.leaving)]
        return _sum([*self.past, *parts])


class Fleet:
    """Keeps workers and routes in step with the exporters. Lives on the event loop."""

    def __init__(self, engine: Engine, make_worker: MakeWorker, *, drain_timeout_s: float) -> None:
        self._engine = engine
        self._make_worker = make_worker
        self._drain_timeout_s = drain_timeout_s
        self._exporters: dict[str, Exporter] = {}
        self._records: dict[SinkKey, _Record] = {}
        self._retirements: set[asyncio.Task[None]] = set()
        self._blocking: list[SinkWorker] = []
        self._draining = False

    def compare(self, exporters: Iterable[Exporter]) -> Differences:
        """What :meth:`apply` would have to do (ids are unique).

        Only reads; another thread may ask while nothing is applied.
        """
        running = self._exporters
        wanted = {exporter.id: exporter for exporter in exporters}
        changed = [
            name
            for name, new in wanted.items()
            if (old := running.get(name)) is not None and old is not new and old != new
        ]
        added = [name for name in wanted if name not in running]
        removed = [name for name in running if name not in wanted]
        return Differences(wanted, tuple(added), tuple(changed), tuple(removed))

    async def apply(self, differences: Differences) -> Changes:
        """Make the fleet run exactly the wanted exporters; not twice at the same time.

        Ends early, with some of it undone, once :meth:`drain` has begun.
        """
        wanted = differences.wanted
        steps: Iterable[tuple[Callable[[Exporter], None], str]] = itertools.chain(
            ((self._remove, name) for name in differences.removed),
            ((self._change, name) for name in differences.changed),
            ((self._add, name) for name in differences.added),
        )
        slice_end = time.monotonic() + SLICE_S
        for step, name in steps:
            step(wanted[name] if name in wanted else self._exporters[name])
            if time.monotonic() >= slice_end:
                await asyncio.sleep(0)
                slice_end = time.monotonic() + SLICE_S
                if self._draining:
                    break
        else:
            # In the order in which they were loaded, and with their new warnings and origins.
            self._exporters = dict(wanted)
        self._blocking = [
            record.worker
            for record in self._records.values()
            if record.worker.config.queue.overflow == "block"
        ]
        return Changes(differences.added, differences.changed, differences.removed)

    def reread_secrets(self, namespaces: Collection[tuple[str, str]] | None = None) -> None:
        """Let the sinks of these namespaces (project, namespace; None: all) read their secrets
        anew."""
        for exporter in self._exporters.values():
            if namespaces is None or (exporter.project, exporter.namespace) in namespaces:
                for sink in exporter.sinks:
                    self._records[exporter.id, sink.name].worker.reread_secrets()

    @property
    def blocked(self) -> bool:
        """Whether a sink with ``overflow: block`` is full, so that senders must be held back."""
        return any(worker.full for worker in self._blocking)

    @property
    def exporters(self) -> Iterable[Exporter]:
        """The exporters that run."""
        return self._exporters.values()

    def reports(self) -> Iterator[SinkReport]:
        """The account of every sink. Brings the tallies up to date first."""
        self._engine.router.fold()
        for record in self._records.values():
            yield self._report(record)

    async def drain(self, timeout_s: float) -> None:
        """Send everything that is left for at most ``timeout_s``, then stop every worker."""
        self._draining = True
        workers = [record.worker for record in self._records.values()]
        for worker in workers:
            self._flush(worker)
        await asyncio.gather(*(worker.drain(timeout_s) for worker in workers), *self._retirements)

    def _report(self, record: _Record) -> SinkReport:
        lanes = [lane for worker in (record.worker, *record.leaving) for lane in worker.lanes]
        return SinkReport(
            record.tally.exporter,
            record.tally.sink,
            record.tally.points,
            record.tally.samples,
            record.ledger(),
            sum(lane.count for lane in lanes),
            min((lane.opened_at for lane in lanes if lane.count), default=None),
            record.worker.statistics(),
        )

    def _add(self, exporter: Exporter) -> None:
        sources = self._install_sinks(exporter, None)
        self._engine.add_exporter(exporter.id, exporter.project, sources)
        self._exporters[exporter.id] = exporter

    def _change(self, exporter: Exporter) -> None:
        sources = self._install_sinks(exporter, self._exporters[exporter.id])
        self._engine.replace_exporter(exporter.id, sources)
        self._exporters[exporter.id] = exporter

    def _install_sinks(self, exporter: Exporter, before: Exporter | None) -> Sources:
        """Start the sinks of a new or changed exporter, keep those that are as before; return the
        sources as they are to be routed."""
        known = {sink.name: sink for sink in before.sinks} if before else {}
        targets: dict[str, Target] = {}
        for sink in exporter.sinks:
            record = self._records.get((exporter.id, sink.name))
            old = known.pop(sink.name, None)
            if record is None:
                tally = SinkTally(exporter.id, sink.name)
                record = _Record(tally, self._make_worker(exporter, sink))
                self._records[exporter.id, sink.name] = record
                record.worker.start()
            elif old is None or not _same_delivery(old, sink):
                self._retire(record, record.worker)
                record.worker = self._make_worker(exporter, sink)
                record.worker.start()
            targets[sink.name] = Target(record.tally, record.worker.lanes, _options(sink))
        for name in known:
            self._retire_record((exporter.id, name))
        return [
            (
                source.name,
                source.selector,
                [targets[sink.name] for sink in exporter.sinks if source.name in sink.sources],
            )
            for source in exporter.sources
        ]

    def _remove(self, exporter: Exporter) -> None:
        name = exporter.id
        del self._exporters[name]
        self._engine.remove_exporter(name)
        self._engine.router.forget(name)
        for sink in exporter.sinks:
            self._retire_record((name, sink.name))

    def _retire_record(self, key: SinkKey) -> None:
        record = self._records.pop(key)
        self._retire(record, record.worker)

    def _retire(self, record: _Record, worker: SinkWorker) -> None:
        """Let a worker send what it has, then stop it; its figures stay with the record."""
        self._flush(worker)
        record.leaving.append(worker)
        task = asyncio.get_running_loop().create_task(self._finish(record, worker))
        self._retirements.add(task)
        task.add_done_callback(self._retirements.discard)

    async def _finish(self, record: _Record, worker: SinkWorker) -> None:
        await worker.drain(self._drain_timeout_s)
        record.leaving.remove(worker)
        ledger = worker.statistics().ledger
        record.past = [_sum([*record.past, ledger])]
        lost = sum(ledger.dropped.values())
        _log.info(
            "sink left service",
            extra={"exporter": record.tally.exporter, "sink": record.tally.sink, "dropped": lost},
        )

    def _flush(self, worker: SinkWorker) -> None:
        for batch, sealed in self._engine.flush(worker.lanes):
            worker.offer(sealed, batch.lane)

    def __repr__(self) -> str:
        return f"<Fleet {len(self._exporters)} exporters, {len(self._records)} sinks>"


def _options(sink: Sink) -> TargetOptions:
    """What the pipeline must know of a sink."""
    otlp = sink.otlp
    return TargetOptions(otlp.temporality, otlp.promoted_labels, otlp.unsupported_kinds)


def _same_delivery(old: Sink, new: Sink) -> bool:
    """Whether the worker of ``old`` can serve ``new``: which sources feed it is routing's
    concern."""
    return dataclasses.replace(old, sources=()) == dataclasses.replace(new, sources=())


def _sum(parts: list[LedgerStatistics]) -> LedgerStatistics:
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
