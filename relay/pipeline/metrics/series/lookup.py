"""Finds the series of a request, and makes those that are new.

Rules:

* Everything that depends on labels is done here, once per series. A known series whose routes may
  be out of date comes here, too.
* Metadata and a ``target_info`` may stand in a body behind the series that they are about. New
  series are better typed from the start than corrected, so both are read when the first new series
  is found; under tenancy metadata is read first of all, whichever project's series are new. A
  ``target_info`` counts from the first new series of its own target on, or from its own place on.
* The work that one request may cause is bounded, except for a replayed one: it was acknowledged.
"""

from __future__ import annotations

from relay.codec.remote_write.label_parser import LabelParser, SeriesLabels
from relay.codec.remote_write.v1 import Metadata, Pause, SeriesFault, no_pause
from relay.codec.remote_write.v2 import Metadata2
from relay.pipeline.interfaces import MetadataSink, ReadAhead
from relay.pipeline.metrics.histograms.native import NativeRoute
from relay.pipeline.metrics.metadata.metric_types import MetricName
from relay.pipeline.metrics.metadata.project_types import Declaration, ProjectTypes
from relay.pipeline.metrics.series.hash_index import hash_of
from relay.pipeline.metrics.series.native_routes import native_route
from relay.pipeline.metrics.series.resolver import Resolver
from relay.pipeline.metrics.series.series import Series, is_faulty, new_series
from relay.pipeline.metrics.series.series_table import SeriesTable
from relay.pipeline.metrics.translate.target_info import KEY_LABELS, Resource, TargetKey
from relay.pipeline.routing.tenancy import ACCOUNT_LABELS, ANYWHERE, IngestPath, Tenancy
from relay.runtime.errors import OverloadedError
from relay.selector.inventory.info_series import InfoReader, InfoSeriesClaim
from relay.selector.inventory.store import Inventory

NEW_SERIES_MAX = 50_000
"""New series per request: half a second's work, for series of usual size."""
NEW_SERIES_BYTES_MAX = 8 * 1024 * 1024
"""Bytes of labels of a request's new series, for those of unusual size."""
NAMES_MAX = 65_536
"""Names of metrics that series share; at the limit all are forgotten. Some 5 MB."""


class SeriesLookup:
    """Finds series by their bytes and makes those that are new.

    :meth:`begin` it for each request; :meth:`get` its series while it is decoded; :meth:`end` it.
    """

    __slots__ = (
        "_body",
        "_bounded",
        "_described",
        "_faulty",
        "_info_prefixes",
        "_info_reader",
        "_inventory",
        "_is_ahead",
        "_labels_say_all",
        "_latest_metric",
        "_latest_text",
        "_metadata_sink",
        "_names",
        "_new_bytes_left",
        "_new_left",
        "_pause",
        "_reader",
        "_resolver",
        "_said",
        "_series_bytes_max",
        "_targets",
        "_tenancy",
        "labels",
        "origin",
        "table",
    )

    def __init__(
        self,
        table: SeriesTable,
        resolver: Resolver,
        inventory: Inventory,
        labels: LabelParser,
        info_reader: InfoReader,
        tenancy: Tenancy,
        metadata_sink: MetadataSink,
        *,
        series_bytes_max: int,
    ) -> None:
        self.table = table
        self.labels = labels
        self.origin = ANYWHERE
        """Tenant part of the request's path."""
        self._resolver = resolver
        self._inventory = inventory
        self._info_reader = info_reader
        self._info_prefixes = info_reader.prefixes
        self._tenancy = tenancy
        self._metadata_sink = metadata_sink
        self._series_bytes_max = series_bytes_max
        self._names: dict[str, MetricName] = {}
        self._latest_text = ""
        self._latest_metric = MetricName("", is_info=False)
        """The name of the latest new series, as it was read and as it is shared."""
        self._labels_say_all = not tenancy.enabled
        """True if all labels are the sender's, and none names a project or account."""
        self._reset()

    def _reset(self) -> None:
        self._body = b""
        self._reader: ReadAhead | None = None
        self._bounded = True
        self._pause: Pause = no_pause
        self._is_ahead = False
        """True once the metadata of the whole request was read."""
        self._targets: dict[tuple[str, TargetKey], dict[str, str]] = {}
        """Labels of targets in the request that have had no new series, by project and target."""
        self._described: list[Resource] = []
        """Targets that are described: kept alive until their series are."""
        self._faulty: Series | None = None
        """The series that was asked for last, if it has a fault."""
        self._new_left = NEW_SERIES_MAX
        self._new_bytes_left = NEW_SERIES_BYTES_MAX
        self._said: set[tuple[ProjectTypes, str, Declaration]] = set()

    @property
    def has_tenancy(self) -> bool:
        """True if series belong to projects."""
        return self._tenancy.enabled

    def begin(
        self,
        body: bytes,
        reader: ReadAhead,
        origin: IngestPath,
        *,
        bounded: bool = True,
        pause: Pause = no_pause,
    ) -> None:
        """Begin a request: its body, the reader of its message, and the tenant of its path.

        ``bounded``: limits of work apply.
        """
        self._body = body
        self._reader = reader
        self._bounded = bounded
        self._pause = pause
        self.origin = origin
        self._labels_say_all = not (self._tenancy.enabled or origin.by_labels)
        self.table.select_scope(origin)

    def end(self) -> None:
        """Forget the request."""
        self._reset()

    def get(self, key: bytes, declared: Declaration | None = None) -> Series:
        """Return the series with these label bytes, ready for use or with its fault set.

        ``declared`` is what came with it. A series with a fault is asked for up to three times,
        until it is clear what is wrong; the table sees it once, or a sender of nothing else would
        evict series of others.
        """
        faulty = self._faulty
        if faulty is not None and faulty.key == key:
            return faulty
        found = self.table.find(key)
        if found is None:
            return self._new(key, hash_of(key), declared)
        return self._known(found, declared)

    def new(self, key: bytes, mark: int) -> Series:
        """Return the series with these label bytes, which is not in the table, as :meth:`get`.

        ``mark``: the hash of its key.
        """
        faulty = self._faulty
        if faulty is not None and faulty.key == key:
            return faulty
        return self._new(key, mark, None)

    def known(self, series: Series) -> Series:
        """Return a series that was found, as :meth:`get`."""
        if series.generation < 0:
            return self.get(series.key)  # forgotten, or never kept
        series.is_known = True
        return self._known(series, None)

    def declaration(self, metadata: Metadata2) -> Declaration | None:
        """Return a series' declaration for :meth:`get`; None if it is empty."""
        return self._metadata_sink.declaration(*metadata)

    def native(self, series: Series) -> NativeRoute:
        """Return the route of a good series' native histograms; made for the first one."""
        route = series.native
        if route is None:
            route = series.native = native_route(self._resolver, series, *self.view(series))
        return route

    def view(self, series: Series) -> tuple[SeriesLabels, str]:
        """Return the labels without the account's, and the project. Raises SeriesFault."""
        labels = self.labels.read(series.key)
        if self._labels_say_all:
            return labels, ""
        project = self._tenancy.project_of(labels, self.origin)
        if self.origin.by_labels:
            labels = labels.without(ACCOUNT_LABELS)
        return labels, project

    def read_ahead(self) -> None:
        """Read the metadata and target labels of the whole request, once."""
        if self._is_ahead:
            return
        reader = self._reader
        assert reader is not None
        metadata = reader.metadata(self._body, bounded=self._bounded, pause=self._pause)
        if metadata:
            # Freed at once: a pause that ends the request would hide what it has taught, as an
            # attempt that learns nothing more is not written to the journal.
            self._learn(metadata)
        for key in reader.target_info_keys(
            self._body,
            bytes_max=self._series_bytes_max,
            bounded=self._bounded,
            pause=self._pause,
        ):
            found = self._target_labels(key)
            if found is not None:
                labels, project = found
                self._targets[project, labels.values_of(KEY_LABELS)] = dict(labels)
        self._is_ahead = True  # not before: a fault must be found by every attempt

    def _new(self, key: bytes, mark: int, declared: Declaration | None) -> Series:
        series = self._make(key, mark, declared)
        self._faulty = series if is_faulty(series) else None
        return series

    def _known(self, series: Series, declared: Declaration | None) -> Series:
        """Bring a series of the table up to date."""
        if declared is not None and not series.fault:
            self._declare(series, declared)
        if series.generation != self.table.generation:
            if not self._resolver.is_fresh(series):
                self._refresh(series)
            series.generation = self.table.generation
        if series.info_claim is not None:
            self._apply_info_series(series, begins=False)
        self._faulty = series if series.fault else None
        return series

    def _make(self, key: bytes, mark: int, declared: Declaration | None) -> Series:
        """Make a new series: parse its labels, match, translate."""
        series = new_series(key)
        if len(key) > self._series_bytes_max:
            # Not kept: a sender could fill the table with refused series.
            series.fault = "too_large"
            return series
        if not self._is_ahead:
            self.read_ahead()
        share = ""
        claim: InfoSeriesClaim | None = None
        try:
            if self._labels_say_all:
                labels, project = self.labels.read(key), ""
            else:
                labels, project = self.view(series)
        except SeriesFault as fault:
            series.fault = fault.reason
            series.resolved_version = series.match_set.project_epoch.version
        else:
            text = labels.metric_name()
            if text is not self._latest_text:
                # Consecutive series often have the same metric.
                self._latest_metric = self._metric(text)
                self._latest_text = text
            metric = self._latest_metric
            series.name = metric.text
            if self._targets:
                self._describe_target(labels, project)
            if metric.is_info and self._tenancy.teaches(project):
                claim = series.info_claim = self._info_reader.claim(labels, project)
            self._resolver.resolve(series, labels, project, metric, declared)
            types = series.types
            share = types.share
            if self._resolver.pop_changed():
                self.table.invalidate()
        # Only now: bytes that are not valid labels are no series, however often they come.
        self._count_new(len(key))
        self.table.add_marked(series, share, mark)
        if claim is not None:
            self._apply_info_series(series, begins=True)
        return series

    def _metric(self, name: str) -> MetricName:
        """Return one name for all series of a metric: each would hold a text of 80 bytes."""
        found = self._names.get(name)
        if found is None:
            if len(self._names) >= NAMES_MAX:
                self._names.clear()
            is_info = name.startswith(self._info_prefixes)
            found = self._names[name] = MetricName(name, is_info=is_info)
        return found

    def _count_new(self, key_bytes: int) -> None:
        """Count a new series; raises OverloadedError for too many.

        Those before are known by then and cost less the next time, so the same request gets
        further when it comes again.
        """
        if not self._bounded:
            return
        self._new_left -= 1
        self._new_bytes_left -= key_bytes
        if self._new_left < 0:
            raise OverloadedError(f"over {NEW_SERIES_MAX} new series in one request")
        if self._new_bytes_left < 0:
            raise OverloadedError(f"over {NEW_SERIES_BYTES_MAX} bytes of new series in one request")

    def _describe_target(self, labels: SeriesLabels, project: str) -> None:
        """Learn the target labels that the request has for a new series."""
        key = project, labels.values_of(KEY_LABELS)
        told = self._targets.pop(key, None)
        if told is not None:
            self._described.append(self._resolver.resources.learn(told, project))

    def _target_labels(self, key: bytes) -> tuple[SeriesLabels, str] | None:
        """Return the labels and project of a ``target_info``; None if it is not to be learned."""
        try:
            labels, project = self.view(Series(key))
        except SeriesFault:
            return None
        return (labels, project) if self._tenancy.teaches(project) else None

    def _declare(self, series: Series, declared: Declaration) -> None:
        """Store what a known series declares."""
        types = series.types
        if not types.teaches:
            self._resolver.declare(series, declared)
            return
        if series.declared is not declared:
            declared = types.believed(declared)
            if series.declared is not declared:
                # Resolved anew, like a new series.
                self._count_new(len(series.key))
                self._resolver.declare(series, declared)
                series.generation = self.table.generation - 1
        if self._is_news(series, declared) and types.declare(series.name, declared):
            self.table.invalidate()

    def _is_news(self, series: Series, declared: Declaration) -> bool:
        """Return whether the declaration is new in this request for its name and project."""
        said = (series.types, series.name, declared)
        if said in self._said:
            return False
        self._said.add(said)
        return True

    def _learn(self, metadata: list[Metadata]) -> None:
        """Hand metadata to the sink; series whose type it changes are resolved once more."""
        changed = False
        try:
            for item in metadata:
                self._pause()
                owner = self._tenancy.owner_of_metadata(self.origin, item.account)
                changed |= self._metadata_sink.learn(owner, item)
        finally:
            if changed:
                self.table.invalidate()

    def _apply_info_series(self, series: Series, *, begins: bool) -> None:
        """Apply the object labels of an info series."""
        # Keep the generation stale, so that every sample of an info series comes here: of several
        # for one object the last-seen one wins.
        series.generation = self.table.generation - 1
        assert series.info_claim is not None
        self._inventory.apply_info_series(series.info_claim, begins=begins)

    def _refresh(self, series: Series) -> None:
        """Bring an outdated series up to date, as cheaply as possible.

        Other series are refreshed, too, if they depend on state that this one changed.
        """
        if not series.fault:
            self._resolver.re_resolve(series, lambda: self.view(series))
            if self._resolver.pop_changed():
                self.table.invalidate()

    def __repr__(self) -> str:
        return f"<SeriesLookup in {self.table!r}>"
