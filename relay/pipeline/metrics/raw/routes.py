"""Routes of series that go to sinks as they came.

Rules:

* A route has the series' own label fields, as numbers (:class:`LabelTable`), with the external
  labels of the sink; nothing of it depends on a type. So a series that has such routes alone
  depends on nothing but its sources, unless 2.0 tells metadata beside it.
* Labels stay in the order and form in which they came, the tenancy label included, as in OTLP. If
  one has no value, it is left out and the others are sorted: it is no label. Those by which the
  multitenant path names an account are the path's and left out, too.
* Shards go by series, not by metric: remote write wants order within a series, and a metric may
  have most of all series.
* Raw routes come first among a series' routes, in the order of its match set's ``raw_outputs``.
* Numbers of labels that no series has any more cannot be reused: when most are dead, a new table
  begins, and series get new prefixes when they are seen next.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from zlib import crc32

from relay.codec.remote_write.external_labels import NO_EXTERNAL_LABELS, ExternalLabels
from relay.codec.remote_write.raw.entries import prefix_of
from relay.codec.remote_write.raw.label_table import LabelTable
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.metrics.metadata.project_types import Declaration
from relay.pipeline.metrics.metadata.type_store import TypeStore
from relay.pipeline.metrics.raw.metadata import RawMetadata, Subject
from relay.pipeline.routing.match_set import RawOutput
from relay.pipeline.routing.route import Route, VersionedDependency

_EXTERNAL_LABELS_MAX: Final = 1_024
"""Sets of external labels that are cached."""


class RawRoutes:
    """Makes the routes of series for the raw targets of their match sets.

    ``is_used``: a series had such a target.
    """

    __slots__ = ("is_used", "metadata", "table")

    def __init__(self, types: TypeStore) -> None:
        self.is_used = False
        self.table = LabelTable()
        self.metadata = RawMetadata(types)

    def attach(
        self,
        key: bytes,
        name: str,
        project: str,
        declared: Declaration | None,
        outputs: Iterable[RawOutput],
    ) -> tuple[tuple[Route, ...], tuple[VersionedDependency, ...]]:
        """Return a series' routes to these outputs, and what they depend on.

        ``key``: its label fields without the account's. ``declared``: its own metadata.
        """
        self.is_used = True
        number = crc32(key)
        routes: list[Route] = []
        dependencies: tuple[VersionedDependency, ...] = ()
        for output in outputs:
            options = output.options
            declaration = None
            if options.sends_metadata:
                if options.protocol == "remoteWrite2":
                    subject = self.metadata.subject(project, name)
                    dependencies = subject.alone
                    told = subject.known if declared is None else declared.metadata
                    if told is not None:
                        declaration = told.type, told.help, told.unit
                else:
                    self.metadata.feed(project, name, output.targets)
            external = _external_labels(options.external_labels)
            prefix = prefix_of(self.table, key, external, declaration)
            shard_key = number % output.cycle
            routes.append((output.batches(shard_key), self.table.group(shard_key), prefix))
        return tuple(routes), dependencies

    def send_metadata(self, transaction: BatchTransaction) -> None:
        """Let metadata that is due leave with the points of a request, or those that follow."""
        if self.is_used:
            self.metadata.send(transaction, self.table.group(0))

    def renew(self, live: int) -> bool:
        """Begin a new table if most of the present one is dead; return whether it did.

        ``live``: the number of series. All raw routes must be made anew then.
        """
        if not self.table.is_due(live):
            return False
        self.table.close()
        self.table = LabelTable()
        return True

    def __repr__(self) -> str:
        return f"<RawRoutes {self.table!r}>"


def has_metadata(dependencies: tuple[VersionedDependency, ...]) -> bool:
    """Return True if the prefixes of routes with these dependencies have metadata."""
    return any(isinstance(one, Subject) for one in dependencies)


@lru_cache(maxsize=_EXTERNAL_LABELS_MAX)
def _external_labels(labels: tuple[tuple[str, str], ...]) -> ExternalLabels:
    return ExternalLabels(dict(labels)) if labels else NO_EXTERNAL_LABELS
