"""How the series of a request are found, and those that are new are made.

Rules:

* Everything that depends on labels is done here, once per series; :meth:`SeriesLookup.find` is
  also where
  a known series comes whose routes may be out of date.
* A body may carry metadata, and a ``target_info``, behind its series. The types of new series are
  better known from the start than corrected afterwards, so both are read when the first new series
  turns up; under tenancy metadata is read at once, whoever's series are new. A ``target_info``
  counts from the first new series of its own target on, or from its own place on.
* What one request may have looked at is bounded, but for one that is replayed: it was acknowledged.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.codec.remote_write.label_parser import LabelParser, SeriesLabels
from relay.codec.remote_write.v1 import (
    ELEMENTS_MAX,
    Pause,
    SeriesFault,
    WriteProtocol,
    metadata_spans,
    no_pause,
    parse_metadata,
)
from relay.codec.remote_write.v2 import Metadata2
from relay.pipeline.metrics.histograms.native import NativeRoute
from relay.pipeline.metrics.metadata.metric_types import FamilyMetadata
from relay.pipeline.metrics.metadata.project_types import Declaration, ProjectTypes
from relay.pipeline.metrics.metadata.type_store import TypeStore
from relay.pipeline.metrics.series.resolver import Resolver
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.metrics.series.series_table import SeriesTable
from relay.pipeline.metrics.translate.target_info import KEY_LABELS, Resource, TargetKey
from relay.pipeline.metrics.translate.target_info_scan import target_info_keys
from relay.pipeline.routing.tenancy import ACCOUNT_LABELS, ANYWHERE, IngestPath, Tenancy
from relay.runtime.errors import OverloadedError
from relay.selector.inventory.info_series import InfoReader
from relay.selector.inventory.store import Inventory

NEW_SERIES_MAX = 50_000
"""New series of one request that are looked at before others are served: half a second's worth, if
they are of usual size."""
NEW_SERIES_BYTES_MAX = 8 * 1024 * 1024
"""The same in bytes of labels, for those that are not."""


class SeriesLookup:
    """Knows the series by their bytes; what ``labels`` reads of a new one decides what becomes of
    it. :meth:`enter` says what the path of the request says that comes next."""

    def __init__(
        self,
        table: SeriesTable,
        resolver: Resolver,
        inventory: Inventory,
        labels: LabelParser,
        info_reader: InfoReader,
        tenancy: Tenancy,
        *,
        series_bytes_max: int,
    ) -> None:
        self.labels = labels
        self._table = table
        self._resolver = resolver
        self._inventory = inventory
        self._info_reader = info_reader
        self._tenancy = tenancy
        self.series_bytes_max = series_bytes_max
        self.origin = ANYWHERE
        self._is_plain = not tenancy.enabled
        """Whether labels are everything that there is to know, and all of them are the sender's."""

    def enter(self, origin: IngestPath) -> None:
        """Turn to the series of an origin."""
        self.origin = origin
        self._is_plain = not (self._tenancy.enabled or origin.by_labels)
        self._table.select_scope(origin)

    def find(
        self, key: bytes, request: RequestSeries, declared: Declaration | None = None
    ) -> Series:
        """The series with these label bytes, ready for use or with its fault set; ``declared`` is
        what came with it."""
        series = self._table.find(key)
        if series is None:
            return self._make(key, request, declared)
        if declared is not None and not series.fault:
            self._declare(series, declared, request)
        if series.generation != self._table.generation:
            if not self._resolver.is_fresh(series):
                self._refresh(series)
            series.generation = self._table.generation
        if series.info_claim is not None:
            self._hear(series, begins=False)
        return series

    def native(self, series: Series) -> NativeRoute:
        """Where the native histograms of a good series go; told when the first one comes."""
        route = series.native
        if route is None:
            route = series.native = self._resolver.native(series, *self.view(series))
        return route

    def view(self, series: Series) -> tuple[SeriesLabels, str]:
        """The labels that anybody may see, and the project. Raises SeriesFault."""
        labels = self.labels.read(series.key)
        if self._is_plain:
            return labels, ""
        project = self._tenancy.project_of(labels, self.origin)
        if self.origin.by_labels:
            labels = labels.without(ACCOUNT_LABELS)
        return labels, project

    def _make(self, key: bytes, request: RequestSeries, declared: Declaration | None) -> Series:
        """A series that is new, with everything done that depends on labels: parse, match,
        translate."""
        series = Series(key)
        if len(key) > self.series_bytes_max:
            # Not kept: a sender could fill the table with what we refuse.
            series.fault = "too_large"
            return series
        if not request.is_ahead:
            request.learn_ahead()
        try:
            if self._is_plain:
                labels, project = self.labels.read(key), ""
            else:
                labels, project = self.view(series)
        except SeriesFault as fault:
            series.fault = fault.reason
            series.resolved_version = series.match_set.project_epoch.version
        else:
            name = series.name = labels.name
            if request.targets:
                self._describe_target(labels, project, request)
            if name.startswith(self._info_reader.prefixes) and self._tenancy.teaches(project):
                series.info_claim = self._info_reader.claim(labels, project)
            self._resolver.resolve(series, labels, project, declared)
            if self._resolver.pop_changed():
                self._table.invalidate()
        # Not before: what turns out to be no labels is no series, however often it comes.
        request.count_new(len(key))
        self._table.add(series, "" if series.fault else series.types.share)
        if series.info_claim is not None:
            self._hear(series, begins=True)
        return series

    def _describe_target(self, labels: SeriesLabels, project: str, request: RequestSeries) -> None:
        """Let a new series' target be described by what the same request says of it."""
        key = project, labels.values_of(KEY_LABELS)
        told = request.targets.pop(key, None)
        if told is not None:
            request.held.append(self._resolver.resources.learn(told, project))

    def target_labels(self, key: bytes) -> tuple[SeriesLabels, str] | None:
        """The labels and project of a ``target_info``; None where nothing is learned from it."""
        try:
            labels, project = self.view(Series(key))
        except SeriesFault:
            return None
        return (labels, project) if self._tenancy.teaches(project) else None

    def _declare(self, series: Series, declared: Declaration, request: RequestSeries) -> None:
        """Take in what a known series says of itself."""
        types = series.types
        if not types.teaches:
            self._resolver.declare(series, declared)
            return
        if series.declared is not declared:
            declared = types.believed(declared)
            if series.declared is not declared:
                # Looked at anew, as a series that is new.
                request.count_new(len(series.key))
                self._resolver.declare(series, declared)
                series.generation = self._table.generation - 1
        if request.is_news(series, declared) and types.declare(series.name, declared):
            self._table.invalidate()

    def learn(
        self,
        body: bytes,
        spans: Sequence[tuple[int, int]],
        types: TypeStore,
        pause: Pause = no_pause,
    ) -> None:
        """Let ``types`` take in the metadata of a request for those whom it tells of; series whose
        type it changes are resolved once more."""
        parsed = []
        for start, stop in spans:
            parsed.append(parse_metadata(body, start, stop))
            pause()
        changed = False
        try:
            for item in parsed:
                pause()
                owner = self._tenancy.owner_of_metadata(self.origin, item.account)
                if owner is None:
                    types.unowned += 1
                    continue
                metadata = FamilyMetadata(item.type, item.help, item.unit)
                changed |= types.of(owner).learn(item.family, metadata)
        finally:
            if changed:
                self._table.invalidate()

    def _hear(self, series: Series, *, begins: bool) -> None:
        """Take in what an info series says."""
        # One behind, so that each of its samples comes here: which of several info series of an
        # object was seen last decides what holds.
        series.generation = self._table.generation - 1
        assert series.info_claim is not None
        self._inventory.apply_info_series(series.info_claim, begins=begins)

    def _refresh(self, series: Series) -> None:
        """Bring a series that was resolved before up to date, at the least expense; others look
        again where what they rest on was told by this one."""
        if not series.fault:
            self._resolver.re_resolve(series, lambda: self.view(series))
            if self._resolver.pop_changed():
                self._table.invalidate()

    def __repr__(self) -> str:
        return f"<SeriesLookup in {self._table!r}>"


class RequestSeries:
    """One request while it is decoded; see
    :class:`~relay.pipeline.metrics.hotpath.slow_path.Resolution`.

    A series with a fault is asked for up to three times, until it is clear what is wrong. For the
    table it was seen once: else whoever sends only such ones would turn out those of others.
    """

    __slots__ = (
        "_body",
        "_bounded",
        "_faulty",
        "_finder",
        "_new",
        "_new_bytes",
        "_pause",
        "_protocol",
        "_said",
        "_types",
        "held",
        "is_ahead",
        "targets",
    )

    def __init__(
        self,
        body: bytes,
        finder: SeriesLookup,
        types: TypeStore,
        protocol: WriteProtocol = "remote_write_v1",
        *,
        bounded: bool = True,
        pause: Pause = no_pause,
    ) -> None:
        self._body = body
        self._finder = finder
        self._types = types
        self._bounded = bounded
        self._pause = pause
        self._protocol = protocol
        self.targets: dict[tuple[str, TargetKey], dict[str, str]] = {}
        """What the request says of targets, by project and target, until one of their series is
        new."""
        self.held: list[Resource] = []
        """Targets that are described, so that none is forgotten before its series are kept."""
        self.is_ahead = False
        """Whether the metadata of the whole request is known."""
        self._faulty: Series | None = None
        """The series that was asked for last, if it has a fault."""
        self._new = 0
        self._new_bytes = 0
        self._said: set[tuple[ProjectTypes, str, Declaration]] = set()

    def resolve(self, key: bytes, declared: Declaration | None = None) -> Series:
        """See :class:`~relay.pipeline.metrics.hotpath.slow_path.Resolution`."""
        faulty = self._faulty
        if faulty is not None and faulty.key == key:
            return faulty
        series = self._finder.find(key, self, declared)
        self._faulty = series if series.fault else None
        return series

    def declaration(self, metadata: Metadata2) -> Declaration | None:
        """See :class:`~relay.pipeline.metrics.hotpath.slow_path.Resolution`."""
        return self._types.declaration(*metadata)

    def is_news(self, series: Series, declared: Declaration) -> bool:
        """Whether no series of the same name and project has said the same in this request."""
        said = (series.types, series.name, declared)
        if said in self._said:
            return False
        self._said.add(said)
        return True

    def native(self, series: Series) -> NativeRoute:
        """See :class:`~relay.pipeline.metrics.hotpath.slow_path.Resolution`."""
        return self._finder.native(series)

    def count_new(self, key_bytes: int) -> None:
        """Raises OverloadedError for too many: those before are known by then, and cost less the
        next time, so the same request gets further when it comes again."""
        if not self._bounded:
            return
        self._new += 1
        self._new_bytes += key_bytes
        if self._new > NEW_SERIES_MAX:
            raise OverloadedError(f"over {NEW_SERIES_MAX} new series in one request")
        if self._new_bytes > NEW_SERIES_BYTES_MAX:
            raise OverloadedError(f"over {NEW_SERIES_BYTES_MAX} bytes of new series in one request")

    def learn_ahead(self) -> None:
        """Read the metadata of the whole request, once, and what it says of targets."""
        if not self.is_ahead:
            body = self._body
            if self._protocol == "remote_write_v1":
                entries_max = ELEMENTS_MAX if self._bounded else len(body)
                spans = metadata_spans(body, entries_max=entries_max, pause=self._pause)
                if spans:
                    self._finder.learn(body, spans, self._types, self._pause)
            for key in target_info_keys(
                body,
                self._protocol,
                bytes_max=self._finder.series_bytes_max,
                bounded=self._bounded,
                pause=self._pause,
            ):
                found = self._finder.target_labels(key)
                if found is not None:
                    labels, project = found
                    self.targets[project, labels.values_of(KEY_LABELS)] = dict(labels)
            self.is_ahead = True  # not before: what is faulty must be found by every attempt
