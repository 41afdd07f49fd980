"""The composition root: builds the graph, starts it, reloads it, drains it.

Start-up order is from the inside out (sinks before listeners), shutdown from the outside in:
senders are turned away first, then open batches are sealed, then queues are sent until the drain
timeout.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
from collections.abc import Callable, Iterable

from relay import __version__
from relay.errors import ConfigError, Fault, OverloadedError, SelectorError
from relay.explain import Explainer, parse_series
from relay.exporter.model import Exporter, SecretRef, Sink
from relay.fleet import Changes, Fleet
from relay.inventory.info_series import InfoReader
from relay.pipeline.engine import Engine, Limits
from relay.pipeline.tenancy import ANYWHERE, MULTITENANT, Origin, Tenancy
from relay.reloading import Reloader
from relay.selector.resource_matching import Compiler
from relay.server.admin import AdminServer
from relay.server.contract import Accepted, Question, Tenant
from relay.server.ingest import IngestServer
from relay.server.lag import LoopLag
from relay.settings import Address, Settings
from relay.sink.transport import Transport
from relay.sink.worker import SinkWorker
from relay.status import Facts, document, snapshot
from relay.telemetry import Snapshot, Telemetry
from relay.wire.batch import OpenBatch, SealedBatch
from relay.wire.remote_write import WriteProtocol

_log = logging.getLogger("relay.app")

_BLAMELESS = frozenset(
    {"duplicate_timestamp", "histogram_float", "histogram_gauge", "histogram_schema"}
)
"""Drop reasons that are no fault of the request's: counted, but without effect on the answer."""

BLOCKED_RETRY_AFTER_S = 5

INGEST_STOP_S_MAX = 5.0

GC_THRESHOLD = 10_000
"""Net new containers before the youngest generation is looked at; a few batches make as many. With
five times as many a look took 30 ms while series are new, and the next generation's 200 ms
(``bench.micro.selection flood``)."""
GC_GENERATIONS = (10, 20)
"""Looks at one generation before the next older one has its turn."""


class Relay:
    """One relay process. Lives on one event loop: ``start``, then ``run_until`` or ``stop``."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        tick: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._tick = tick
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._started_at = clock()
        self._ready = False
        self._stopping = False
        self._draining = False
        self._flush_timer: asyncio.TimerHandle | None = None
        self._flush_at = float("inf")
        ingest = settings.ingest
        self._engine = Engine(
            Limits(
                series_max=ingest.series_max,
                series_idle_s=ingest.series_idle_timeout_s,
                series_bytes_max=ingest.series_bytes_max,
                labels_max=ingest.labels_max,
                families_max=ingest.metadata_max,
                histograms_max=ingest.histograms_max,
                objects_max=settings.inventory.objects_max,
            ),
            infer_types=settings.translation.infer_types,
            tenancy=tenancy_of(settings),
            compiler=Compiler(settings.resources),
            info_reader=InfoReader(settings.inventory.info_series),
            assembly_wait_s=settings.translation.assembly_timeout_s,
            delta_age_max_s=settings.translation.delta_max_age_s,
            since=self._started_at,
        )
        self._lag = LoopLag()
        self._lag_task: asyncio.Task[None] | None = None
        self._transport: Transport | None = None
        self._fleet: Fleet | None = None
        self._reloader: Reloader | None = None
        self._watch_task: asyncio.Task[None] | None = None
        self._ingest = IngestServer(settings.listen, ingest, self.accept, clock=clock)
        self._admin = AdminServer(
            settings.admin_listen,
            Telemetry(self.snapshot),
            status=self.status,
            not_ready=self.not_ready,
            explain=self.explain,
        )

    async def start(self) -> None:
        """Load the exporters, start their sinks, then listen.

        Raises ConfigError with every fault where nothing could run at all, or an address cannot be
        had. A faulty exporter among good ones is left out and reported.
        """
        self._transport = Transport(allow_private=self._settings.allow_private_endpoints)
        self._fleet = Fleet(
            self._engine,
            self._make_worker,
            drain_timeout_s=self._settings.shutdown.drain_timeout_s,
        )
        self._reloader = Reloader(
            self._settings, self._fleet, self._engine.set_inventory, clock=self._clock
        )
        try:
            await self._reloader.start()
            await self._admin.start()
            await self._ingest.start()
        except BaseException:
            await self.stop()
            raise
        _settle_garbage_collector()
        loop = asyncio.get_running_loop()
        self._lag_task = loop.create_task(self._lag.run())
        if self._settings.watch.enabled:
            self._watch_task = loop.create_task(self._reloader.watch())
        self._ready = True
        _log.info(
            "relay started",
            extra={
                "version": __version__,
                "listen": str(self._ingest.address),
                "adminListen": str(self._admin.address),
                "exporters": len(list(self._fleet.exporters)),
                "faults": len(self._reloader.faults),
            },
        )

    async def stop(self) -> None:
        """Turn senders away, send what is left until the drain timeout, stop everything."""
        self._ready = False
        self._stopping = True
        if self._watch_task is not None:
            self._watch_task.cancel()
        timeout_s = self._settings.shutdown.drain_timeout_s
        deadline = self._tick() + timeout_s
        # Bodies on their way may still arrive, within a part of the time that there is.
        await self._ingest.stop(timeout_s=min(INGEST_STOP_S_MAX, timeout_s / 4))
        self._draining = True
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        _offer(self._engine.finish(self._tick()))
        if self._fleet is not None:
            await self._fleet.drain(max(0.0, deadline - self._tick()))
            for report in self._fleet.reports():
                lost = sum(report.ledger.dropped.values())
                if lost:
                    _log.warning(
                        "points were given up",
                        extra={"exporter": report.exporter, "sink": report.sink, "points": lost},
                    )
        await self._admin.stop()
        if self._lag_task is not None:
            self._lag_task.cancel()
        if self._transport is not None:
            await self._transport.close()
        _log.info("relay stopped")

    async def reload(self) -> Changes:
        """Read the exporters and secrets again and apply what changed.

        A faulty edit keeps the last good version of that exporter running.
        """
        assert self._reloader is not None
        return await self._reloader.reload()

    def accept(
        self,
        body: bytes,
        *,
        tenant: Tenant | None,
        now: float,
        raw: bytes,
        encoding: str,
        protocol: WriteProtocol,
    ) -> Accepted:
        """Take in one decompressed request; see :class:`relay.server.contract.Accept`."""
        del raw, encoding  # for the journal, which comes later
        assert self._fleet is not None
        if self._draining:
            raise OverloadedError("shutting down", retry_after_s=BLOCKED_RETRY_AFTER_S)
        if self._fleet.blocked:
            raise OverloadedError(
                "the queue of a sink that must not lose data is full",
                retry_after_s=BLOCKED_RETRY_AFTER_S,
            )
        intake = self._engine.ingest(
            body,
            now=now,
            tick=self._tick(),
            origin=self._origin_of(tenant),
            protocol=protocol,
        )
        _offer(intake.sealed)
        self._arm()
        faults = {
            reason: count for reason, count in intake.dropped.items() if reason not in _BLAMELESS
        }
        return Accepted(
            intake.samples - intake.histograms,
            faults,
            tuple(intake.examples),
            histograms=intake.histograms,
            exemplars=intake.exemplars - intake.exemplars_refused,
        )

    def not_ready(self) -> list[str]:
        """Why we are not ready; empty where we are."""
        if self._stopping:
            return ["shutting down"]
        return [] if self._ready else ["starting"]

    def snapshot(self) -> Snapshot:
        """The figures of a scrape."""
        return snapshot(self.facts())

    def status(self) -> dict[str, object]:
        """The ``/status`` document."""
        return document(self.facts())

    def explain(self, question: Question) -> list[str]:
        """Who takes a series, and why, as of now. Raises ConfigError."""
        try:
            labels = parse_series(question.series)
        except SelectorError as error:
            raise ConfigError([Fault("series", f"{error}\n{error.caret()}")]) from error
        running = {one.id: one for one in self._fleet.exporters} if self._fleet is not None else {}
        if question.exporter and question.exporter not in running:
            raise ConfigError([Fault("exporter", f"there is no exporter {question.exporter}")])
        explainer = Explainer(
            self._engine.router, running, infer_types=self._settings.translation.infer_types
        )
        return list(
            explainer.series(
                labels,
                origin=self._origin_of(question.tenant),
                exporter=question.exporter,
                every=question.every,
            )
        )

    def facts(self) -> Facts:
        """Everything that can be said of this moment."""
        reports = tuple(self._fleet.reports()) if self._fleet else ()
        return Facts(
            now=self._clock(),
            started_at=self._started_at,
            ingest=self._ingest.statistics(),
            engine=self._engine.statistics(),
            lag_last_s=self._lag.last_s,
            lag_max_s=self._lag.max_s,
            exporters=tuple(self._fleet.exporters) if self._fleet else (),
            faults=self._reloader.faults if self._reloader else (),
            sources=tuple(self._engine.router.tallies()),
            sinks=reports,
            changes=self._reloader.statistics() if self._reloader else None,
        )

    @property
    def ingest_address(self) -> Address:
        """Where senders reach us; only after :meth:`start`."""
        return self._ingest.address

    @property
    def admin_address(self) -> Address:
        """Where operators reach us; only after :meth:`start`."""
        return self._admin.address

    def _make_worker(self, exporter: Exporter, sink: Sink) -> SinkWorker:
        assert self._transport is not None

        def lookup(reference: SecretRef, default_key: str) -> str:
            # Through self: a reload brings a new store, and a rotated secret is found without one.
            assert self._reloader is not None
            return self._reloader.secrets.get(
                exporter.project, exporter.namespace, reference, default_key
            )

        return SinkWorker(
            sink.name,
            exporter.id,
            sink,
            transport=self._transport,
            secrets=lookup,
            hold=self._engine.positions.hold,
            release=self._engine.positions.release,
            rng=self._rng,
            clock=self._clock,
            tick=self._tick,
        )

    def _origin_of(self, tenant: Tenant | None) -> Origin:
        """What the path of a request says of whose series it brings."""
        if tenant is None:
            return ANYWHERE
        if tenant.by_labels:
            return MULTITENANT
        return self._engine.router.tenancy.origin((tenant.account, tenant.project))

    def _arm(self) -> None:
        """Make sure that the loop wakes up when the next open batch is due."""
        due = self._engine.next_due()
        if due is None or due >= self._flush_at:
            return
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self._flush_at = due
        delay = max(0.0, due - self._tick())
        self._flush_timer = asyncio.get_running_loop().call_later(delay, self._flush_due)

    def _flush_due(self) -> None:
        self._flush_timer = None
        self._flush_at = float("inf")
        _offer(self._engine.due(self._tick()))
        self._arm()

    def __repr__(self) -> str:
        return f"<Relay {self._engine!r}>"


def _settle_garbage_collector() -> None:
    """Take what was loaded out of the collector's sight, and let it run less often.

    Nothing on the path of a sample makes cycles, but every batch makes thousands of tuples and
    views that live for milliseconds; at the default threshold of 700 the collector looked at them,
    and at the series, for a sixth of all CPU time (``bench --workload export``).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, *GC_GENERATIONS)


def tenancy_of(settings: Settings) -> Tenancy:
    """What tells the project of a series."""
    tenancy = settings.tenancy
    if tenancy is None:
        return Tenancy()
    return Tenancy(tenancy.label, {one.number: one.project for one in tenancy.accounts})


def _offer(sealed: Iterable[tuple[OpenBatch, SealedBatch]]) -> None:
    """Hand sealed batches to the sinks that own them."""
    for batch, points in sealed:
        assert isinstance(batch.owner, SinkWorker)
        batch.owner.offer(points, batch.lane)
