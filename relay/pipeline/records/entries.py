"""Keep the attributes and plan of a resource or scope, which are found by the bytes of its head.

Compiled with the loop that reads them for every scope of a request
(:mod:`relay.pipeline.records.appending`).
"""

from __future__ import annotations

from collections.abc import Callable

from relay.codec.otlp.record_buffer import RecordGroup
from relay.codec.otlp.redact import SCOPE_HEAD, Redaction
from relay.pipeline.records.sources import Take
from relay.pipeline.routing.match_set import SinkOutputSpec
from relay.pipeline.routing.series_tally import SHARE_ALL
from relay.selector.inventory.store import Inventory
from relay.selector.records.compile import Attributes


class SourcesVersion:
    """The version of a project's sources, which changes with every change of them.

    ``share_max`` is below :data:`SHARE_ALL` while only a share of records is taken
    (:func:`~relay.pipeline.records.selecting.split_by_share`).
    """

    def __init__(self) -> None:
        self.version = 0
        self.share_max = SHARE_ALL


class RecordPlan:
    """The sources that may take records. Valid while both versions are as they were.

    ``inventory_version`` -1: it does not depend on the inventory. ``targets`` are the outputs of
    all sources, in their order. ``has_tests``: something is asked of records, only a share of them
    is taken, or they are redacted.
    """

    def __init__(
        self,
        takes: tuple[Take, ...],
        project: SourcesVersion,
        *,
        inventory_version: int,
    ) -> None:
        self.takes = takes
        self.project = project
        self.version = project.version
        self.inventory_version = inventory_version
        self.targets: tuple[SinkOutputSpec, ...] = tuple(
            target for take in takes for target in take.source.targets
        )
        self.has_tests = project.share_max < SHARE_ALL or any(
            take.residual is not None or take.source.redaction is not None for take in takes
        )

    def is_valid(self, inventory: Inventory) -> bool:
        """Return whether the plan still holds."""
        if self.version != self.project.version:
            return False
        return self.inventory_version < 0 or self.inventory_version == inventory.changes

    def __repr__(self) -> str:
        return f"<RecordPlan {len(self.takes)} sources, {len(self.targets)} outputs>"


class ScopeEntry:
    """One scope of one resource: the group of its records, its attributes, and its plan.

    ``redacted`` has the groups with redacted heads, of the sources in the plan.
    """

    def __init__(self, group: RecordGroup, attributes: Attributes) -> None:
        self.group = group
        self.attributes = attributes
        self.plan: RecordPlan | None = None
        self.redacted: dict[Redaction, RecordGroup] = {}

    def group_for(self, redaction: Redaction, pause: Callable[[], None]) -> RecordGroup:
        """Return the group with its heads redacted. Raise DecodeError and TooLargeError."""
        found = self.redacted.get(redaction)
        if found is None:
            resource = redaction.resource_head(self.group.resource, pause)
            scope = redaction.apply(self.group.scope, SCOPE_HEAD, pause)
            found = RecordGroup(resource, scope, self.group.shard_key)
            self.redacted[redaction] = found
        return found

    def __repr__(self) -> str:
        return f"<ScopeEntry {self.group!r}>"


class ResourceEntry:
    """One resource: attributes, project ("" without tenancy, None: it has none), scopes by head.

    ``records`` came since it was read; ``without_severity`` of the ``sampled`` log records have no
    severity number. ``size`` and ``scope_bytes`` are about the memory of the resource and of its
    scopes, bytes. ``recent`` is the scope that it had last. ``place`` is its own in
    :class:`KnownResources`, ``follower`` that of the resource behind it in the last request.
    """

    def __init__(
        self, head: bytes, texts: list[tuple[str, str]], project: str | None, shard_key: int
    ) -> None:
        self.head = head
        self.texts = texts
        self.attributes = Attributes(texts)
        self.project = project
        self.shard_key = shard_key
        self.records = 0
        self.sampled = 0
        self.without_severity = 0
        self.scopes: dict[bytes, ScopeEntry] = {}
        self.size = len(head)
        self.scope_bytes = 0
        self.recent: ScopeEntry | None = None
        self.place = self.follower = -1

    def __repr__(self) -> str:
        return f"<ResourceEntry {len(self.scopes)} scopes>"


class KnownResources:
    """The resources of one ingest path by head, and in the order in which they were added.

    Senders repeat their resources in the same order. So the next one of a request is looked for
    where the last request had it, by comparing heads: ``first`` is the place of the first one. Any
    place may be out of date, or out of bounds.
    """

    def __init__(self) -> None:
        self.by_head: dict[bytes, ResourceEntry] = {}
        self.order: list[ResourceEntry] = []
        self.first = -1

    def add(self, entry: ResourceEntry) -> None:
        """Add a resource."""
        entry.place = len(self.order)
        self.order.append(entry)
        self.by_head[entry.head] = entry

    def __repr__(self) -> str:
        return f"<KnownResources {len(self.by_head)}>"
