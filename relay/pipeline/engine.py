"""The pipeline as one synchronous object: a decompressed body in, filled batches out.

The shell (``relay.app``) gives it bodies and the time, hands sealed batches to their sinks and
wakes up for what is due. Nothing here waits, and a request is processed whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from relay.errors import OverloadedError
from relay.inventory.info_series import InfoReader
from relay.inventory.store import Inventory, InventoryStatistics, Object
from relay.pipeline.assembly import AssemblyStatistics
from relay.pipeline.delta import DeltaStatistics, DeltaStore
from relay.pipeline.exemplars import ExemplarShelf, ExemplarShelfStatistics
from relay.pipeline.flush import FlushSchedule
from relay.pipeline.intake import Intake
from relay.pipeline.kernel import consume
from relay.pipeline.kernel2 import consume2
from relay.pipeline.metric_types import (
    FamilyMetadata,
    MetricTypes,
    MetricTypesStatistics,
    family_of,
)
from relay.pipeline.native import NativeRoute
from relay.pipeline.positions import Positions, PositionsStatistics
from relay.pipeline.recollection import recall, remember
from relay.pipeline.resolve import Resolver
from relay.pipeline.resources import Resources
from relay.pipeline.router import Router, RouterStatistics, Sources
from relay.pipeline.series import Series
from relay.pipeline.streams import Emission
from relay.pipeline.table import SeriesTable, SeriesTableStatistics
from relay.pipeline.tenancy import ACCOUNT_LABELS, ANYWHERE, Origin, Tenancy
from relay.pipeline.translate import Translator, TranslatorStatistics
from relay.selector.resource_matching import Compiler
from relay.wire.batch import OpenBatch, SealedBatch
from relay.wire.remote_write import (
    METADATA_FIELD,
    LabelReader,
    LabelReaderStatistics,
    SeriesFault,
    WriteProtocol,
    parse_metadata,
    top_level,
)
from relay.wire.remote_write2 import Metadata2

NEW_SERIES_MAX = 50_000
"""New series of one request that are looked at before others are served: a second's worth, if
they are of usual size."""
SERIES_MAX_LEAST = 1_000
"""Bounds that follow that of the series are not below this."""
NEW_SERIES_BYTES_MAX = 8 * 1024 * 1024
"""The same in bytes of labels, for those that are not."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what one sender can make us keep."""

    series_max: int = 2_000_000
    series_idle_s: float = 3600.0
    series_bytes_max: int = 16 * 1024
    labels_max: int = 128
    families_max: int = 100_000
    histograms_max: int = 200_000
    objects_max: int = 200_000


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Snapshots of all parts, and counters since the start.

    ``received_samples`` counts everything that came, native histograms included, by protocol in
    ``received_by_protocol``; ``dropped_samples`` what went no further than the pipeline, by reason.
    """

    table: SeriesTableStatistics
    labels: LabelReaderStatistics
    router: RouterStatistics
    types: MetricTypesStatistics
    translator: TranslatorStatistics
    positions: PositionsStatistics
    inventory: InventoryStatistics
    received_samples: int
    received_by_protocol: dict[WriteProtocol, int]
    dropped_samples: dict[str, int]
    exemplars: ExemplarShelfStatistics
    assembly: AssemblyStatistics
    deltas: DeltaStatistics


class Engine:
    """Recognise, match, translate, batch."""

    def __init__(
        self,
        limits: Limits = Limits(),
        *,
        infer_types: bool = True,
        tenancy: Tenancy | None = None,
        compiler: Compiler | None = None,
        info_reader: InfoReader | None = None,
        assembly_wait_s: float = 10.0,
        delta_age_max_s: float = 3600.0,
        since: float = 0.0,
    ) -> None:
        self.table = SeriesTable(series_max=limits.series_max, idle_s=limits.series_idle_s)
        self.inventory = Inventory(objects_max=limits.objects_max)
        self.router = Router(tenancy=tenancy, compiler=compiler, inventory=self.inventory)
        self.types = MetricTypes(families_max=limits.families_max, infer=infer_types)
        # No more metrics than series; the least makes up for a table that is tiny.
        series_max = max(limits.series_max, SERIES_MAX_LEAST)
        self.translator = Translator(self.types, groups_max=series_max)
        self.resources = Resources()
        self.deltas = DeltaStore(
            states_max=series_max,
            age_max_s=delta_age_max_s,
            since_ns=int(since * 1e9),
        )
        self.resolver = Resolver(
            self.router,
            self.translator,
            self.resources,
            self.deltas,
            wait_s=assembly_wait_s,
            families_max=limits.histograms_max,
            samples_max=series_max,
        )
        self.assembly = self.resolver.assembly
        self.positions = Positions()
        self.schedule = FlushSchedule()
        self._limits = limits
        self._labels = LabelReader(labels_max=limits.labels_max, bytes_max=limits.series_bytes_max)
        self._info_reader = info_reader or InfoReader()
        self._origin = ANYWHERE
        self._times: dict[bytes, bytes] = {}
        self._received: dict[WriteProtocol, int] = {}
        self._dropped: dict[str, int] = {}
        self._late_rounds = 0
        self.shelf = ExemplarShelf()

    def add_exporter(self, exporter: str, project: str, sources: Sources) -> None:
        """Start routing an exporter; see :meth:`Router.add`."""
        self.router.add(exporter, project, sources)
        self.table.invalidate()

    def replace_exporter(self, exporter: str, sources: Sources) -> None:
        """Route an exporter by other sources; see :meth:`Router.replace`."""
        self.router.replace(exporter, sources)
        self.table.invalidate()

    def set_inventory(self, objects: Iterable[Object]) -> None:
        """Take these objects for all that manifests say."""
        self.inventory.replace_manifests(objects)
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
    ) -> Intake:
        """Process one decompressed WriteRequest, or Request where ``protocol`` is 2.0, whose path
        says ``origin``.

        ``now`` is the wall clock and ``tick`` the monotonic clock of the flush schedule, both in
        seconds. The caller takes ``sealed`` from the answer; every batch in it holds its position
        already. Raises DecodeError, with nothing changed, where the body is not a WriteRequest.
        """
        self.types.tick = tick
        position = self.positions.begin()
        intake = Intake(position, now)
        self.table.sweep(tick)
        self._origin = origin
        self.table.enter(origin)
        try:
            request = _Request(body, self)
            if protocol == "remote_write_v2":
                consume2(body, intake, request)
            else:
                consume(self.table, body, intake, request, self._times)
                if intake.has_metadata:
                    request.learn_ahead()
        except BaseException:
            intake.undo()
            self.positions.release(position)
            raise
        before = self._received.get(protocol, 0)
        self._received[protocol] = before + intake.samples + sum(intake.dropped.values())
        self._commit(intake, tick)
        self._settle()
        return intake

    def due(self, tick: float) -> list[tuple[OpenBatch, SealedBatch]]:
        """Seal and return every batch whose time has come, and let what waits for others come to
        its deadline."""
        self.deltas.tick(tick)
        sealed = self._late(tick, self.assembly.expire, tick)
        return [*sealed, *_seal_all(self.schedule.due(tick))]

    def next_due(self) -> float | None:
        """The next moment at which :meth:`due` has something to do, or None."""
        moments = self.schedule.next_due(), self.assembly.next_due()
        return min((moment for moment in moments if moment is not None), default=None)

    def finish(self, tick: float) -> list[tuple[OpenBatch, SealedBatch]]:
        """Nothing more will come: send what waits for others. Open batches stay open."""
        return self._late(tick, self.assembly.finish)

    def flush(self, batches: Sequence[OpenBatch]) -> list[tuple[OpenBatch, SealedBatch]]:
        """Seal and return those of the batches that hold points (a sink leaves, or we stop)."""
        return list(_seal_all(batches))

    def remember(self) -> bytes:
        """What would have to be learned again after a restart; see :func:`recall`."""
        return remember(self.types, self.deltas)

    def recall(self, data: bytes) -> None:
        """Know again what an earlier process remembered. Raises DecodeError."""
        recall(data, self.types, self.deltas)

    def statistics(self) -> EngineStatistics:
        """A snapshot; brings all tallies up to date."""
        self.router.fold()
        return EngineStatistics(
            self.table.statistics(),
            self._labels.statistics(),
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
        )

    def _commit(self, intake: Intake, tick: float) -> None:
        """Make the request's effects final: counts, deferred samples, holds and deadlines."""
        for plan, count in intake.tallies:
            plan.samples += count
        for reason, count in intake.dropped.items():
            self._dropped[reason] = self._dropped.get(reason, 0) + count
        emission = Emission(intake, self.positions, tick)
        for handlers, stamp, value, extra in intake.deferred:
            for handler in handlers:
                handler.take(stamp, value, extra, emission)
        for route, point in intake.native:
            route.push(point, emission)
        self.shelf.received += intake.exemplars
        self.shelf.dropped += intake.exemplars_refused
        for series, exemplars in intake.loose:
            self.shelf.put(series, exemplars)
        self._close(emission)
        self.positions.release(intake.request)

    def _late(
        self, tick: float, send: Callable[..., None], *arguments: float
    ) -> list[tuple[OpenBatch, SealedBatch]]:
        """A round of points that no request brings; its mark is no request's."""
        self._late_rounds += 1
        intake = Intake(-1 - self._late_rounds, 0.0)
        emission = Emission(intake, self.positions, tick)
        send(*arguments, emission)
        self._close(emission)
        return intake.sealed

    def _close(self, emission: Emission) -> None:
        """End a round in which batches grew: each holds the position of its oldest sample, and
        leaves when its time has come."""
        emission.close()
        intake = emission.intake
        for touch in intake.touches:
            batch = touch.batch
            if batch.count and batch.timeout_s <= 0:
                intake.sealed.extend(_seal_all((batch,)))
        for _, sealed in intake.sealed:
            self.positions.hold(sealed.oldest)
        for touch in intake.touches:
            batch = touch.batch
            fresh = batch.sealed != touch.sealed or not touch.count
            if batch.count and (fresh or batch.oldest != touch.oldest):
                self.positions.hold(batch.oldest)
                if fresh:
                    self.schedule.arm(batch, emission.tick + batch.timeout_s)
            elif not fresh:
                continue
            if touch.count:
                self.positions.release(touch.oldest)
        for position in emission.take_released():
            self.positions.release(position)

    def _settle(self) -> None:
        """Let series find their routes anew where the inventory says something else now."""
        if self.router.settle():
            self.table.invalidate()

    def learn(self, body: bytes, spans: Sequence[tuple[int, int]]) -> None:
        """Take in the metadata of a request; series whose type it changes are resolved once
        more."""
        parsed = [parse_metadata(body, start, stop) for start, stop in spans]
        changed = False
        for item in parsed:
            metadata = FamilyMetadata(item.type, item.help, item.unit)
            changed |= self.types.learn(item.family, metadata)
        if changed:
            self.table.invalidate()

    def learn_series(self, name: str, metadata: Metadata2) -> None:
        """Take in the metadata of a series, which is that of its family."""
        if any(metadata):
            family = family_of(name, metadata.type)
            if self.types.learn(family, FamilyMetadata(*metadata)):
                self.table.invalidate()

    def find(self, key: bytes, request: _Request) -> Series:
        """The series with these label bytes, ready for use or with its fault set."""
        if len(key) > self._limits.series_bytes_max:
            # Not kept: a sender could fill the table with what we refuse.
            series = Series(key)
            series.fault = "too_large"
            return series
        known = self.table.find(key)
        if known is None:
            request.count_new(len(key))
            request.learn_ahead()
            series = Series(key)
            self._resolve(series)
            self.table.add(series)
        else:
            series = known
            if series.generation != self.table.generation:
                if not self.resolver.is_current(series):
                    self._refresh(series)
                series.generation = self.table.generation
        if series.claim is not None:
            # One behind, so that each of its samples comes here: which of several info series of an
            # object was seen last decides what holds.
            series.generation = self.table.generation - 1
            self.inventory.hear(series.claim, begins=known is None)
        return series

    def native(self, series: Series) -> NativeRoute:
        """Where the native histograms of a good series go; told when the first one comes."""
        route = series.native
        if route is None:
            route = series.native = self.resolver.native(series, *self._view(series))
        return route

    def _resolve(self, series: Series) -> None:
        """Do everything that depends on labels: parse, match, translate."""
        try:
            labels, project = self._view(series)
        except SeriesFault as fault:
            series.fault = fault.reason
            series.resolved = series.plan.partition.version
            return
        series.claim = self._info_reader.claim(labels, project)
        self.resolver.resolve(series, labels, project)
        self._invalidate_changed()

    def _refresh(self, series: Series) -> None:
        """Bring a series that was resolved before up to date, at the least expense."""
        if not series.fault:
            self.resolver.refresh(series, lambda: self._view(series))
            self._invalidate_changed()

    def _invalidate_changed(self) -> None:
        """Let other series look again, where what they rest on was told by this one."""
        if self.resolver.take_changed():
            self.table.invalidate()

    def _view(self, series: Series) -> tuple[dict[str, str], str]:
        """The labels that anybody may see, and the project. Raises SeriesFault."""
        labels = self._labels.read(series.key)
        tenancy = self.router.tenancy
        if not tenancy.enabled and not self._origin.by_labels:
            return labels, ""
        project = tenancy.project_of(labels, self._origin)
        if self._origin.by_labels:
            for label in ACCOUNT_LABELS:
                labels.pop(label, None)
        return labels, project

    def __repr__(self) -> str:
        return f"<Engine {self.table!r} {self.router!r}>"


class _Request:
    """What the resolution of new series needs of the request that brought them.

    A body may carry metadata behind its series. The types of new series are better known from the
    start than corrected afterwards, so the metadata is read when the first new series turns up.
    """

    __slots__ = ("_ahead", "_body", "_engine", "_new", "_new_bytes")

    def __init__(self, body: bytes, engine: Engine) -> None:
        self._body = body
        self._engine = engine
        self._ahead = False
        self._new = 0
        self._new_bytes = 0

    def resolve(self, key: bytes) -> Series:
        """See :class:`~relay.pipeline.careful.Resolution`."""
        return self._engine.find(key, self)

    def learn(self, name: str, metadata: Metadata2) -> None:
        """See :class:`~relay.pipeline.careful.Resolution`."""
        self._engine.learn_series(name, metadata)

    def native(self, series: Series) -> NativeRoute:
        """See :class:`~relay.pipeline.careful.Resolution`."""
        return self._engine.native(series)

    def count_new(self, key_bytes: int) -> None:
        """Raises OverloadedError for too many: those before are known by then, and cost less the
        next time, so the same request gets further when it comes again."""
        self._new += 1
        self._new_bytes += key_bytes
        if self._new > NEW_SERIES_MAX:
            raise OverloadedError(f"over {NEW_SERIES_MAX} new series in one request")
        if self._new_bytes > NEW_SERIES_BYTES_MAX:
            raise OverloadedError(f"over {NEW_SERIES_BYTES_MAX} bytes of new series in one request")

    def learn_ahead(self) -> None:
        if not self._ahead:
            spans = [
                (start, stop)
                for field, start, stop in top_level(self._body)
                if field == METADATA_FIELD
            ]
            if spans:
                self._engine.learn(self._body, spans)
            self._ahead = True  # not before: what is faulty must be found by every attempt


def _seal_all(batches: Iterable[OpenBatch]) -> Iterator[tuple[OpenBatch, SealedBatch]]:
    for batch in batches:
        sealed = batch.seal()
        if sealed is not None:
            yield batch, sealed
