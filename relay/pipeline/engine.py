"""The pipeline as one synchronous object: a decompressed body in, filled batches out.

The shell (``relay.app``) gives it bodies and the time, hands sealed batches to their sinks and
wakes up for what is due. Nothing here waits, and a request is processed whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from relay.errors import OverloadedError
from relay.inventory.info_series import Claim, InfoReader
from relay.inventory.store import Inventory, InventoryStatistics, ManifestIndex
from relay.pipeline.flush import FlushSchedule
from relay.pipeline.kernel import Intake, consume
from relay.pipeline.metric_types import FamilyMetadata, MetricTypes, MetricTypesStatistics
from relay.pipeline.positions import Positions, PositionsStatistics
from relay.pipeline.router import Router, RouterStatistics, Sources, routes_to
from relay.pipeline.series import Series
from relay.pipeline.table import SeriesTable, SeriesTableStatistics
from relay.pipeline.tenancy import ACCOUNT_LABELS, ANYWHERE, Origin, Tenancy
from relay.pipeline.translate import Translator, TranslatorStatistics
from relay.selector.ast import NAME
from relay.selector.resource_matching import Compiler
from relay.wire.batch import OpenBatch, SealedBatch
from relay.wire.remote_write import (
    METADATA_FIELD,
    LabelReader,
    LabelReaderStatistics,
    SeriesFault,
    parse_metadata,
    top_level,
)

NEW_SERIES_MAX = 50_000
"""New series of one request that are looked at before others are served: a second's worth, if
they are of usual size."""
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
    objects_max: int = 200_000


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Snapshots of all parts, and counters since the start.

    ``received_samples`` counts everything that came, ``dropped_samples`` what went no further than
    the pipeline, by reason.
    """

    table: SeriesTableStatistics
    labels: LabelReaderStatistics
    router: RouterStatistics
    types: MetricTypesStatistics
    translator: TranslatorStatistics
    positions: PositionsStatistics
    inventory: InventoryStatistics
    received_samples: int
    dropped_samples: dict[str, int]
    ignored_exemplars: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """A request that was processed once more, and how many of its points which batches did not
    want: matched again, to be taken from the account."""

    intake: Intake
    withheld: list[tuple[OpenBatch, int]]


@dataclass(frozen=True, slots=True)
class Probed:
    """What a request holds; see :class:`relay.pipeline.kernel.Intake`."""

    samples: int
    dropped: dict[str, int]
    examples: list[str]
    wanted: bool


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What requests have taught: types of metrics by family, and labels of objects."""

    families: dict[str, FamilyMetadata]
    claims: list[Claim]


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
    ) -> None:
        self.table = SeriesTable(series_max=limits.series_max, idle_s=limits.series_idle_s)
        self.inventory = Inventory(objects_max=limits.objects_max)
        self.router = Router(tenancy=tenancy, compiler=compiler, inventory=self.inventory)
        self.types = MetricTypes(families_max=limits.families_max, infer=infer_types)
        self.translator = Translator(self.types)
        self.positions = Positions()
        self.schedule = FlushSchedule()
        self._limits = limits
        self._labels = LabelReader(labels_max=limits.labels_max, bytes_max=limits.series_bytes_max)
        self._info_reader = info_reader or InfoReader()
        self._origin = ANYWHERE
        self._times: dict[bytes, bytes] = {}
        self._received = 0
        self._dropped: dict[str, int] = {}
        self._exemplars = 0
        self._probes = -1
        """Stands in for the position of a request that is not taken; unlike any batch's mark."""

    def add_exporter(self, exporter: str, project: str, sources: Sources) -> None:
        """Start routing an exporter; see :meth:`Router.add`."""
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

    def ingest(self, body: bytes, *, now: float, tick: float, origin: Origin = ANYWHERE) -> Intake:
        """Process one decompressed WriteRequest, whose path says ``origin``.

        ``now`` is the wall clock and ``tick`` the monotonic clock of the flush schedule, both in
        seconds. The caller takes ``sealed`` from the answer; every batch in it holds its position
        already. Raises DecodeError, with nothing changed, where the body is not a WriteRequest.
        """
        position = self.positions.begin()
        intake = Intake(position, now)
        self.table.sweep(tick)
        try:
            self._consume(body, intake, origin)
        except BaseException:
            self.positions.release(position)
            raise
        self._commit(intake, tick)
        self._settle()
        return intake

    def replay(
        self,
        body: bytes,
        *,
        position: int,
        now: float,
        tick: float,
        wants: Callable[[OpenBatch], bool],
        origin: Origin = ANYWHERE,
    ) -> Replayed:
        """Process a request once more, under the position that it had: what :meth:`ingest` does,
        for those batches alone that still want it.

        ``position`` is none that was given out by this engine. Raises like :meth:`ingest`.
        """
        self.positions.advance(position)
        position = self.positions.begin()
        intake = Intake(position, now)
        self.table.sweep(tick)
        try:
            self._consume(body, intake, origin)
        except BaseException:
            self.positions.release(position)
            raise
        withheld = intake.withhold(wants)
        self._commit(intake, tick)
        self._settle()
        return Replayed(intake, withheld)

    def probe(self, body: bytes, *, now: float, origin: Origin = ANYWHERE) -> Probed:
        """What :meth:`ingest` would say of a request, without taking it. Raises like that."""
        self._probes -= 1
        intake = Intake(self._probes, now)
        self._consume(body, intake, origin)
        probed = Probed(intake.samples, intake.dropped, intake.examples, intake.wanted)
        intake.undo()
        self._settle()
        return probed

    @property
    def learned(self) -> int:
        """Moves with everything that requests teach: types of metrics, labels of objects."""
        return self.types.version + self.inventory.version

    def knowledge(self) -> Knowledge:
        """What requests have taught; whatever is read later may depend on it."""
        return Knowledge(self.types.families(), self.inventory.claims())

    def recall(self, knowledge: Knowledge) -> None:
        """Know again what an earlier process knew; before the first request."""
        for family, metadata in knowledge.families.items():
            self.types.learn(family, metadata)
        for claim in knowledge.claims:
            self.inventory.hear(claim, begins=True)

    def due(self, tick: float) -> list[tuple[OpenBatch, SealedBatch]]:
        """Seal and return every batch whose time has come."""
        return list(_seal_all(self.schedule.due(tick)))

    def flush(self, batches: Sequence[OpenBatch]) -> list[tuple[OpenBatch, SealedBatch]]:
        """Seal and return those of the batches that hold points (a sink leaves, or we stop)."""
        return list(_seal_all(batches))

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
            self._received,
            dict(self._dropped),
            self._exemplars,
        )

    def _consume(self, body: bytes, intake: Intake, origin: Origin) -> None:
        """Append a request's points to the batches; nothing is changed where that raises."""
        self._origin = origin
        self.table.enter(origin)
        before = self.learned
        try:
            request = _Request(body, self._find, self._learn)
            consume(self.table, body, intake, request.resolve, self._times)
            if intake.has_metadata:
                request.learn_ahead()
        except BaseException:
            intake.undo()
            raise
        intake.learned = self.learned != before

    def _commit(self, intake: Intake, tick: float) -> None:
        """Make the request's effects final: counts, holds and deadlines."""
        for plan, count in intake.tallies:
            plan.samples += count
            self._received += count
        for reason, count in intake.dropped.items():
            self._dropped[reason] = self._dropped.get(reason, 0) + count
            self._received += count
        self._exemplars += intake.exemplars
        position = intake.request
        for touch in intake.touches:
            batch = touch.batch
            if batch.count and batch.timeout_s <= 0:
                intake.sealed.extend(_seal_all((batch,)))
            elif batch.count and batch.oldest == position:
                self.positions.hold(position)
                self.schedule.arm(batch, tick + batch.timeout_s)
        for _, sealed in intake.sealed:
            if sealed.oldest == position:
                self.positions.hold(position)
        self.positions.release(position)

    def _settle(self) -> None:
        """Let series find their routes anew where the inventory says something else now."""
        if self.router.settle():
            self.table.invalidate()

    def _learn(self, body: bytes, spans: Sequence[tuple[int, int]]) -> None:
        """Take in the metadata of a request; series whose type it changes are resolved once
        more."""
        parsed = [parse_metadata(body, start, stop) for start, stop in spans]
        changed = False
        for item in parsed:
            metadata = FamilyMetadata(item.type, item.help, item.unit)
            changed |= self.types.learn(item.family, metadata)
        if changed:
            self.table.invalidate()

    def _find(self, key: bytes, request: _Request) -> Series:
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
            if series.resolved != series.plan.partition.version or (
                series.routes and series.routes[0][1].identity != self.types.identity(series.name)
            ):
                self._refresh(series)
            series.generation = self.table.generation
        if series.claim is not None:
            # One behind, so that each of its samples comes here: which of several info series of an
            # object was seen last decides what holds.
            series.generation = self.table.generation - 1
            self.inventory.hear(series.claim, begins=known is None)
        return series

    def _resolve(self, series: Series) -> None:
        """Do everything that depends on labels: parse, match, translate."""
        try:
            labels, project = self._view(series)
        except SeriesFault as fault:
            series.fault = fault.reason
            series.resolved = series.plan.partition.version
            return
        series.name = labels[NAME]
        series.claim = self._info_reader.claim(labels, project)
        series.plan, matched = self.router.match(labels, project)
        series.resolved = series.plan.partition.version
        if matched:
            group, prefix = self.translator.prepare(sorted(labels.items()))
            series.routes = routes_to(matched, group, prefix)

    def _refresh(self, series: Series) -> None:
        """Bring a series that was resolved before up to date, at the least expense."""
        if series.fault:
            return
        plan, matched = self.router.rematch(
            series.plan, series.resolved, lambda: self._view(series)
        )
        routes = series.routes
        retyped = bool(routes) and routes[0][1].identity != self.types.identity(series.name)
        if plan is not series.plan or retyped:
            series.routes = ()
            if matched and routes and not retyped:
                series.routes = routes_to(matched, *routes[0][1:])
            elif matched:
                group, prefix = self.translator.prepare(sorted(self._view(series)[0].items()))
                series.routes = routes_to(matched, group, prefix)
        series.plan = plan
        series.resolved = plan.partition.version

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

    __slots__ = ("_ahead", "_body", "_find", "_learn", "_new", "_new_bytes")

    def __init__(
        self,
        body: bytes,
        find: Callable[[bytes, _Request], Series],
        learn: Callable[[bytes, Sequence[tuple[int, int]]], None],
    ) -> None:
        self._body = body
        self._find = find
        self._learn = learn
        self._ahead = False
        self._new = 0
        self._new_bytes = 0

    def resolve(self, key: bytes) -> Series:
        return self._find(key, self)

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
                self._learn(self._body, spans)
            self._ahead = True  # not before: what is faulty must be found by every attempt


def _seal_all(batches: Iterable[OpenBatch]) -> Iterator[tuple[OpenBatch, SealedBatch]]:
    for batch in batches:
        sealed = batch.seal()
        if sealed is not None:
            yield batch, sealed
