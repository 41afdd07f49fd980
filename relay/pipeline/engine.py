"""The metrics pipeline: a decompressed body in, filled batches out.

Synchronous and atomic: a request is processed completely or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.codec.remote_write.label_parser import LabelParser
from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.batching.emitter import Emitter
from relay.pipeline.batching.flush_schedule import FlushSchedule, seal_all
from relay.pipeline.batching.transaction import LATEST_NS_MAX, BatchTransaction
from relay.pipeline.batching.unfinished import ReplayGate, WaitingEntry, WaitingList
from relay.pipeline.batching.watermark import OffsetTracker
from relay.pipeline.contract import Tenant
from relay.pipeline.limits import DEFAULT_LIMITS, Limits
from relay.pipeline.metrics.decoders import DECODERS, DEFAULT_PROTOCOL, BodyDecoder, Decoder
from relay.pipeline.metrics.deferred import count_drops, keep_exemplars, process_deferred
from relay.pipeline.metrics.exemplars import ExemplarBuffer
from relay.pipeline.metrics.histograms.group import PendingPoint
from relay.pipeline.metrics.metadata.type_store import TypeStore
from relay.pipeline.metrics.otlp.decoder import OTLP_METRICS, OtlpMetrics
from relay.pipeline.metrics.otlp.streams import OtlpStreams
from relay.pipeline.metrics.series.lookup import SeriesLookup
from relay.pipeline.metrics.series.resolver import Learned, Resolver
from relay.pipeline.metrics.series.series_table import SeriesTable
from relay.pipeline.metrics.temporality.delta import DeltaStore
from relay.pipeline.metrics.translate.target_info import TargetInfoStore
from relay.pipeline.metrics.translate.translator import Translator
from relay.pipeline.pacing import UNPACED, Pace
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.router import Router, Sources
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath, Tenancy
from relay.pipeline.signal import ProbeResult
from relay.pipeline.statistics import EngineStatistics, Knowledge, Replayed
from relay.selector.inventory.info_series import InfoReader
from relay.selector.inventory.store import Inventory, ManifestIndex
from relay.selector.resources.compiler import Compiler

_LATEST_S_MAX = LATEST_NS_MAX // 10**9
SERIES_MAX_LEAST = 1_000
"""The least of the bounds that follow ``series_max``."""


class MetricsPipeline:
    """Recognises series, matches and translates them, and appends their samples to batches."""

    def __init__(  # noqa: PLR0913 - a composition point: every option is named once, here
        self,
        limits: Limits = DEFAULT_LIMITS,
        *,
        infer_types: bool = True,
        tenancy: Tenancy | None = None,
        compiler: Compiler | None = None,
        info_reader: InfoReader | None = None,
        assembly_wait_s: float = 10.0,
        first_sight_s: float = 0.0,
        delta_age_max_s: float = 3600.0,
        since: float = 0.0,
        future_max_s: float = math.inf,
        decoders: Mapping[WriteProtocol, Decoder] = DECODERS,
        offsets: OffsetTracker | None = None,
        tenants: ResourceTenants | None = None,
    ) -> None:
        self.table = SeriesTable(series_max=limits.series_max, idle_s=limits.series_idle_s)
        self.inventory = Inventory(objects_max=limits.objects_max)
        self.router = Router(tenancy=tenancy, compiler=compiler, inventory=self.inventory)
        self.router.series_max = limits.project_series_max
        self.types = TypeStore(
            families_max=limits.families_max,
            infer=infer_types,
            has_tenancy=self.router.tenancy.enabled,
            shares_platform=self.router.tenancy.shares_metadata,
            idle_s=limits.series_idle_s,
        )
        # No more metrics than series; the least makes up for a table that is tiny.
        series_max = max(limits.series_max, SERIES_MAX_LEAST)
        self.translator = Translator(idle_max=max(1000, series_max // 10))
        self.resources = TargetInfoStore(idle_s=limits.series_idle_s)
        self.deltas = DeltaStore(
            states_max=series_max, age_max_s=delta_age_max_s, since_ns=int(since * 1e9)
        )
        self.offsets = offsets if offsets is not None else OffsetTracker()
        self.waiting = WaitingList(self.offsets)
        self.resolver = Resolver(
            self.router,
            self.translator,
            Learned(self.types, self.resources),
            self.deltas,
            self.waiting,
            wait_s=assembly_wait_s,
            first_sight_s=first_sight_s,
            families_max=limits.histograms_max,
            samples_max=series_max,
        )
        self.assembly = self.resolver.assembly
        self.drops = self.resolver.drops
        self.first_sight = self.resolver.first_sight
        self.schedule = FlushSchedule()
        self.lookup = self._make_lookup(limits, info_reader or InfoReader())
        self._received: dict[WriteProtocol, int] = {}
        self._dropped: dict[str, int] = {}
        self.exemplar_buffer = ExemplarBuffer()
        tenants = tenants or ResourceTenants(tenancy)
        self.streams = OtlpStreams(
            self.table, self.router, self.resolver, self.types, self.deltas, limits, tenants
        )
        self._decoders: dict[WriteProtocol, BodyDecoder] = {**decoders}
        self._decoders[OTLP_METRICS] = OtlpMetrics(self.streams, tenants)
        self._gate: ReplayGate | None = None
        self._marks = -1
        """Position of the last transaction that is no accepted request; counts down."""
        self._future_max_s = future_max_s
        self._current: int | None = None
        """Position of the request in progress, which may pause; None between requests."""
        self.grown = 0
        """Bytes by which transactions made open batches larger, since the start."""

    def _make_lookup(self, limits: Limits, info_reader: InfoReader) -> SeriesLookup:
        return SeriesLookup(
            self.table,
            self.resolver,
            self.inventory,
            LabelParser(labels_max=limits.labels_max, bytes_max=limits.series_bytes_max),
            info_reader,
            self.router.tenancy,
            self.types,
            series_bytes_max=limits.series_bytes_max,
        )

    def path_of(self, tenant: Tenant | None) -> IngestPath:
        """Return the tenant part of a request's path in the form the series lookup needs."""
        return self.router.tenancy.path_of(tenant)

    def add_exporter(self, exporter: str, project: str, sources: Sources) -> None:
        """Start routing an exporter to its sinks; raise as :meth:`Router.add` does."""
        self.types.claim(project)
        self.inventory.claim(project)
        self.router.add(exporter, project, sources)
        self.table.invalidate()

    def replace_exporter(self, exporter: str, sources: Sources) -> None:
        """Replace the sources of an exporter; raise as :meth:`Router.replace` does."""
        self.router.replace(exporter, sources)
        self.table.invalidate()

    def set_inventory(self, index: ManifestIndex) -> None:
        """Replace the inventory read from manifests."""
        self.inventory.replace_manifests(index)
        self._invalidate_stale_routes()

    def remove_exporter(self, exporter: str) -> None:
        """Stop routing an exporter; the caller sends what its batches hold."""
        self.router.remove(exporter)
        self.table.invalidate()

    def ingest(
        self,
        body: bytes,
        *,
        now: float,
        tick: float,
        origin: IngestPath = ANYWHERE,
        protocol: WriteProtocol = DEFAULT_PROTOCOL,
        pace: Pace = UNPACED,
    ) -> BatchTransaction:
        """Apply one decompressed request; ``origin`` is what its path says.

        ``now`` is the wall clock and ``tick`` the monotonic clock of the flush schedule, both in s.
        The caller hands over ``sealed`` of the answer; each batch in it holds its position already.
        While ``pace`` pauses, only reads may use the pipeline. Raises DecodeError, TooLargeError
        and OverloadedError, with nothing changed, and what ``pace`` raises.
        """
        return self._take(body, now, tick, origin, protocol, pace)[0]

    def replay(
        self,
        body: bytes,
        *,
        position: int,
        now: float,
        tick: float,
        origin: IngestPath = ANYWHERE,
        protocol: WriteProtocol = DEFAULT_PROTOCOL,
        pace: Pace = UNPACED,
    ) -> Replayed:
        """Apply a journaled request again, to the batches that still need it.

        Keeps its original ``position``, which this pipeline must not have given out; no limits
        apply. Requires :meth:`begin_replay`. Raises DecodeError.
        """
        self.offsets.advance(position)
        return Replayed(*self._take(body, now, tick, origin, protocol, pace, False))

    def begin_replay(self, gate: ReplayGate) -> None:
        """Prepare for :meth:`replay`; ``gate`` decides which batch still needs which point."""
        self._gate = self.first_sight.gate = gate

    def end_replay(self, tick: float) -> list[tuple[OpenBatch, SealedBatch]]:
        """End the replay: send what waited for requests that the journal does not have."""
        gate = self._gate
        if gate is None or gate.crossed:
            return []
        gate.crossed = True
        # What waited leaves with the last position given out, and no sink's low may be beyond it.
        self.offsets.advance(max(self.offsets.following, gate.ceiling + 1))
        return self._emit_deferred(tick, self._end_collecting)

    def dry_run(
        self,
        body: bytes,
        *,
        now: float,
        origin: IngestPath = ANYWHERE,
        protocol: WriteProtocol = DEFAULT_PROTOCOL,
        pace: Pace = UNPACED,
    ) -> ProbeResult:
        """Return what :meth:`ingest` would, and change nothing. Raises like that."""
        self._marks -= 1
        transaction = BatchTransaction(self._marks, now, self._latest_ns(now), pace)
        self._current = self.offsets.following
        self.router.held = True
        self.router.pause = pace.pause
        try:
            self._consume(body, transaction, origin, self._decoders[protocol])
            probed = ProbeResult(
                transaction.taken, transaction.dropped, transaction.examples, transaction.has_effect
            )
            transaction.rollback()
            self.assembly.forget_partings()
        finally:
            self._current = None
            self.router.held = False
            self.router.pause = UNPACED.pause
        self._invalidate_stale_routes()
        return probed

    @property
    def low_watermark(self) -> int:
        """The oldest position of which something waits, or waited and is not delivered.

        Where there is none: that of the request in progress, else the next to be given out.
        """
        held = self.offsets.following if self._current is None else self._current
        waiting = self.waiting.low
        return held if waiting is None else min(waiting, held)

    def named(self) -> tuple[list[WaitingEntry], int | None]:
        """Return what a checkpoint names as waiting, and the oldest position of the rest."""
        gate = self._gate
        if gate is None or gate.crossed:
            return self.waiting.snapshot()
        entries, rest = self.waiting.snapshot(only_waited=True)
        return entries + gate.left(self.offsets.following), rest

    @property
    def metadata_version(self) -> int:
        """Version of the state that :meth:`export_metadata` returns."""
        return self._learned()

    def export_metadata(self) -> Knowledge:
        """Return the learned state, for :meth:`import_metadata` of the next process."""
        families, claims = self.types.families(), self.inventory.info_claims()
        return Knowledge(families, claims, self.resources.known(), self.first_sight.settled())

    def import_metadata(self, knowledge: Knowledge) -> None:
        """Restore what an earlier process learned; before the first request."""
        self.types.restore(knowledge.families)
        self.resources.restore(knowledge.targets)
        self.first_sight.recall(knowledge.settled)
        for claim in knowledge.claims:
            self.inventory.apply_info_series(claim, begins=True)

    def flush_due(
        self, tick: float, *, most: int | None = None
    ) -> list[tuple[OpenBatch, SealedBatch]]:
        """Seal and return up to ``most`` due batches, and send the waiting points that are due."""
        self.deltas.tick(tick)
        sealed = self._emit_deferred(tick, self._expire, tick)
        sealed += seal_all(islice(self.schedule.due(tick), most))
        self.exemplar_buffer.dropped += self.schedule.take_lone_exemplars()
        return sealed

    @property
    def armed(self) -> int:
        """Deadlines that were set since the start."""
        return self.schedule.armed + self.assembly.armed + self.first_sight.armed

    def next_due(self) -> float | None:
        """Return the tick at which :meth:`flush_due` has something to do, or None."""
        due = self.schedule.next_due()
        for moment in (self.assembly.next_due(), self.first_sight.next_due()):
            if moment is not None and (due is None or moment < due):
                due = moment
        return due

    def finish(self, tick: float) -> list[tuple[OpenBatch, SealedBatch]]:
        """Send what waits for others; no request may follow. Open batches stay open."""
        return self._emit_deferred(tick, self._finish)

    def flush(self, batches: Sequence[OpenBatch]) -> list[tuple[OpenBatch, SealedBatch]]:
        """Seal and return those of the batches that hold points."""
        return list(seal_all(batches))

    def statistics(self) -> EngineStatistics:
        """Return a snapshot; flushes the counters of the router."""
        self.router.flush_counters()
        return EngineStatistics(
            self.table.statistics(),
            self.lookup.labels.statistics(),
            self.router.statistics(),
            self.types.statistics(),
            self.translator.statistics(),
            self.offsets.statistics(),
            self.inventory.statistics(),
            sum(self._received.values()),
            dict(self._received),
            dict(self._dropped),
            self.exemplar_buffer.statistics(),
            self.assembly.statistics(),
            self.deltas.statistics(),
            self.first_sight.statistics(),
            self.drops.rows(),
        )

    def _learned(self) -> int:
        learned = self.types.version + self.inventory.version + self.resources.version
        return learned + self.first_sight.version

    def _latest_ns(self, now: float) -> int:
        """Return the latest time that points of a request that arrived at ``now`` may have, ns."""
        latest_s = now + self._future_max_s
        return int(latest_s * 1e9) if latest_s < _LATEST_S_MAX else LATEST_NS_MAX

    def _take(
        self,
        body: bytes,
        now: float,
        tick: float,
        origin: IngestPath,
        protocol: WriteProtocol,
        pace: Pace,
        bounded: bool = True,
    ) -> tuple[BatchTransaction, list[tuple[OpenBatch, int]]]:
        """Apply a request under the next position, whole or not at all.

        Return its transaction and what :meth:`_finish_request` does.
        """
        self.first_sight.tick = tick
        self._sweep(tick)
        decoder = self._decoders[protocol]
        position = self.offsets.begin()
        transaction = BatchTransaction(position, now, self._latest_ns(now), pace, bounded=bounded)
        self._current = position
        self.router.held = True  # until its end the router keeps removed counters
        self.router.pause = pace.pause
        try:
            try:
                self._consume(body, transaction, origin, decoder)
            except BaseException:
                self.offsets.give_up(position, is_replayed=not bounded)
                raise
            withheld = self._finish_request(transaction, tick, protocol)
        finally:
            self._current = None
            self.router.held = False
            self.router.pause = UNPACED.pause
        self._invalidate_stale_routes()
        return transaction, withheld

    def _consume(
        self,
        body: bytes,
        transaction: BatchTransaction,
        origin: IngestPath,
        decoder: BodyDecoder,
    ) -> None:
        """Append a request's points to the batches, or raise and roll back."""
        self.lookup.begin(
            body, decoder, origin, bounded=transaction.bounded, pause=transaction.pace.pause
        )
        self.drops.now = transaction.now
        self.assembly.deferred = transaction.deferred
        before = self._learned()
        try:
            decoder.decode(body, transaction, self.lookup)
        except BaseException:
            transaction.rollback()
            self.assembly.forget_partings()
            raise
        finally:
            self.lookup.end()
        transaction.learned = self._learned() != before

    def _finish_request(
        self, transaction: BatchTransaction, tick: float, protocol: WriteProtocol
    ) -> list[tuple[OpenBatch, int]]:
        """Make the request's effects final; return the points taken back from its batches."""
        transaction.pace.final = True
        self._received[protocol] = self._received.get(protocol, 0) + transaction.flush_counts()
        is_plain, gate = transaction.is_plain, self._gate
        if not is_plain:
            count_drops(transaction, self._dropped, self.drops)
        self.assembly.commit_partings()
        withheld = self._withhold(transaction) if gate is not None else []
        if not is_plain or gate is not None or self.first_sight.told or self.first_sight.behind:
            emitter = self._emitter(transaction, tick)
            process_deferred(emitter)
            if not emitter.collecting:
                self.first_sight.release_told(emitter)
            withheld += [(batch, 1) for batch in emitter.withheld]
        if not is_plain:
            keep_exemplars(transaction, self.exemplar_buffer)
        if self.resolver.raw.is_used:
            self.resolver.raw.send_metadata(transaction)
        self._commit(transaction, tick)
        self.offsets.release(transaction.request)
        return withheld

    def _emit_deferred(
        self, tick: float, send: Callable[..., None], *arguments: float
    ) -> list[tuple[OpenBatch, SealedBatch]]:
        """Commit points that no request brings, in a transaction with a negative position."""
        self._marks -= 1
        transaction = BatchTransaction(self._marks, 0.0)
        send(*arguments, self._emitter(transaction, tick))
        self._commit(transaction, tick)
        return transaction.sealed

    def _emitter(self, transaction: BatchTransaction, tick: float) -> Emitter:
        if (gate := self._gate) is None:
            return Emitter(transaction, self.offsets, tick)
        if not gate.crossed and transaction.request >= gate.ceiling:
            gate.crossed = True
            emitter = Emitter(transaction, self.offsets, tick, gate)
            self._end_collecting(emitter)
            return emitter
        if gate.crossed and self.low_watermark >= gate.ceiling:
            self._gate = gate = None  # everything before the ceiling is delivered
        return Emitter(transaction, self.offsets, tick, gate, gate is not None and not gate.crossed)

    def _withhold(self, transaction: BatchTransaction) -> list[tuple[OpenBatch, int]]:
        """Take a replayed request back from the batches that do not need it."""
        gate, position = self._gate, transaction.request
        assert gate is not None
        if position >= gate.ceiling:
            return []
        return transaction.drop_unwanted(lambda batch: position >= gate.low(batch))

    def _end_collecting(self, emitter: Emitter) -> None:
        """Send what was collected before the replay reached the gate's ceiling."""
        self.first_sight.end_collecting(emitter)
        for waiter in self.waiting.waiters():
            emitter.transaction.pace.pause()
            if isinstance(waiter, PendingPoint):
                self.assembly.end_collecting(waiter, emitter)

    def _commit(self, transaction: BatchTransaction, tick: float) -> None:
        """Commit what a request or a deadline did to batches."""
        self.exemplar_buffer.sent += transaction.exemplars_sent
        self.exemplar_buffer.dropped += transaction.exemplars_lost
        transaction.commit(self.offsets, self.schedule, tick)
        self.grown += transaction.batch_growth_bytes
        if self.first_sight.outdated:
            self.table.outdate(self.first_sight.take_outdated())
        if self.resolver.pop_changed():
            self.table.invalidate()

    def _expire(self, tick: float, emitter: Emitter) -> None:
        """Send waiting points that are due; metadata first, as samples may go on to histograms."""
        if not emitter.collecting:
            self.first_sight.expire(tick, emitter)
        self.assembly.expire(tick, emitter)

    def _finish(self, emitter: Emitter) -> None:
        self.first_sight.finish(emitter)
        self.assembly.finish(emitter)

    def _sweep(self, tick: float) -> None:
        """Evict some of what has been idle."""
        self.table.evict_idle(tick)
        self.types.sweep(tick)
        self.resources.sweep(tick)
        self.streams.known.sweep(tick)
        changed = self.types.changed and self.types.take_changed()
        if self.resolver.sweep_raw(tick, self.table.active) or changed:
            self.table.invalidate()

    def _invalidate_stale_routes(self) -> None:
        """Make series look for their routes again where the inventory changed."""
        if self.router.apply_inventory_changes():
            self.table.invalidate()

    def __repr__(self) -> str:
        return f"<MetricsPipeline {self.table!r} {self.router!r}>"
