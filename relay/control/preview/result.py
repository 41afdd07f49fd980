"""The result of a preview, and its form in JSON."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.control.preview.records import SelectedRecords

TOP_METRICS: Final = 10
"""Metrics that are listed of each source, by their number of series."""


@dataclass(frozen=True, slots=True)
class MetricShare:
    """A metric and the number of its series that match."""

    name: str
    series: int


@dataclass(frozen=True, slots=True)
class Selected:
    """Series that match: how many, the first ones in PromQL form, and the largest metrics.

    ``samples_per_minute`` is an estimate (:mod:`relay.control.preview.arrivals`), None where it was
    not measured. ``metrics`` is the number of different metrics, at least, if ``has_more_metrics``.
    ``deltas`` of the series come as deltas, which the sinks ``without_deltas`` do not take.
    """

    series: int
    first: tuple[str, ...]
    top: tuple[MetricShare, ...] = ()
    metrics: int = 0
    has_more_metrics: bool = False
    samples_per_minute: float | None = None
    deltas: int = 0
    without_deltas: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the form in JSON."""
        rate = self.samples_per_minute
        told: dict[str, Any] = {}
        if self.deltas:
            told = {"deltaSeries": self.deltas, "sinksWithoutDeltas": list(self.without_deltas)}
        return {
            **told,
            "series": self.series,
            "samplesPerMinute": None if rate is None else round(rate, 1),
            "metrics": self.metrics,
            "hasMoreMetrics": self.has_more_metrics,
            "topMetrics": [{"name": one.name, "series": one.series} for one in self.top],
            "firstSeries": list(self.first),
        }


@dataclass(frozen=True, slots=True)
class PreviewResult:
    """The series that an Exporter takes now, and how they differ from those of its stored version.

    ``added`` and ``removed`` are None without a stored version. ``project_series`` are the series
    that the Exporter may see. ``measured_s``: duration of the measurement of samples; 0 for none.
    ``records`` are of its sources of logs and traces.
    """

    exporter: str
    project_series: int
    sources: tuple[tuple[str, Selected], ...]
    total: Selected
    added: Selected | None
    removed: Selected | None
    measured_s: float = 0.0
    records: tuple[SelectedRecords, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the form in JSON."""
        return {
            "exporter": self.exporter,
            "projectSeries": self.project_series,
            "sources": [{"name": name, **one.document()} for name, one in self.sources],
            "total": self.total.document(),
            "added": _short(self.added),
            "removed": _short(self.removed),
            "measuredSeconds": round(self.measured_s, 1),
            "records": [one.document() for one in self.records],
        }


def _short(selected: Selected | None) -> dict[str, Any] | None:
    if selected is None:
        return None
    return {"series": selected.series, "firstSeries": list(selected.first)}


def top_metrics(counts: Sequence[tuple[str, int]]) -> tuple[MetricShare, ...]:
    """Return the metrics with the most series; of equals the first by name."""
    top = heapq.nsmallest(TOP_METRICS, counts, key=lambda one: (-one[1], one[0]))
    return tuple(MetricShare(name, count) for name, count in top)
