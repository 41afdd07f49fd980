"""Reconcile the running sinks and routes with a new set of exporters.

* Unchanged things are not touched: an equal exporter keeps its routes, an equal sink keeps its
  worker with batches, queue and connections.
* A changed sink keeps its worker, queue, ledger and disk store.
* A removed sink drains (:mod:`relay.control.reconcile.draining`). One that is added again meanwhile
  continues; later it finds its queue on disk by owner. One whose object is deleted does neither.
* Orphans expire after their time, but not while a file that may own them cannot be loaded, and at
  once if their object turns out to be deleted.
* Changes are applied one exporter at a time, each atomically; requests are served in between.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from relay.codec.otlp.batch import OpenBatch, memory_bytes_of
from relay.config.exporter.records.outputs import outputs_of, signals_of
from relay.config.exporter.types import Exporter, Sink
from relay.control.reconcile.diff import Changes, Differences, compare
from relay.control.reconcile.draining import DrainingSinks
from relay.control.reconcile.signal_routes import RoutedSources, SignalRoutes
from relay.control.reconcile.sink_entry import (
    ReconcilerHost,
    RunningExporter,
    SinkEntry,
    SinkKey,
    SinksSnapshot,
    keep_orphans,
    log_fields,
    members_of,
    output_options,
    same_delivery,
)
from relay.control.reconcile.sink_report import SinkReport
from relay.control.reconcile.upkeep import SinkUpkeep
from relay.control.time_slicing import Turns
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.runtime import gc_pacing
from relay.runtime.event_loop import WorkSlice
from relay.sink.eviction import Evictor
from relay.sink.http.credentials import SecretLookup
from relay.sink.interface import SinkHost
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.reporting.ledger import LedgerStatistics
from relay.sink.spill.owner import Owner, owner_of
from relay.sink.worker import SinkWorker
from relay.storage.journal.checkpoint import mark_of

if TYPE_CHECKING:
    from relay.sink.spill.store import QueueStore, SinkStore

_log = logging.getLogger("relay.control.reconcile")

BIG_CHANGE = 1_000
"""Exporters in one change from which on survivors are frozen for the GC."""

MakeWorker = Callable[[Exporter, Sink, "SinkStore | None", SinkHost], SinkWorker]
"""Builds the worker of one sink, with its part of the disk, not started."""


class SinkReconciler:
    """Keep workers and routes in step with the exporters. Lives on the event loop.

    Without ``store`` all data is in memory. ``memory`` counts the bytes of all sinks in memory, of
    at most ``memory_bytes_max`` (0: no limit). ``settled`` waits until the engine is between two
    requests (:class:`~relay.control.time_slicing.Turns`). ``clock`` is the wall clock, s.
    ``records`` are the pipelines of logs and traces.
    """

    def __init__(  # noqa: PLR0913 - a composition point: every collaborator is named once, here
        self,
        engine: MetricsPipeline,
        make_worker: MakeWorker,
        *,
        drain_timeout_s: float,
        store: QueueStore | None = None,
        memory: BufferedBytes | None = None,
        memory_bytes_max: int = 0,
        settled: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
        records: Sequence[RecordsPipeline] = (),
    ) -> None:
        self._engine = engine
        self._routes = SignalRoutes(engine, records)
        self._make_worker = make_worker
        self._store = store
        self._evictor = Evictor(
            lambda: members_of(self.entries()),
            store=store,
            memory=memory or BufferedBytes(),
            memory_bytes_max=memory_bytes_max,
        )
        self._settled = settled or Turns().settled
        self._clock = clock
        self._exporters: dict[str, Exporter] = {}
        self._running: dict[str, RunningExporter] = {}
        self._reread: set[str] = set()
        self._entries: dict[SinkKey, SinkEntry] = {}
        self._drains = DrainingSinks(drain_timeout_s, self._forget_worker)
        self.removed_totals = self._drains.totals
        self._blocking: dict[SinkWorker, None] = {}
        self._unfrozen = 0  # exporters added or changed since survivors were last frozen
        self._upkeep = SinkUpkeep(self._evictor, store)
        self._host = ReconcilerHost(
            self._evictor, lambda: self._routes.low_watermark, self._upkeep.awake
        )
        self._revision = 0
        self.version = 0  # incremented whenever exporters are added, changed or removed
        self._open: list[OpenBatch] | None = None
        """Open batches of all sinks; None after a change of the set."""
        self._marks: Mapping[SinkKey, int] | None = None
        self._draining = False
        self._deleted: Mapping[str, SecretLookup] = {}
        """Exporters of which the change that is being applied removes deleted objects."""

    def start(self) -> None:
        """Start the periodic upkeep. Needs a running loop."""
        self._upkeep.start()

    def compare(self, exporters: Iterable[Exporter]) -> Differences:
        """Return the changes that :meth:`apply` would make; ids must be unique.

        Read only; safe in another thread while nothing is applied.
        """
        return compare(self._exporters, exporters)

    async def apply(self, differences: Differences) -> Changes:
        """Apply the changes so that exactly the wanted exporters run; not reentrant.

        Returns early, with part of the changes not applied, once :meth:`drain` has begun.
        """
        wanted, self._deleted = differences.wanted, differences.deleted
        steps: Iterable[tuple[Callable[[Exporter], None], str]] = itertools.chain(
            ((self._remove, name) for name in differences.removed),
            ((self._change, name) for name in differences.changed),
            ((self._add, name) for name in differences.added),
        )
        part = WorkSlice()
        for step, name in steps:
            await self._settled()
            step(wanted[name] if name in wanted else self._exporters[name])
            if part.is_over:
                gc_pacing.collect_young()
                await part.rest()
                if self._draining:
                    break
        else:
            # Keep the order of loading, and new warnings, origins and generations.
            self._exporters, running = dict(wanted), self._running
            for name, exporter in wanted.items():
                running[name].exporter = exporter
        self._unfrozen += len(differences.added) + len(differences.changed)
        if self._unfrozen >= BIG_CHANGE:
            self._unfrozen = 0
            gc_pacing.freeze_survivors()
        return Changes(differences.added, differences.changed, differences.removed)

    def reread_secrets(self, namespaces: Collection[tuple[str, str]] | None = None) -> None:
        """Make the sinks of these (project, namespace) pairs, None for all, reread secrets."""
        if namespaces is None:
            self._reread.update(self._exporters)
            for entry in self._entries.values():
                entry.worker.reread_secrets()
            return
        for exporter in self._exporters.values():
            if (exporter.project, exporter.namespace) in namespaces:
                self._reread.add(exporter.id)
                for sink in outputs_of(exporter):
                    self._entries[exporter.id, sink.name].worker.reread_secrets()

    def take_reread(self) -> set[str]:
        """Return the ids of exporters whose secrets have been read again since the last call."""
        found, self._reread = self._reread, set()
        return found

    def keep_orphans(self, *, complete: bool, is_deleted: Callable[[Owner], bool]) -> None:
        """Keep the queues on disk whose sinks do not run, but for those of deleted objects.

        ``complete``: everything was loaded, so no queue can belong to a faulty file and all may
        expire.
        """
        self._upkeep.orphans_may_expire = complete
        if self._store is not None and not self._draining:
            keep_orphans(self._store, is_deleted)

    @property
    def blocking(self) -> Iterable[SinkWorker]:
        """The sinks with ``overflow: block``: while one is full, senders must be held back."""
        return self._blocking

    @property
    def revision(self) -> int:
        """Incremented whenever sinks are added, removed or reconfigured."""
        return self._revision

    @property
    def exporters(self) -> Iterable[Exporter]:
        """The running exporters."""
        return self._exporters.values()

    @property
    def awake(self) -> Iterable[SinkWorker]:
        """The sinks that have data, or had some a second ago; draining ones among them."""
        return self._upkeep.awake

    def running(self, exporter: str) -> RunningExporter | None:
        """Return what runs of an exporter, by its id; None: nothing."""
        return self._running.get(exporter)

    def reports_of(self, exporter: str) -> dict[str, SinkReport]:
        """Return the reports of the outputs of one exporter that have sources, by name.

        The exporter is named by its id.
        """
        self._engine.router.fold_exporter(exporter)
        running = self._exporters.get(exporter)
        if running is None:
            return {}
        return {
            output: self._entries[exporter, output].report(removed=False)
            for outputs in signals_of(running).values()
            for output in outputs.values()
        }

    def worker(self, exporter: str, sink: str) -> SinkWorker | None:
        """Return the worker of a running sink."""
        entry = self._entries.get((exporter, sink))
        return entry.worker if entry is not None else None

    def reports(self) -> Iterator[SinkReport]:
        """Flush the counters, then yield the report of every sink, draining ones included."""
        self._engine.router.flush_counters()
        for entry in self._entries.values():
            yield entry.report(removed=False)
        for entry in self._drains:
            yield entry.report(removed=True)

    async def snapshot(self) -> SinksSnapshot:
        """Return all exporters and the report of every sink, in slices: ten thousand take 0.1 s.

        Each report is of one moment, not all of the same; the set of sinks is that of the start.
        """
        exporters, removed_ledger = tuple(self._exporters.values()), self.removed_ledger()
        listed = [(entry, False) for entry in self._entries.values()]
        listed += [(entry, True) for entry in self._drains]
        reports: list[SinkReport] = []
        await self._settled()
        part = WorkSlice()
        for entry, removed in listed:
            # Count the points on both sides first, or the report does not balance.
            self._engine.router.fold_exporter(entry.counter.exporter)
            reports.append(entry.report(removed=removed))
            if part.is_over:
                await part.rest()
                await self._settled()
                part.begin()
        return SinksSnapshot(exporters, tuple(reports), removed_ledger)

    def removed_ledger(self) -> LedgerStatistics:
        """Return the ledger of all sinks that were removed and have ended."""
        return self._drains.ledger()

    def open_bytes(self) -> int:
        """Return the bytes in open batches."""
        # Called after every dozen of requests: only the sum is recomputed. Batches of removed sinks
        # are empty.
        if self._open is None:
            self._open = [one for entry in self._entries.values() for one in entry.worker.shards]
        return memory_bytes_of(self._open)

    def low_watermarks(
        self, following: int, *, limit: int | None = None
    ) -> dict[SinkKey, tuple[int, ...]]:
        """Return the oldest unfinished position of each shard of each sink.

        A position is finished when it is delivered or dropped, or on disk. A shard without any has
        ``following``, the position after the last. No result exceeds ``limit``, the oldest position
        held by the pipeline.
        """
        most = following if limit is None else min(following, limit)
        found: dict[SinkKey, tuple[int, ...]] = {}
        for key, entry in self._entries.items():
            shards, low = entry.worker.shards, entry.worker.oldest_positions(most)
            points = 0
            for batch in shards:  # faster than sum(): ten thousand sinks are looked at in one turn
                points += batch.count
            if points or max(low) > most:
                low = tuple(
                    min(oldest, most, batch.oldest_offset if batch.count else most)
                    for oldest, batch in zip(low, shards, strict=True)
                )
            found[key] = low
        return found

    def restored_lows(self) -> dict[SinkKey, tuple[int, ...]]:
        """Return the position, per shard, below which a crash lost nothing; -1: unknown."""
        return {key: entry.worker.low_watermarks for key, entry in self._entries.items()}

    def marks(self) -> Mapping[SinkKey, int]:
        """Return the marks in checkpoints of the sinks that have one: not to be changed."""
        if self._marks is None:
            self._marks = {
                key: mark
                for key, entry in self._entries.items()
                if (mark := mark_of(entry.owner.uid))
            }
        return self._marks

    def discard(self, batch: OpenBatch, points: int) -> None:
        """Subtract points that a replay matched again from the count of the batch's sink."""
        worker = batch.sink
        assert isinstance(worker, SinkWorker)
        self._entries[worker.exporter_id, worker.sink_id].counter.points -= points

    def relieve_memory(self) -> None:
        """Make the largest sinks spill to disk or drop data if too much is in memory."""
        self._evictor.relieve_memory()

    def spill_below(self, position: int) -> None:
        """Start to write everything to disk that holds a position below this one."""
        for entry in self._entries.values():
            worker = entry.worker
            old = [
                batch for batch in worker.shards if batch.count and batch.oldest_offset < position
            ]
            for batch, sealed in self._engine.flush(old):
                worker.offer(sealed, batch.shard)
            if min(worker.oldest_positions(position)) < position:
                worker.save(at_once=True)

    async def drain(self, timeout_s: float) -> None:
        """Send the rest for at most ``timeout_s``, save what remains if possible, stop workers."""
        self._draining = True
        await self._upkeep.stop()
        workers = [entry.worker for entry in self._entries.values()]
        for worker in workers:
            self._flush(worker)
        await asyncio.gather(*(worker.drain(timeout_s) for worker in workers), self._drains.wait())

    def workers(self) -> Iterator[SinkWorker]:
        """Return the workers of all running sinks."""
        return (entry.worker for entry in self._entries.values())

    def entries(self) -> Iterator[SinkEntry]:
        """Yield every sink, draining ones included."""
        yield from (*self._entries.values(), *self._drains)

    def _add(self, exporter: Exporter) -> None:
        self._routes.add(exporter, self._install_sinks(exporter, None))
        self._note_programmed(exporter)

    def _change(self, exporter: Exporter) -> None:
        before = self._exporters[exporter.id]
        if before.uid and exporter.uid and before.uid != exporter.uid:
            # Another object of the same name must not get its predecessor's data.
            self._remove(before)
            self._add(exporter)
            return
        self._routes.replace(exporter, self._install_sinks(exporter, before))
        self._note_programmed(exporter)

    def _note_programmed(self, exporter: Exporter) -> None:
        self._exporters[exporter.id] = exporter
        self.version += 1
        outputs = outputs_of(exporter)
        entries = {one.name: self._entries[exporter.id, one.name] for one in outputs}
        for entry in entries.values():
            entry.matched_before = entry.worker.read_delivery().matched
        self._running[exporter.id] = RunningExporter(exporter, self._clock(), entries)

    def _remove(self, exporter: Exporter) -> None:
        name, secrets = exporter.id, self._deleted.get(exporter.id)
        del self._exporters[name], self._running[name]
        self.version += 1
        self._routes.remove(name)
        for sink in outputs_of(exporter):
            self._retire((name, sink.name), secrets)
        if secrets is not None:
            self._drains.delete(exporter, secrets)

    def _install_sinks(self, exporter: Exporter, before: Exporter | None) -> RoutedSources:
        """Start the sinks of a new exporter, or reconfigure those of a changed one.

        Return the sources as the pipelines need them.
        """
        known = {sink.name: sink for sink in outputs_of(before)} if before else {}
        targets: dict[str, SinkOutputSpec] = {}
        for sink in outputs_of(exporter):
            entry = self._entries.get((exporter.id, sink.name))
            old = known.pop(sink.name, None)
            if entry is None:
                entry = self._add_sink(exporter, sink)
            elif old is None or not same_delivery(old, sink):
                self._flush(entry.worker)
                entry.worker.reconfigure(sink)
                self._note_configured(entry.worker)
            elif old.paused != sink.paused:
                entry.worker.pause_sending(sink.paused)
            entry.owner = owner_of(exporter, sink)
            entry.worker.identify(entry.owner)
            options = output_options(sink)
            targets[sink.name] = SinkOutputSpec(entry.counter, entry.worker.shards, options)
        for name in known:
            self._retire((exporter.id, name))
        return self._routes.sources(exporter, targets)

    def _add_sink(self, exporter: Exporter, sink: Sink) -> SinkEntry:
        key, owner = (exporter.id, sink.name), owner_of(exporter, sink)
        entry, goes_on = self._drains.take_back(key, owner)
        if entry is not None and goes_on:
            entry.worker.come_back(sink)
            _log.info(
                "sink is back and continues its queue", extra={"exporter": key[0], "sink": key[1]}
            )
            return self._enlist(key, entry)
        store = self._store.claim(owner) if self._store is not None else None
        worker = self._make_worker(exporter, sink, store, self._host)
        if entry is None:
            counter = SinkCounter(*key, exporter.project or exporter.id)
            entry = SinkEntry(counter, worker, owner)
        else:
            entry.draining = (*entry.draining, entry.worker)
            entry.worker, entry.owner = worker, owner
        entry.counter.points += worker.restored_points
        if worker.restored_points:
            _log.info(
                "queue found on disk",
                extra={"exporter": key[0], "sink": key[1], "points": worker.restored_points},
            )
        for queue in self._store.strangers(owner) if self._store is not None else ():
            _log.warning(
                "queue on disk of another sink of this name: not sent, kept",
                extra=log_fields(queue),
            )
        worker.start()
        return self._enlist(key, entry)

    def _enlist(self, key: SinkKey, entry: SinkEntry) -> SinkEntry:
        self._entries[key] = entry
        self._upkeep.awake[entry.worker] = None
        self._note_configured(entry.worker)
        return entry

    def _note_configured(self, worker: SinkWorker) -> None:
        if worker.config.queue.overflow == "block":
            self._blocking[worker] = None
        else:
            self._blocking.pop(worker, None)
        self._note_change()

    def _retire(self, key: SinkKey, secrets: SecretLookup | None = None) -> None:
        """Let a sink drain and end; ``secrets`` are given if its object is deleted."""
        entry = self._entries.pop(key)
        self._engine.drops.forget(entry.counter)
        self._blocking.pop(entry.worker, None)
        self._note_change()
        self._flush(entry.worker)
        self._drains.add(entry, secrets)

    def _forget_worker(self, worker: SinkWorker) -> None:
        self._upkeep.awake.pop(worker, None)

    def _note_change(self) -> None:
        self._revision += 1
        self._open = self._marks = None

    def _flush(self, worker: SinkWorker) -> None:
        for batch, sealed in self._engine.flush(worker.shards):
            worker.offer(sealed, batch.shard)

    def __repr__(self) -> str:
        return f"<SinkReconciler {len(self._exporters)} exporters, {len(self._entries)} sinks>"
