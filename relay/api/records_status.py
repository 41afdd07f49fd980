"""The parts of ``/status`` about logs and traces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from relay.api.sink_document import sink_document
from relay.api.usage_status import figures_document
from relay.codec.signal_names import RECORD_TOO_LARGE
from relay.config.exporter.records.outputs import record_outputs
from relay.config.exporter.types import Exporter, RecordSource
from relay.control.reconcile.sink_report import SinkReport
from relay.control.status.object_status import UsageFigures
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.pipeline.records.results import RecordStatistics
from relay.pipeline.routing.resource_tenants import NO_TENANT
from relay.telemetry.snapshot import RecordFigures


class RecordsView(msgspec.Struct, frozen=True):
    """One signal of records: its counters, and what each source has matched."""

    statistics: RecordStatistics
    matched: Mapping[tuple[str, str], int]
    """By exporter and source."""

    @property
    def signal(self) -> str:
        """The name of the signal."""
        return self.statistics.signal


def record_views(pipelines: Iterable[RecordsPipeline]) -> tuple[RecordsView, ...]:
    """Return a view of each signal of records."""
    return tuple(
        RecordsView(
            one.statistics(),
            {(row.exporter, row.source): row.samples for row in one.router.source_counters()},
        )
        for one in pipelines
    )


def record_figures(view: RecordsView) -> RecordFigures:
    """Return the figures of a signal for a scrape."""
    statistics = view.statistics
    return RecordFigures(
        view.signal,
        statistics.received,
        {NO_TENANT: statistics.no_tenant, RECORD_TOO_LARGE: statistics.oversized},
        statistics.unmatched,
        statistics.resources.resources,
        dict(view.matched),
    )


def records_document(view: RecordsView) -> dict[str, Any]:
    """Return the counters of a signal."""
    statistics = view.statistics
    return {
        "received": statistics.received,
        "noTenant": statistics.no_tenant,
        "tooLarge": statistics.oversized,
        "unmatched": statistics.unmatched,
        "resources": statistics.resources.resources,
    }


def record_sources_document(
    exporter: Exporter, views: Iterable[RecordsView], usage: Mapping[str, UsageFigures]
) -> list[dict[str, Any]]:
    """Return the sources of logs and traces of an exporter; ``usage`` is theirs by name."""
    matched = {view.signal: view.matched for view in views}
    return [
        {
            "name": source.name,
            source.signal: _selected(source),
            "matchedRecords": matched.get(source.signal, {}).get((exporter.id, source.name), 0),
            "usage": figures_document(usage.get(source.name)),
        }
        for source in exporter.record_sources
    ]


def outputs_document(
    exporter: Exporter, sink: str, reports: Mapping[tuple[str, str], SinkReport], now: float
) -> list[dict[str, Any]]:
    """Return what a sink sends of logs and traces, each with a ledger of its own."""
    return [
        {
            "signal": output.name.rpartition("/")[2],
            "endpoint": output.endpoint.url,
            "sources": list(output.sources),
            **sink_document(reports[exporter.id, output.name], now),
            "refusedRecords": reports[exporter.id, output.name].refused_samples,
        }
        for output in record_outputs(exporter)
        if output.name.rpartition("/")[0] == sink
    ]


def _selected(source: RecordSource) -> dict[str, Any]:
    """Return a source's conditions in nearly its author's notation."""
    selection = source.selection
    found: dict[str, Any] = {}
    if selection.resources is not None:
        found["resourceSelectors"] = [str(one) for one in selection.resources.selectors]
    else:
        found["selector"] = source.query
    if selection.categories:
        found["categories"] = list(selection.categories)
    if selection.severity_min:
        found["minSeverityNumber"] = selection.severity_min
    if source.signal == "traces":
        found["sampleRatio"] = selection.ratio
        found["keep"] = "trace" if selection.whole_traces else "span"
    return found
