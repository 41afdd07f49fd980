"""Resources and scopes by the bytes of their heads: what was found out about them once.

* Entries are found by the ingest path and the head: equal bytes of two paths are two resources.
* Bounded by entries and bytes, in two generations: when the young one is full or old, it becomes
  the old one, and what is not asked for again is forgotten with it. A batch keeps its heads.
* A resource with more scopes than it may have keeps those that it has; others are read each time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from relay.codec.otlp.any_value import AttributeTexts, scope_attributes
from relay.codec.otlp.record_buffer import RecordGroup
from relay.codec.remote_write.v1 import no_pause
from relay.pipeline.records.entries import KnownResources, ResourceEntry, ScopeEntry
from relay.pipeline.routing.tenancy import IngestPath
from relay.selector.records.compile import Attributes

BYTES_MAX: Final = 64 << 20
"""Heads and their attributes in one generation, bytes."""
ATTRIBUTE_BYTES: Final = 400
"""About what an attribute takes besides its place in the head."""
SCOPES_MAX: Final = 1_000
"""Scopes that are kept of one resource."""
SCOPE_BYTES_MAX: Final = 8 << 20
"""The same in bytes."""
FREED_PER_ENTRY: Final = 4
"""Forgotten entries that are freed for each new one."""

Generation: TypeAlias = dict[IngestPath, KnownResources]


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
        self._young: Generation = {}
        self._old: Generation = {}
        self._dying: list[KnownResources] = []
        self._entries = 0
        self._bytes = 0
        self._turn_at = 0.0
        self._read = 0

    def young(self, origin: IngestPath) -> KnownResources:
        """Return the young generation's resources of a path; valid until one is looked for."""
        return self._young.get(origin) or KnownResources()

    def find(self, origin: IngestPath, head: bytes) -> ResourceEntry | None:
        """Return a known resource."""
        entry = self.young(origin).by_head.get(head)
        if entry is None and origin in self._old:
            entry = self._old[origin].by_head.pop(head, None)
            if entry is not None:
                self._keep(origin, entry)
        return entry

    def add(
        self, origin: IngestPath, head: bytes, texts: AttributeTexts, project: str | None
    ) -> ResourceEntry:
        """Add a resource with its attributes."""
        self._read += 1
        entry = ResourceEntry(head, texts, project, zlib.crc32(head))
        entry.size = size_of(head, texts)
        self._keep(origin, entry)
        return entry

    def scope(
        self, resource: ResourceEntry, head: bytes, pause: Callable[[], None] = no_pause
    ) -> ScopeEntry:
        """Return a scope of a resource. Raise DecodeError where it cannot be read."""
        entry = resource.scopes.get(head)
        if entry is None:
            texts = scope_attributes(head, pause)
            self._read += 1
            own = resource.attributes
            both = Attributes(texts, before=own) if texts else own
            group = RecordGroup(resource.head, head, resource.shard_key)
            entry = ScopeEntry(group, both)
            size = size_of(head, texts)
            if len(resource.scopes) < SCOPES_MAX and resource.scope_bytes < SCOPE_BYTES_MAX:
                resource.scopes[head] = entry
                resource.scope_bytes += size
                self._count(size)
        return entry

    def sweep(self, tick: float) -> None:
        """Begin a new generation if the young one is old; ``tick``: monotonic clock, s."""
        if tick >= self._turn_at:
            if self._turn_at:
                self._turn()
            self._turn_at = tick + self._idle_s

    def entries(self) -> list[ResourceEntry]:
        """Return all resources that are known now."""
        generations = (*self._young.values(), *self._old.values())
        return [entry for known in generations for entry in known.by_head.values()]

    def statistics(self) -> ResourceTableStatistics:
        """Return a snapshot."""
        return ResourceTableStatistics(self._resources, self._read)

    @property
    def _resources(self) -> int:
        generations = (*self._young.values(), *self._old.values())
        return sum(len(known.by_head) for known in generations)

    def _keep(self, origin: IngestPath, entry: ResourceEntry) -> None:
        self._bury()
        known = self._young.get(origin)
        if known is None:
            known = self._young[origin] = KnownResources()
        known.add(entry)
        self._count(entry.size + entry.scope_bytes, 1 + len(entry.scopes))

    def _count(self, size: int, entries: int = 1) -> None:
        self._entries += entries
        self._bytes += size
        if self._entries > self._entries_max or self._bytes > BYTES_MAX:
            self._turn()

    def _turn(self) -> None:
        self._dying += self._old.values()
        self._old, self._young = self._young, {}
        self._entries = self._bytes = 0

    def _bury(self) -> None:
        """Free some forgotten entries: all of a generation at once would take too long."""
        for _ in range(FREED_PER_ENTRY):
            if not self._dying:
                return
            known = self._dying[-1]
            if known.by_head:
                known.by_head.popitem()
            if known.order:
                known.order.pop()
            else:
                self._dying.pop()

    def __repr__(self) -> str:
        return f"<ResourceTable {self._resources} resources>"


def size_of(head: bytes, texts: AttributeTexts) -> int:
    """Return about the memory of a head and its attributes, bytes."""
    return len(head) + ATTRIBUTE_BYTES * len(texts)
