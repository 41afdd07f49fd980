"""Routes of exporters in the pipelines of all signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from relay.config.exporter.records.outputs import output_name, sources_of
from relay.config.exporter.types import Exporter
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.pipeline.records.routing import RecordSources
from relay.pipeline.routing.match_set import SinkOutputSpec
from relay.pipeline.routing.router import Sources

Targets = Mapping[str, SinkOutputSpec]
"""Outputs of an exporter as the pipelines need them, by their names."""


class RoutedSources(NamedTuple):
    """The sources of an exporter as the pipelines need them."""

    metrics: Sources
    records: Sequence[RecordSources]
    """One for each pipeline of records, in their order."""


class SignalRoutes:
    """Adds and removes exporters in each pipeline."""

    def __init__(self, metrics: MetricsPipeline, records: Sequence[RecordsPipeline] = ()) -> None:
        self._metrics = metrics
        self._records = records

    @property
    def low_watermark(self) -> int:
        """The oldest position that a pipeline holds."""
        lows = [one.low_watermark for one in self._records]
        return min(self._metrics.low_watermark, *lows) if lows else self._metrics.low_watermark

    def sources(self, exporter: Exporter, targets: Targets) -> RoutedSources:
        """Return the sources of an exporter with their outputs."""
        metrics = [
            (
                source.name,
                source.selector,
                [targets[sink.name] for sink in exporter.sinks if source.name in sink.sources],
            )
            for source in exporter.sources
        ]
        return RoutedSources(
            metrics, [_record_sources(exporter, targets, one) for one in self._records]
        )

    def add(self, exporter: Exporter, sources: RoutedSources) -> None:
        """Route an exporter that is not routed yet."""
        self._metrics.add_exporter(exporter.id, exporter.project, sources.metrics)
        self._set_records(exporter, sources)

    def replace(self, exporter: Exporter, sources: RoutedSources) -> None:
        """Replace the sources of an exporter."""
        self._metrics.replace_exporter(exporter.id, sources.metrics)
        self._set_records(exporter, sources)

    def remove(self, exporter: str) -> None:
        """Stop routing an exporter for good, by its id."""
        self._metrics.remove_exporter(exporter)
        self._metrics.router.forget_counters(exporter)
        for one in self._records:
            one.router.remove(exporter)
            one.router.forget_counters(exporter)

    def _set_records(self, exporter: Exporter, sources: RoutedSources) -> None:
        for pipeline, own in zip(self._records, sources.records, strict=True):
            pipeline.router.set_sources(exporter.id, exporter.project, own)

    def __repr__(self) -> str:
        return f"<SignalRoutes metrics and {len(self._records)} more>"


def _record_sources(
    exporter: Exporter, targets: Targets, pipeline: RecordsPipeline
) -> RecordSources:
    signal = pipeline.signal
    sinks = [(sink, output_name(sink.name, signal)) for sink in exporter.sinks]
    return [
        (
            source.name,
            source.selection,
            [
                targets[name]
                for sink, name in sinks
                if source.name in sink.sources and name in targets
            ],
        )
        for source in sources_of(exporter, signal)
    ]
