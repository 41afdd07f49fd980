"""The pipeline as one synchronous object: a decompressed body in, filled batches out.

The shell (``relay.app``) gives it bodies and the time, hands sealed batches to their sinks and
wakes up for what is due. Nothing here waits, and a request is processed whole or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.codec.remote_write.label_parser import LabelReader
from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.batching.commit import close_round, take_deferred
from relay.pipeline.batching.emitter import Emission
from relay.pipeline.batching.flush_timer import FlushSchedule, seal_all
from relay.pipeline.batching.transaction import LATEST_NS_MAX, Intake
from relay.pipeline.batching.unfinished import ReplayGate, WaitingEntry, WaitingList
from relay.pipeline.batching.watermark import Positions
from relay.pipeline.metrics.exemplars import ExemplarShelf
from relay.pipeline.metrics.histograms.group import Set
from relay.pipeline.metrics.hotpath.v1_loop import consume, has_metadata
from relay.pipeline.metrics.hotpath.v2_loop import consume2
from relay.pipeline.metrics.metadata.type_store import KnownTypes
from relay.pipeline.metrics.series.hash_index import Guesses
from relay.pipeline.metrics.series.lookup import Finder, Request
from relay.pipeline.metrics.series.resolver import Learned, Resolver
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.metrics.series.series_table import SeriesTable
from relay.pipeline.metrics.temporality.delta import DeltaStore
from relay.pipeline.metrics.translate.target_info import Resources
from relay.pipeline.metrics.translate.translator import Translator
from relay.pipeline.pacing import ENTRIES, UNPACED, Pace
from relay.pipeline.routing.router import Router, Sources
from relay.pipeline.routing.tenancy import ANYWHERE, Origin, Tenancy
from relay.pipeline.statistics import EngineStatistics, Knowledge, Probed, Replayed
from relay.selector.inventory.info_series import InfoReader
from relay.selector.inventory.store import Inventory, ManifestIndex
from relay.selector.resources.compiler import Compiler

_LATEST_S_MAX = LATEST_NS_MAX // 10**9
SERIES_MAX_LEAST = 1_000
"""Bounds that follow that of the series are not below this."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what one sender can make us keep."""

    series_max: int = 2_000_000
    series_idle_s: float = 3600.0
    series_bytes_max: int = 16 * 1024
    labels_max: int = 128
    families_max: int = 1_000_000
    histograms_max: int = 200_000
    objects_max: int = 200_000


class Engine:
    """Recognise, match, translate, batch."""

    def __init__(  # noqa: PLR0913 - a composition point: every option is named once, here
        self,
        limits: Limits = Limits(),
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
    ) -> None:
        self._guesses: dict[Series, Guesses] = {}
        self.table = SeriesTable(series_max=limits.series_max, idle_s=limits.series_idle_s)
        self.inventory = Inventory(objects_max=limits.objects_max)
        self.router = Router(tenancy=tenancy, compiler=compiler, inventory=self.inventory)
        self.types = KnownTypes(
            families_max=limits.families_max,
            infer=infer_types,
            has_tenancy=self.router.tenancy.enabled,
            shares_platform=self.router.tenancy.shares_metadata,
            idle_s=limits.series_idle_s,
        )
        # No more metrics than series; the least makes up for a table that is tiny.
        series_max = max(limits.series_max, SERIES_MAX_LEAST)
        self.translator = Translator(groups_max=max(1000, series_max // 10))
        self.resources = Resources(idle_s=limits.series_idle_s)
        self.deltas = DeltaStore(
            states_max=series_max, age_max_s=delta_age_max_s, since_ns=int(since * 1e9)
        )
        self.positions = Positions()
        self.waiting = WaitingList(self.positions)
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
        self.finder = Finder(
            self.table,
            self.resolver,
            self.inventory,
            LabelReader(labels_max=limits.labels_max, bytes_max=limits.series_bytes_max),
            info_reader or InfoReader(),
            self.router.tenancy,
            series_bytes_max=limits.series_bytes_max,
        )
        self._received: dict[WriteProtocol, int] = {}
        self._dropped: dict[str, int] = {}
        self.shelf = ExemplarShelf()
        self._gate: ReplayGate | None = None
        self._marks = -1
        """Stands in for the position of what is no request that was taken; no batch has it."""
        self._future_max_s = future_max_s
        self._current: int | None = None
        """Position of the request that is under way, which may pause; None between requests."""
        self.grown = 0
        """Bytes by which rounds made open batches larger, since the start."""

    def add_exporter(self, exporter: str, project: str, sources: Sources) -> None:
        """Start routing an exporter; see :meth:`Router.add`."""
        self.types.claim(project)
        self.inventory.claim(project)
        self.router.add(exporter, project, sources)
        self.table.invalidate()

    def replace_exporter(self, exporter: str, sources: Sources) -> None:
        """Route an exporter by other sources; see :meth:`Router.replace`."""
        self.router.replace(exporter, sources)
        self.table.invalidate()

    def set_inventory(self, index: ManifestIndex) -> None:
        """Take this for all that manifests say."""
        self.inventory.replace_manifests(index)
        self._settle()

    def remove_exporter(self, exporter: str) -> None:
        """Stop routing an exporter. What its batches hold is the caller's to send."""
        self.router.remove(exporter)
        self.table.invalidate()

    def ingest(
        self,
        body: bytes,
        *,
        now: float,
        tick: float,
        origin: Origin = ANYWHERE,
        protocol: WriteProtocol = "remote_write_v1",
        pace: Pace = UNPACED,
    ) -> Intake:
        """Process one decompressed WriteRequest, or Request where ``protocol`` is 2.0, whose path
        says ``origin``.

        ``now`` is the wall clock and ``tick`` the monotonic clock of the flush schedule, both in
        seconds. The caller takes ``sealed`` from the answer; every batch in it holds its position
        already. Where ``pace`` pauses, only what reads may use the engine. Raises DecodeError, with
        nothing changed, where the body is not a WriteRequest, and what ``pace`` raises.
        """
        self.first_sight.tick = tick
        position = self.positions.begin()
        intake = Intake(position, now, self._latest_ns(now), pace)
        self._sweep(tick)
        self._take(body, intake, tick, origin, protocol)
        return intake

    def replay(
        self,
        body: bytes,
        *,
        position: int,
        now: float,
        tick: float,
        origin: Origin = ANYWHERE,
        protocol: WriteProtocol = "remote_write_v1",
        pace: Pace = UNPACED,
    ) -> Replayed:
        """Process a request once more, under the position that it had: what :meth:`ingest` does,
        without its limits, for those batches alone that still need it. :meth:`begin_replay` first.

        ``position`` is none that was given out by this engine. Raises DecodeError.
        """
        self.first_sight.tick = tick
        self.positions.advance(position)
        position = self.positions.begin()
        intake = Intake(position, now, self._latest_ns(now), pace, bounded=False)
        self._sweep(tick)
        return Replayed(intake, self._take(body, intake, tick, origin, protocol))

    def begin_replay(self, gate: ReplayGate) -> None:
        """Be ready for :meth:`replay`: ``gate`` says who still needs what."""
        self._gate = self.first_sight.gate = gate

    def end_replay(self, tick: float) -> list[tuple[OpenBatch, SealedBatch]]:
        """Every request was replayed: send what was only collected for want of those that came
        later and are gone."""
        gate = self._gate
        if gate is None or gate.crossed:
            return []
        gate.crossed = True
        return self._late(tick, self._end_collecting)

    def probe(
        self,
        body: bytes,
        *,
        now: float,
        origin: Origin = ANYWHERE,
        protocol: WriteProtocol = "remote_write_v1",
        pace: Pace = UNPACED,
    ) -> Probed:
        """What :meth:`ingest` would say of a request, without taking it. Raises like that."""
        self._marks -= 1
        intake = Intake(self._marks, now, self._latest_ns(now), pace)
        self._begin(self.positions.following, pace)
        try:
            self._consume(body, intake, origin, protocol)
            probed = Probed(intake.taken, intake.dropped, intake.examples, intake.wanted)
            intake.undo()
            self.assembly.forget_partings()
        finally:
            self._end()
        self._settle()
        return probed

    @property
    def low(self) -> int:
        """The oldest position of which something waits, or is not delivered though it has waited;
        the request's that is under way, or the next one to be given out, where nothing is."""
        held = self.positions.following if self._current is None else self._current
        waiting = self.waiting.low
        return held if waiting is None else min(waiting, held)

    def named(self) -> tuple[list[WaitingEntry], int | None]:
        """What a checkpoint names of what waits, and the oldest position of what it does not."""
        gate = self._gate
        if gate is None or gate.crossed:
            return self.waiting.snapshot()
        entries, rest = self.waiting.snapshot(only_waited=True)
        return entries + gate.left(self.positions.following), rest

    @property
    def learned(self) -> int:
        """Moves with everything that requests teach: types of metrics, labels of objects, what
        targets say of themselves, which families need not wait."""
        learned = self.types.version + self.inventory.version + self.resources.version
        return learned + self.first_sight.version

    def knowledge(self) -> Knowledge:
        """What requests have taught; whatever is read later may depend on it."""
        return Knowledge(
            self.types.families(),
            self.inventory.claims(),
            self.resources.known(),
            self.first_sight.settled(),
        )

    def recall(self, knowledge: Knowledge) -> None:
        """Know again what an earlier process knew; before the first request."""
        self.types.restore(knowledge.families)
        self.resources.restore(knowledge.targets)
        self.first_sight.recall(knowledge.settled)
        for claim in knowledge.claims:
            self.inventory.hear(claim, begins=True)

    def due(self, tick: float, *, most: int | None = None) -> list[tuple[OpenBatch, SealedBatch]]:
        """Seal and return every batch whose time has come, but not more than ``most`` of them, and
        let what waits for others come to its deadline."""
        self.deltas.tick(tick)
        sealed = self._late(tick, self._expire, tick)
        return [*sealed, *seal_all(islice(self.schedule.due(tick), most))]

    def next_due(self) -> float | None:
        """The next moment at which :meth:`due` has something to do, or None."""
        moments = self.schedule.next_due(), self.assembly.next_due(), self.first_sight.next_due()
        return min((moment for moment in moments if moment is not None), default=None)

    def finish(self, tick: float) -> list[tuple[OpenBatch, SealedBatch]]:
        """Nothing more will come: send what waits for others. Open batches stay open."""
        return self._late(tick, self._finish)

    def flush(self, batches: Sequence[OpenBatch]) -> list[tuple[OpenBatch, SealedBatch]]:
        """Seal and return those of the batches that hold points (a sink leaves, or we stop)."""
        return list(seal_all(batches))

    def statistics(self) -> EngineStatistics:
        """A snapshot; brings all tallies up to date."""
        self.router.fold()
        return EngineStatistics(
            self.table.statistics(),
            self.finder.labels.statistics(),
            self.router.statistics(),
            self.types.statistics(),
            self.translator.statistics(),
            self.positions.statistics(),
            self.inventory.statistics(),
            sum(self._received.values()),
            dict(self._received),
            dict(self._dropped),
            self.shelf.statistics(),
            self.assembly.statistics(),
            self.deltas.statistics(),
            self.first_sight.statistics(),
            self.drops.rows(),
        )

    def _latest_ns(self, now: float) -> int:
        """The latest time that a point of a request may have which arrived at ``now``."""
        latest_s = now + self._future_max_s
        return int(latest_s * 1e9) if latest_s < _LATEST_S_MAX else LATEST_NS_MAX

    def _take(
        self, body: bytes, intake: Intake, tick: float, origin: Origin, protocol: WriteProtocol
    ) -> list[tuple[OpenBatch, int]]:
        """Apply a request, and return what :meth:`_commit` does."""
        self._begin(intake.request, intake.pace)
        try:
            try:
                self._consume(body, intake, origin, protocol)
            except BaseException:
                self.positions.release(intake.request)
                raise
            withheld = self._commit(intake, tick, protocol)
        finally:
            self._end()
        self._settle()
        return withheld

    def _begin(self, position: int, pace: Pace) -> None:
        """A request is half applied until :meth:`_end`: counts of routes that end meanwhile are
        not handed on yet."""
        self._current = position
        self.router.held = True
        self.router.pause = pace.pause

    def _end(self) -> None:
        self._current = None
        self.router.held = False
        self.router.pause = UNPACED.pause

    def _consume(
        self, body: bytes, intake: Intake, origin: Origin, protocol: WriteProtocol
    ) -> None:
        """Append a request's points to the batches; nothing is changed where that raises."""
        self.finder.enter(origin)
        self.drops.now = intake.now
        self.assembly.deferred = intake.deferred
        before = self.learned
        try:
            bounded, pause = intake.bounded, intake.pace.pause
            request = Request(body, self.finder, self.types, protocol, bounded=bounded, pause=pause)
            if protocol == "remote_write_v2":
                consume2(self.table, body, intake, request)
            else:
                # Else whether a series of one project is new would decide when others are typed.
                if self.router.tenancy.enabled and has_metadata(body):
                    request.learn_ahead()
                consume(self.table, body, intake, request, self._guesses)
                if intake.has_metadata:
                    request.learn_ahead()
        except BaseException:
            intake.undo()
            self.assembly.forget_partings()
            raise
        intake.learned = self.learned != before

    def _commit(
        self, intake: Intake, tick: float, protocol: WriteProtocol
    ) -> list[tuple[OpenBatch, int]]:
        """Make the request's effects final: counts, deferred samples, holds and deadlines.

        Returns the points that were taken back from batches that do not need them.
        """
        intake.pace.final = True
        self._received[protocol] = self._received.get(protocol, 0) + intake.count()
        is_plain, gate = intake.is_plain, self._gate
        if not is_plain:
            self._name_dropped(intake)
        self.assembly.commit_partings()
        withheld = self._withhold(intake) if gate is not None else []
        emission = self._emission(intake, tick)
        if not is_plain or gate is not None:
            take_deferred(intake, emission)
        if not emission.collecting:
            self.first_sight.release_told(emission)
        if not is_plain:
            self._shelve(intake)
        self._close(intake, emission, tick)
        self.positions.release(intake.request)
        return withheld

    def _name_dropped(self, intake: Intake) -> None:
        for reason, count in intake.dropped.items():
            self._dropped[reason] = self._dropped.get(reason, 0) + count
        for at, (series, reason, count) in enumerate(intake.lost):
            if not at % ENTRIES:
                intake.pace.pause()
            self.drops.count(series.name, reason, count, series.plan.every_sink())

    def _shelve(self, intake: Intake) -> None:
        self.shelf.received += intake.exemplars
        self.shelf.dropped += intake.exemplars_refused
        for series, exemplars in intake.loose:
            self.shelf.put(series, exemplars)
            intake.pace.pause()

    def _late(
        self, tick: float, send: Callable[..., None], *arguments: float
    ) -> list[tuple[OpenBatch, SealedBatch]]:
        """A round of points that no request brings; its mark is no request's."""
        self._marks -= 1
        intake = Intake(self._marks, 0.0)
        emission = self._emission(intake, tick)
        send(*arguments, emission)
        self._close(intake, emission, tick)
        return intake.sealed

    def _emission(self, intake: Intake, tick: float) -> Emission:
        gate = self._gate
        if gate is None:
            return Emission(intake, self.positions, tick)
        if not gate.crossed and intake.request >= gate.ceiling:
            gate.crossed = True
            emission = Emission(intake, self.positions, tick, gate)
            self._end_collecting(emission)
            return emission
        if gate.crossed and self.low >= gate.ceiling:
            self._gate = gate = None  # nothing is left of what others may have had
        return Emission(intake, self.positions, tick, gate, gate is not None and not gate.crossed)

    def _withhold(self, intake: Intake) -> list[tuple[OpenBatch, int]]:
        """Take back what a replayed request did at once to batches that do not need it."""
        gate, position = self._gate, intake.request
        assert gate is not None
        if position >= gate.ceiling:
            return []
        return intake.withhold(lambda batch: position >= gate.low(batch))

    def _end_collecting(self, emission: Emission) -> None:
        """Send what was collected while a replay came to where everybody needs everything."""
        self.first_sight.end_collecting(emission)
        for waiter in self.waiting.waiters():
            emission.intake.pace.pause()
            if isinstance(waiter, Set):
                self.assembly.end_collecting(waiter, emission)

    def _close(self, intake: Intake, emission: Emission, tick: float) -> None:
        """End a round in which batches grew: each holds the position of its oldest sample, and
        leaves when its time has come."""
        emission.close()
        self.grown += close_round(intake, self.positions, self.schedule, self.shelf, tick)
        emission.hand_over()
        if self.first_sight.take_changed():
            self.table.invalidate()

    def _expire(self, tick: float, emission: Emission) -> None:
        """Let what waits come to its deadline: families first, their samples may wait on."""
        if not emission.collecting:
            self.first_sight.expire(tick, emission)
        self.assembly.expire(tick, emission)

    def _finish(self, emission: Emission) -> None:
        self.first_sight.finish(emission)
        self.assembly.finish(emission)

    def _sweep(self, tick: float) -> None:
        """Forget some of what was not in use for long."""
        self.table.sweep(tick)
        self.types.sweep(tick)
        self.resources.sweep(tick)
        if self.types.take_changed():
            self.table.invalidate()

    def _settle(self) -> None:
        """Let series find their routes anew where the inventory says something else now."""
        if self.router.settle():
            self.table.invalidate()

    def __repr__(self) -> str:
        return f"<Engine {self.table!r} {self.router!r}>"
