"""Resources and scopes by the bytes of their heads: what was found out about them once.

* Entries are found by the ingest path and the head: equal bytes of two paths are two resources.
* Bounded by entries and bytes, in two generations: when the young one is full or old, it becomes
  the old one, and what is not asked for again is forgotten with it. A batch keeps its heads.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final

from relay.codec.otlp.any_value import resource_attributes, scope_attributes
from relay.codec.otlp.record_buffer import RecordGroup
from relay.codec.otlp.redact import RESOURCE_HEAD, SCOPE_HEAD, Redaction
from relay.pipeline.records.routing import RecordPlan
from relay.pipeline.routing.tenancy import IngestPath
from relay.selector.records.compile import Attributes

BYTES_MAX: Final = 64 << 20
"""Heads in one generation, bytes."""
SCOPES_MAX: Final = 1_000
"""Scopes that are kept of one resource."""
FREED_PER_ENTRY: Final = 4
"""Forgotten entries that are freed for each new one."""


@dataclass(slots=True)
class ScopeEntry:
    """One scope of one resource: the group of its records, its attributes, and its plan."""

    group: RecordGroup
    attributes: Attributes
    plan: RecordPlan | None = None
    redacted: dict[Redaction, RecordGroup] = field(default_factory=dict)
    """Groups with redacted heads, of the sources in the plan."""

    def group_for(self, redaction: Redaction) -> RecordGroup:
        """Return the group with its heads redacted."""
        found = self.redacted.get(redaction)
        if found is None:
            resource = redaction.apply(self.group.resource, RESOURCE_HEAD)
            scope = redaction.apply(self.group.scope, SCOPE_HEAD)
            found = RecordGroup(resource, scope, self.group.shard_key)
            self.redacted[redaction] = found
        return found


@dataclass(slots=True)
class ResourceEntry:
    """One resource: attributes, project ("" without tenancy, None: nobody's), scopes by head."""

    head: bytes
    texts: list[tuple[str, str]]
    attributes: Attributes
    project: str | None
    shard_key: int
    records: int = 0
    """Records that came since it was read."""
    sampled: int = 0
    without_severity: int = 0
    """Of the ``sampled`` log records those without a severity number."""
    scopes: dict[bytes, ScopeEntry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResourceTableStatistics:
    """Entries now, and resources and scopes that were read since the start."""

    resources: int
    read: int


class ResourceTable:
    """The table of one signal; ``entries_max`` counts resources and scopes of a generation."""

    def __init__(self, *, entries_max: int, idle_s: float) -> None:
        self._entries_max = entries_max
        self._idle_s = idle_s
        self._young: dict[tuple[IngestPath, bytes], ResourceEntry] = {}
        self._old: dict[tuple[IngestPath, bytes], ResourceEntry] = {}
        self._dying: list[dict[tuple[IngestPath, bytes], ResourceEntry]] = []
        self._entries = 0
        self._bytes = 0
        self._turn_at = 0.0
        self._read = 0

    def find(self, origin: IngestPath, head: bytes) -> ResourceEntry | None:
        """Return a known resource."""
        key = (origin, head)
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.pop(key, None)
            if entry is not None:
                self._keep(key, entry)
        return entry

    def add(
        self, origin: IngestPath, head: bytes, texts: list[tuple[str, str]], project: str | None
    ) -> ResourceEntry:
        """Add a resource with its attributes."""
        self._read += 1
        entry = ResourceEntry(head, texts, Attributes(texts), project, zlib.crc32(head))
        self._keep((origin, head), entry)
        return entry

    def scope(self, resource: ResourceEntry, head: bytes) -> ScopeEntry:
        """Return a scope of a resource. Raise DecodeError where it cannot be read."""
        entry = resource.scopes.get(head)
        if entry is None:
            texts = scope_attributes(head)
            self._read += 1
            both = Attributes(resource.texts, texts) if texts else resource.attributes
            group = RecordGroup(resource.head, head, resource.shard_key)
            entry = ScopeEntry(group, both)
            if len(resource.scopes) < SCOPES_MAX:
                resource.scopes[head] = entry
                self._count(len(head))
        return entry

    def sweep(self, tick: float) -> None:
        """Begin a new generation if the young one is old; ``tick``: monotonic clock, s."""
        if tick >= self._turn_at:
            if self._turn_at:
                self._turn()
            self._turn_at = tick + self._idle_s

    def entries(self) -> list[ResourceEntry]:
        """Return all resources that are known now."""
        return [*self._young.values(), *self._old.values()]

    def statistics(self) -> ResourceTableStatistics:
        """A snapshot."""
        return ResourceTableStatistics(len(self._young) + len(self._old), self._read)

    def _keep(self, key: tuple[IngestPath, bytes], entry: ResourceEntry) -> None:
        self._bury()
        self._young[key] = entry
        size = len(entry.head) + sum(map(len, entry.scopes))
        self._count(size, 1 + len(entry.scopes))

    def _count(self, size: int, entries: int = 1) -> None:
        self._entries += entries
        self._bytes += size
        if self._entries > self._entries_max or self._bytes > BYTES_MAX:
            self._turn()

    def _turn(self) -> None:
        if self._old:
            self._dying.append(self._old)
        self._old, self._young = self._young, {}
        self._entries = self._bytes = 0

    def _bury(self) -> None:
        """Free some forgotten entries: all of a generation at once would take too long."""
        for _ in range(FREED_PER_ENTRY):
            if not self._dying:
                return
            if self._dying[-1]:
                self._dying[-1].popitem()
            else:
                self._dying.pop()

    def __repr__(self) -> str:
        return f"<ResourceTable {len(self._young) + len(self._old)} resources>"


def read_resource(head: bytes) -> list[tuple[str, str]]:
    """Return the attributes of a resource. Raise DecodeError."""
    return resource_attributes(head)
