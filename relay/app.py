"""The composition root: builds the graph, starts it, reloads it, drains it.

Start-up order is from the inside out (storage, sinks, listeners, and then what a crash has left in
the journal), shutdown from the outside in: senders are turned away first, then open batches are
sealed, then queues are sent until the drain timeout and what is left is stored, then the journal
learns how far every sink has come.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from relay.api.admin import AdminServer
from relay.api.contract import EVERYTHING, ScrapeView, StatusFilter
from relay.api.records_status import record_views
from relay.api.status import StatusSource
from relay.config.exporter.types import Exporter, Sink
from relay.config.settings.settings import ListenAddress, Settings
from relay.control.build_pipeline import make_signals
from relay.control.cluster.compose import make_sources
from relay.control.cluster.held_objects import HeldObjects
from relay.control.cluster.statuses import Statuses
from relay.control.durability.admission import ZERO_MEMORY, Admission
from relay.control.durability.replay import IDLE_REPLAY, Replay
from relay.control.durability.upkeep import Upkeep
from relay.control.flush_timer import FlushTimer
from relay.control.projects.projects import Projects
from relay.control.projects.usage_facts import UsageFacts
from relay.control.reconcile.diff import Changes
from relay.control.reconcile.reconciler import SinkReconciler
from relay.control.reconcile.reloader import Reloader
from relay.control.reconcile.sink_entry import NO_SINKS, SinksSnapshot
from relay.control.shutdown_report import ShutdownLosses
from relay.control.start_report import log_start
from relay.control.time_slicing import Turns
from relay.control.tools import ExporterTools, ToolAccess
from relay.receiver.http.connection_limit import raise_descriptor_limit
from relay.receiver.remote_write import IngestServer
from relay.runtime import gc_pacing, huge_pages, log_setup, malloc
from relay.runtime.errors import ConfigError
from relay.selector.inventory.store import ManifestIndex
from relay.sink.build import SinkDependencies, SinkEnvironment, build_worker
from relay.sink.http.client import Transport
from relay.sink.http.credentials import SecretLookup
from relay.sink.interface import SinkHost
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.retry.circuit_breaker import CircuitBreakers
from relay.sink.steps import Clock
from relay.sink.worker import SinkWorker
from relay.storage.log.filesystem import Disk
from relay.telemetry.loop_lag import LoopLag
from relay.telemetry.registry import Snapshot, Telemetry
from relay.ui.on_demand import served_api

if TYPE_CHECKING:
    from relay.control.durability.checkpointer import Checkpointer
    from relay.control.durability.open_storage import OpenStorage
    from relay.sink.spill.store import SinkStore

_log = logging.getLogger("relay.app")

BODIES_SHARE = 4
"""Bodies on their way in may have a quarter of the memory, data on its way out has the rest."""

INGEST_STOP_S_MAX = 5.0


class Relay:
    """One relay process. Lives on one event loop: ``start``, then ``run_until`` or ``stop``."""

    given_up = 0
    """Accepted points that :meth:`stop` could neither send nor store."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        tick: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._settings = settings
        self._disk = disk or Disk()
        self._clock = clock
        self._tick = tick
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._started_at = clock()
        self._started = self._ready = self._stopping = False
        bodies_bytes_max = settings.memory.bytes_max // BODIES_SHARE
        self._data_bytes_max = settings.memory.bytes_max - bodies_bytes_max
        self._signals = make_signals(settings, since=self._started_at)
        self._engine = self._signals.metrics
        self._turns = Turns()
        self._flush_timer = FlushTimer(self._signals, self._turns, tick=tick)
        self._lag = LoopLag()
        self._lag_task: asyncio.Task[None] | None = None
        self._transport: Transport | None = None
        self._sink_environment: SinkEnvironment | None = None
        self._reconciler: SinkReconciler | None = None
        access = ToolAccess(self._running, self._secrets_of, self._worker)
        tools = ExporterTools(settings, self._signals, self._turns, access)
        self.own_api = served_api(settings, tools, self.look)
        self._sources = make_sources(settings, self.own_api.source if self.own_api else None)
        self._reloader: Reloader | None = None
        self._statuses: Statuses | None = None
        self._projects: Projects | None = None
        self._watch_task: asyncio.Task[None] | None = None
        self._memory = BufferedBytes()
        self._circuit_breakers = CircuitBreakers(self._rng)
        self._storage: OpenStorage | None = None
        self._replay: Replay | None = None
        self._replay_task: asyncio.Task[None] | None = None
        self._admission: Admission | None = None
        self._upkeep: Upkeep | None = None
        self._checkpointer: Checkpointer | None = None
        self._ingest = IngestServer(
            settings.listen, settings.ingest, bodies_bytes_max=bodies_bytes_max, clock=clock
        )
        self._admin = AdminServer(
            settings.admin_listen,
            Telemetry(),
            measure=self.measure,
            look=self.look,
            not_ready=self.not_ready,
            degraded=self.degraded,
            explain=tools.explained,
            tools=tools,
            access=settings.admin,
            ingest=settings.listen,
        )

    async def start(self) -> None:
        """Load the exporters, start their sinks, then listen.

        Raises ConfigError with every fault where nothing could run at all, or an address cannot be
        had. A faulty exporter among good ones is left out and reported.
        """
        raise_descriptor_limit()
        try:
            if (wanted := self._settings.storage) is not None:
                from relay.control.durability.open_storage import open_storage

                self._storage = await open_storage(wanted, self._disk, clock=self._clock)
            self._transport = Transport(
                allow_private=self._settings.allow_private_endpoints, proxy=self._settings.proxy
            )
            self._sink_environment = SinkEnvironment(
                self._transport,
                self._engine.offsets,
                self._rng,
                self._circuit_breakers,
                memory=self._memory,
                clock=Clock(self._clock, self._tick),
            )
            self._reconciler = self._make_reconciler()
            self._reloader = self._make_reloader(self._reconciler)
            if self._sources.cluster is not None:
                await self._sources.cluster.start()
            if self.own_api is not None:
                await self.own_api.start()
            await self._reloader.start()
            # A full collection takes a second beside 10,000 exporters: nobody waits for it yet.
            gc_pacing.configure_gc()
            malloc.configure_malloc()
            huge_pages.use_huge_pages()
            self._start_sinks(self._reconciler)
            admission = self._admit(self._reconciler)
            await self._start_statuses(self._reconciler, self._reloader)
            await self._ingest.start(admission)
        except ConfigError as error:
            # Before anything else is logged or awaited: the reason must be easy to find.
            log_setup.report_fatal(error.faults, self._settings.log.format)
            await self.stop()
            raise
        except BaseException:
            await self.stop()
            raise
        loop = asyncio.get_running_loop()
        self._lag_task = loop.create_task(self._lag.run())
        if self._settings.watch.enabled or self._sources.is_served:
            self._watch_task = loop.create_task(self._reloader.watch())
        self._ready = self._started = True
        self._log_start(self._reconciler, self._reloader)

    def _log_start(self, reconciler: SinkReconciler, reloader: Reloader) -> None:
        log_start(
            self._settings,
            os.environ,
            listen=self._ingest.address,
            admin_listen=self._admin.address,
            exporters=len(list(reconciler.exporters)),
            faults=len(reloader.faults),
        )

    def _make_reloader(self, reconciler: SinkReconciler) -> Reloader:
        return Reloader(
            self._sources.state,
            reconciler,
            self._set_inventory,
            clock=self._clock,
            may_be_empty=self._sources.is_served,
        )

    async def stop(self) -> None:
        """Refuse senders, send what is left until the drain timeout, store the rest, stop."""
        self._ready = False
        self._stopping = True
        if self._watch_task is not None:
            self._watch_task.cancel()
        statuses = asyncio.ensure_future(self._stop_statuses())
        timeout_s = self._settings.shutdown.drain_timeout_s
        deadline = self._tick() + timeout_s
        if self._replay_task is not None and not self._replay_task.done():
            # Before the listener, which waits for requests that may be waiting for the replay.
            await _cancelled(self._replay_task)
        # Bodies on their way may still arrive, within a part of the time that there is.
        await self._ingest.stop(timeout_s=min(INGEST_STOP_S_MAX, timeout_s / 4))
        self._turns.close()
        if self._admission is not None:
            self._admission.stopping = True
        self._flush_timer.close()
        if self._upkeep is not None:
            self._upkeep.close()
        if self._admission is None or not self._admission.waits_on_disk:
            self._flush_timer.deliver(self._signals.finish(self._tick()))
        if self._projects is not None:
            await self._projects.stop()
        if self._reconciler is not None:
            losses = ShutdownLosses(self._reconciler)
            await self._reconciler.drain(max(0.0, deadline - self._tick()))
            self.given_up = losses.count(self._storage.journal.contains if self._storage else None)
        await statuses
        if self.own_api is not None:
            await self.own_api.stop()
        if self._sources.cluster is not None:
            await self._sources.cluster.stop()
        await self._close_storage()
        await self._admin.stop()
        if self._lag_task is not None:
            self._lag_task.cancel()
        if self._transport is not None:
            await self._transport.close()
        if self.given_up:
            _log.error("relay stopped, points were given up", extra={"points": self.given_up})
        elif self._started:
            _log.info("relay stopped")

    def undelivered(self) -> int:
        """Return how many points wait for their endpoints."""
        reports = self._reconciler.reports() if self._reconciler is not None else ()
        return sum(report.ledger.queued + report.open for report in reports)

    async def reload(self) -> Changes:
        """Read the exporters and secrets again and apply the changes.

        A faulty edit keeps the last good version of that exporter running.
        """
        assert self._reloader is not None
        changes = await self._reloader.reload()
        if self._statuses is not None:
            await self._statuses.board.look()
        return changes

    def not_ready(self) -> list[str]:
        """Return why the relay is not ready; empty where it is."""
        if self._stopping:
            return ["shutting down"]
        if not self._ready:
            return ["starting"]
        reasons = []
        if (replay := self._replay) is not None and replay.active:
            reasons.append(f"replaying the journal: {replay.statistics().left_bytes} bytes left")
        cluster = self._sources.cluster
        if cluster is not None and cluster.unknown and not list(self._running()):
            # Samples would be taken for exporters that nobody knows yet, and be lost.
            reasons.append(f"no objects of Kubernetes are known yet: {cluster.unknown}")
        return reasons

    def degraded(self) -> list[str]:
        """Return what does not work as it should although senders are served."""
        return self._storage.troubles() if self._storage else []

    def snapshot(self) -> Snapshot:
        """Return the figures of a scrape."""
        return self.facts().snapshot()

    def status(self, wanted: StatusFilter = EVERYTHING) -> dict[str, object]:
        """Return the ``/status`` document, or the part that is asked for."""
        return self.facts().status(wanted)

    def facts(self) -> StatusSource:
        """Return the source of status documents. Takes long beside thousands of sinks."""
        if self._reconciler is None:
            return self._facts(NO_SINKS)
        exporters, reports = tuple(self._reconciler.exporters), tuple(self._reconciler.reports())
        survey = SinksSnapshot(exporters, reports, self._reconciler.removed_ledger())
        return self._facts(survey, self._projects.facts() if self._projects else None)

    async def look(self) -> StatusSource:
        """Return the same for the admin listener; yields to the event loop between sinks."""
        survey = await self._survey()
        return self._facts(survey, await self._projects.look() if self._projects else None)

    async def measure(self) -> ScrapeView:
        """Return what a scrape is made of: no usage of exporters, no conditions of objects."""
        survey = await self._survey()
        usage = self._projects.totals() if self._projects else None
        return self._facts(survey, usage, is_whole=False)

    async def _survey(self) -> SinksSnapshot:
        if self._statuses is not None:
            await self._statuses.board.look()
        return await self._reconciler.snapshot() if self._reconciler else NO_SINKS

    def _facts(
        self, survey: SinksSnapshot, usage: UsageFacts | None = None, *, is_whole: bool = True
    ) -> StatusSource:
        environment = self._sink_environment
        return StatusSource(
            now=self._clock(),
            started_at=self._started_at,
            ingest=self._ingest.statistics(),
            engine=self._engine.statistics(),
            lag=self._lag.statistics(),
            exporters=survey.exporters,
            faults=self._reloader.faults if self._reloader else (),
            sources=tuple(self._engine.router.source_counters()),
            sinks=survey.sinks,
            changes=self._reloader.statistics() if self._reloader else None,
            removed_ledger=survey.removed_ledger,
            store=self._storage.store.statistics() if self._storage else None,
            journal=self._storage.journal.statistics() if self._storage else None,
            replay=self._replay.statistics() if self._replay else IDLE_REPLAY,
            memory=self._admission.memory() if self._admission else ZERO_MEMORY,
            unreachable_endpoints=self._circuit_breakers.open,
            kubernetes=self._sources.statistics(),
            lone_exemplars=environment.encode_scheduler.bodies.lone_exemplars if environment else 0,
            objects=self._statuses.board.conditions() if self._statuses and is_whole else (),
            publishing=self._statuses.statistics() if self._statuses else None,
            usage=usage or UsageFacts(),
            own_api=self.own_api.figures() if self.own_api else None,
            records=record_views(self._signals.records),
        )

    @property
    def ingest_address(self) -> ListenAddress:
        """Address of the ingest listener; only after :meth:`start`."""
        return self._ingest.address

    @property
    def admin_address(self) -> ListenAddress:
        """Address of the admin listener; only after :meth:`start`."""
        return self._admin.address

    def _make_reconciler(self) -> SinkReconciler:
        return SinkReconciler(
            self._engine,
            self._make_worker,
            drain_timeout_s=self._settings.shutdown.drain_timeout_s,
            store=self._storage.store if self._storage else None,
            memory=self._memory,
            memory_bytes_max=self._data_bytes_max,
            settled=self._turns.settled,
            clock=self._clock,
            records=tuple(self._signals.records),
        )

    async def _start_statuses(self, reconciler: SinkReconciler, reloader: Reloader) -> None:
        """Judge all objects, open the admin listener, then write statuses where objects are."""
        cluster, projects = self._sources.cluster, self._projects
        assert projects is not None, "started before"
        self._statuses = Statuses(
            self._settings,
            reconciler,
            reloader,
            cluster,
            usage=projects.usage,
            extra=projects.amend,
            extra_sign=lambda result: projects.limit_remark(result.key.project),
            clock=self._clock,
        )
        await self._statuses.start()
        if self.own_api is not None:
            held = HeldObjects(reconciler).all
            await self.own_api.follow(self._statuses.board, self._sources.files, held)
        self._admin.report = self._statuses.report if cluster is not None else None
        await self._admin.start()
        self._statuses.publish(self._admin.address)

    async def _stop_statuses(self) -> None:
        if self._statuses is not None:
            await self._statuses.stop()

    def _make_worker(
        self, exporter: Exporter, sink: Sink, store: SinkStore | None, host: SinkHost
    ) -> SinkWorker:
        assert self._sink_environment is not None
        parts = SinkDependencies(self._sink_environment, self._secrets_of(exporter), store, host)
        return build_worker(sink.name, exporter.id, sink, parts)

    def _secrets_of(self, exporter: Exporter) -> SecretLookup:
        assert self._reloader is not None
        return self._reloader.secrets_of(exporter)

    def _running(self) -> Iterable[Exporter]:
        return self._reconciler.exporters if self._reconciler is not None else ()

    def _worker(self, exporter: str, sink: str) -> SinkWorker | None:
        return self._reconciler.worker(exporter, sink) if self._reconciler is not None else None

    def _start_sinks(self, reconciler: SinkReconciler) -> None:
        reconciler.start()
        self._projects = Projects(
            self._engine,
            reconciler,
            self._settings.limits,
            records=tuple(self._signals.records),
            store=self._storage.store if self._storage else None,
            directory=self._storage.path if self._storage else None,
            reserve_s=self._settings.ingest.series_idle_timeout_s,
            settled=self._turns.settled,
            tick=self._tick,
        )
        self._projects.start()

    def _admit(self, reconciler: SinkReconciler) -> Admission:
        """Make the admission, and begin to replay the journal, if there is one."""
        if self._storage is not None:
            checkpoint = self._storage.checkpoint
            if self._storage.knowledge is None:
                checkpoint = replace(checkpoint, learned=0)
            else:
                self._engine.import_metadata(self._storage.knowledge)
                self._storage.journal.saved_version = self._engine.metadata_version
            self._replay = Replay(
                self._signals,
                reconciler,
                self._storage.journal,
                checkpoint,
                deliver=self._flush_timer.deliver,
                crowded=lambda: self._admission is not None and self._admission.crowded,
                tick=self._tick,
                turns=self._turns,
            )
            self._checkpointer = self._storage.checkpointer(self._engine, reconciler, self._replay)
        self._admission = Admission(
            self._signals,
            reconciler,
            journal=self._storage.journal if self._storage else None,
            replay=self._replay,
            memory_bytes_max=self._data_bytes_max,
            queued=self._memory,
            on_accepted=self._flush_timer.on_accepted,
            tick=self._tick,
            turns=self._turns,
        )
        if self._replay is not None:
            self._replay_task = asyncio.get_running_loop().create_task(self._replay.run())
            self._replay_task.add_done_callback(_log_failure)
        self._upkeep = Upkeep(
            self._admission, self._storage, self._checkpointer, self._turns, tick=self._tick
        )
        self._upkeep.start()
        return self._admission

    async def _close_storage(self) -> None:
        if self._storage is not None:
            if self._checkpointer is not None:
                await self._checkpointer.leave()
            await self._storage.close(
                self._checkpointer.checkpoint() if self._checkpointer else None,
                low=self._engine.offsets.reach,
                knowledge=self._checkpointer.taught() if self._checkpointer else None,
            )

    async def _set_inventory(self, index: ManifestIndex) -> None:
        await self._turns.settled()
        self._engine.set_inventory(index)

    def __repr__(self) -> str:
        return f"<Relay {self._engine!r}>"


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log a bug in the replay; the journal stays as it is until the next start."""
    if not task.cancelled() and task.exception() is not None:
        _log.error("the replay ended with a bug in the relay", exc_info=task.exception())


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
