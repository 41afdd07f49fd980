"""Measure how many records a minute the sources of logs and traces take, by what arrives.

* A watch of a pipeline sees each request once it is taken, and asks of its records what the sources
  of one exporter ask, so conditions on severity, line, attributes and trace count.
* Of each source at most :data:`LOOKED_MAX` records of a scope are looked at; of a larger one the
  part that passes stands for the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.codec.otlp.envelope import Envelope
from relay.config.exporter.records.outputs import sources_of
from relay.config.exporter.types import Exporter, RecordSource
from relay.pipeline.pacing import ENTRIES, Pace
from relay.pipeline.records.entries import ResourceEntry
from relay.pipeline.records.pipeline import FIELDS, RecordsPipeline
from relay.pipeline.records.resource_table import ResourceTable
from relay.pipeline.records.selecting import select
from relay.pipeline.routing.tenancy import IngestPath
from relay.selector.records.compile import CompiledRecords

LOOKED_MAX: Final = 100
"""Records of one scope that are looked at for one source: half a millisecond."""
SCOPES_MAX: Final = 50
"""Scopes of one request that are looked at; the others count for nothing."""
MEASURE_S: Final = 20.0
"""Time after which a measurement of records has seen enough; s. Collectors send every few."""


@dataclass(slots=True)
class RecordCount:
    """Records, and their encoded bytes without those of their resources and scopes."""

    records: float = 0.0
    bytes: float = 0.0


class SourceWatch:
    """Counts the records of one signal that an exporter's sources would take."""

    def __init__(
        self, pipeline: RecordsPipeline, exporter: Exporter, sources: Iterable[RecordSource]
    ) -> None:
        self.pipeline: Final = pipeline
        self._project = exporter.project
        self._fields = FIELDS[pipeline.signal]
        self._sources = {one.name: compiled_for(one, exporter, pipeline) for one in sources}
        self.counts: Final = {name: RecordCount() for name in self._sources}

    def note(
        self, envelope: Envelope, origin: IngestPath, table: ResourceTable, pace: Pace
    ) -> None:
        """Count the records of a request; its resources are in the table."""
        left = SCOPES_MAX
        for number in range(envelope.resource_count):
            if not number % ENTRIES:
                pace.pause()
            head, begin, end = envelope.resource(number)
            entry = table.find(origin, head)
            if entry is None or entry.project != self._project:
                continue
            for at in range(begin, min(end, begin + left)):
                self._look(envelope, at, entry, pace)
            left -= min(end - begin, left)
            if not left:
                return

    def _look(self, envelope: Envelope, number: int, entry: ResourceEntry, pace: Pace) -> None:
        """Count the records of a scope of this resource."""
        scope, first, stop = envelope.scope(number)
        known = entry.scopes.get(scope)
        both = entry.attributes if known is None else known.attributes
        looked = min(LOOKED_MAX, stop - first)
        for name, compiled in self._sources.items():
            pace.pause()
            residual = compiled.decide(entry.attributes, both, pace.pause)
            if residual is None:
                continue
            rows = [(first, first + looked)]
            found = select(residual, envelope, rows, self._fields, pace.pause)
            for begin, end in found:
                whole = (stop - first) / looked
                self.counts[name].records += (end - begin) * whole
                self.counts[name].bytes += envelope.record_bytes(begin, end) * whole

    def __repr__(self) -> str:
        return f"<SourceWatch of {self.pipeline.signal}, {len(self._sources)} sources>"


class RecordRates:
    """Watches pipelines for the sources of one exporter, from :meth:`begin` to :meth:`close`."""

    def __init__(self, exporter: Exporter, pipelines: Iterable[RecordsPipeline]) -> None:
        self._watches = [
            SourceWatch(one, exporter, sources)
            for one in pipelines
            if (sources := tuple(sources_of(exporter, one.signal)))
        ]

    @property
    def measures(self) -> bool:
        """True if there is a source to measure."""
        return bool(self._watches)

    def begin(self) -> None:
        """Begin to count; between requests only."""
        for one in self._watches:
            one.pipeline.watches.append(one)

    def close(self) -> None:
        """Count no longer; what was counted stays."""
        for one in self._watches:
            one.pipeline.watches.remove(one)

    def per_minute(self, seconds: float) -> dict[tuple[str, str], RecordCount]:
        """Return what comes in a minute by signal and source, after ``seconds``."""
        if seconds <= 0:
            return {}
        return {
            (watch.pipeline.signal, name): RecordCount(
                60 * count.records / seconds, 60 * count.bytes / seconds
            )
            for watch in self._watches
            for name, count in watch.counts.items()
        }

    def __repr__(self) -> str:
        return f"<RecordRates of {len(self._watches)} signals>"


def compiled_for(
    source: RecordSource, exporter: Exporter, pipeline: RecordsPipeline
) -> CompiledRecords:
    """Return the selection of a source as the pipeline would ask it."""
    router = pipeline.router
    return CompiledRecords(
        source.selection,
        compiler=router.compiler,
        objects=router.inventory.for_project(exporter.project),
        category_attribute=pipeline.options.category_attribute,
    )
