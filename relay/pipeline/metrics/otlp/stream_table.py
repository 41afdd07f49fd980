"""Resources, scopes, metrics and streams by their bytes: what was found out about each once.

* Found by the ingest path and the bytes of heads: equal bytes of two paths are two resources.
* Bounded in two generations by entries and by bytes: when the young one is full or old, it becomes
  the old one, and what is not asked for again is forgotten with it. The series of a stream is in
  the series table, with bounds of its own.
* Freed a few at a time: all of a generation at once would hold the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from relay.codec.otlp.any_value import AttributeTexts
from relay.codec.otlp.groups import MetricGroup, ResourceGroup, ScopeGroup
from relay.codec.otlp.metrics import MetricIdentity
from relay.codec.otlp.metrics_in.heads import MetricHead, ScopeHead, read_scope
from relay.pipeline.metrics.otlp.plan import OtlpStream, Plan
from relay.pipeline.routing.match_set import MatchSet
from relay.pipeline.routing.tenancy import IngestPath

BYTES_PER_ENTRY: Final = 200
BYTES_MAX_LEAST: Final = 16 << 20
"""Heads and attributes of one generation, bytes: by its entries, and at least."""
ATTRIBUTE_BYTES: Final = 200
"""About what an attribute of a resource takes besides its place in the head."""
HEAD_ENTRIES: Final = 10
"""Entries that a resource, scope or metric counts for: it takes so much more than a stream."""
FREED_PER_ENTRY: Final = 4
"""Forgotten entries that are freed for each new one."""


@dataclass(slots=True, eq=False)
class MetricsResource:
    """One resource; ``project`` is "" without tenancy, None if it has none.

    ``is_too_large``: its attributes alone are more than a series may have. ``entries`` and ``size``
    (bytes) are those of all that is below it, too.
    """

    head: bytes
    attributes: AttributeTexts
    project: str | None
    group: ResourceGroup
    is_too_large: bool = False
    children: dict[bytes, MetricsScope] = field(default_factory=dict)
    entries: int = HEAD_ENTRIES
    size: int = 0


@dataclass(slots=True, eq=False)
class MetricsScope:
    """One scope of a resource."""

    resource: MetricsResource
    head: bytes
    parts: ScopeHead
    group: ScopeGroup
    children: dict[bytes, MetricEntry] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class MetricEntry:
    """One metric of a scope; ``name`` is that in Prometheus, "" where it has none.

    ``group`` is that of points that leave as they came, ``converted`` has those of points in
    another form, by their identity; ``plans`` are those that streams share.
    """

    scope: MetricsScope
    key: bytes
    head: bytes
    parts: MetricHead
    name: str
    group: MetricGroup
    converted: dict[MetricIdentity, MetricGroup] = field(default_factory=dict)
    plans: dict[MatchSet, Plan] = field(default_factory=dict)
    children: dict[bytes, OtlpStream] = field(default_factory=dict)

    def as_identity(self, identity: MetricIdentity) -> MetricGroup:
        """Return the group of points that leave in another form."""
        found = self.converted.get(identity)
        if found is None:
            found = MetricGroup.as_came(self.scope.group, identity, self.head)
            self.converted[identity] = found
        return found


class StreamTable:
    """The table of all streams; ``entries_max`` bounds one generation."""

    def __init__(self, *, entries_max: int, idle_s: float) -> None:
        self._entries_max = entries_max
        self._bytes_max = max(BYTES_MAX_LEAST, entries_max * BYTES_PER_ENTRY)
        self._idle_s = idle_s
        self._young: dict[tuple[IngestPath, bytes], MetricsResource] = {}
        self._old: dict[tuple[IngestPath, bytes], MetricsResource] = {}
        self._dying: list[dict[Any, Any]] = []
        self._entries = 0
        self._bytes = 0
        self._turn_at = 0.0

    def resource(self, origin: IngestPath, head: bytes) -> MetricsResource | None:
        """Return a known resource."""
        key = (origin, head)
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.pop(key, None)
            if entry is not None:
                self._keep(key, entry)
        return entry

    def add_resource(
        self, origin: IngestPath, head: bytes, attributes: AttributeTexts, project: str | None
    ) -> MetricsResource:
        """Add a resource with its attributes."""
        size = len(head) + ATTRIBUTE_BYTES * len(attributes)
        entry = MetricsResource(head, attributes, project, ResourceGroup.as_came(head), size=size)
        self._keep((origin, head), entry)
        return entry

    def scope(self, resource: MetricsResource, head: bytes) -> MetricsScope:
        """Return a scope of a resource. Raise DecodeError where it cannot be read."""
        entry = resource.children.get(head)
        if entry is None:
            group = ScopeGroup.as_came(resource.group, head)
            entry = MetricsScope(resource, head, read_scope(head), group)
            resource.children[head] = entry
            self._count(resource, len(head), HEAD_ENTRIES)
        return entry

    def add_metric(self, metric: MetricEntry) -> None:
        """Add a metric of its scope."""
        metric.scope.children[metric.key] = metric
        self._count(metric.scope.resource, len(metric.key), HEAD_ENTRIES)

    def add_stream(self, metric: MetricEntry, stream: OtlpStream) -> None:
        """Add a stream of a metric."""
        metric.children[stream.attributes] = stream
        self._count(metric.scope.resource, len(stream.attributes))

    def resources(self) -> list[MetricsResource]:
        """Return all resources that are known now."""
        return [*self._young.values(), *self._old.values()]

    def sweep(self, tick: float) -> None:
        """Begin a new generation if the young one is old; ``tick``: monotonic clock, s."""
        if tick >= self._turn_at:
            if self._turn_at:
                self._turn()
            self._turn_at = tick + self._idle_s

    def _keep(self, key: tuple[IngestPath, bytes], entry: MetricsResource) -> None:
        if entry.entries > self._entries_max or entry.size > self._bytes_max:
            # Alone more than a generation: it begins anew.
            self._dying.append(entry.children)
            entry.children = {}
            size = len(entry.head) + ATTRIBUTE_BYTES * len(entry.attributes)
            entry.entries, entry.size = HEAD_ENTRIES, size
        self._young[key] = entry
        self._account(entry.entries, entry.size)

    def _count(self, resource: MetricsResource, size: int, entries: int = 1) -> None:
        resource.entries += entries
        resource.size += size
        self._account(entries, size)

    def _account(self, entries: int, size: int) -> None:
        self._bury()
        self._entries += entries
        self._bytes += size
        if self._entries > self._entries_max or self._bytes > self._bytes_max:
            self._turn()

    def _turn(self) -> None:
        if self._old:
            self._dying.append(self._old)
        self._old, self._young = self._young, {}
        self._entries = self._bytes = 0

    def _bury(self) -> None:
        dying = self._dying
        for _ in range(FREED_PER_ENTRY):
            while dying and not dying[-1]:
                dying.pop()
            if not dying:
                return
            _, entry = dying[-1].popitem()
            children = getattr(entry, "children", None)
            if children:
                dying.append(children)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __repr__(self) -> str:
        return f"<StreamTable {len(self)} resources>"
