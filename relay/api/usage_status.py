"""Usage of projects, exporters, sources and sinks, in ``/status`` and in the metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from relay.config.exporter.types import Exporter
from relay.config.limits.limit_checks import ExporterCounts, counts_of
from relay.config.limits.project_limits import limit_values
from relay.control.kubernetes.status_body import usage_document
from relay.control.projects.project_totals import ProjectTotals
from relay.control.projects.usage_facts import UsageFacts
from relay.control.reconcile.sink_report import SinkReport
from relay.control.status.object_status import UsageFigures
from relay.control.status.usage import sum_usage
from relay.pipeline.routing.series_counts import ProjectSeries
from relay.telemetry.snapshot import ProjectFigures

_NOTHING: Final = UsageFigures()


def figures_document(figures: UsageFigures | None) -> dict[str, int]:
    """Return figures as ``/status`` shows them: as objects on Kubernetes do, 0 where unknown."""
    return usage_document(figures or _NOTHING)


def project_figures(
    usage: UsageFacts, exporters: Iterable[Exporter], sinks: Iterable[SinkReport]
) -> tuple[ProjectFigures, ...]:
    """Return the figures of every project that has exporters; their sinks that drain count."""
    counts: dict[str, ExporterCounts] = {}
    totals: dict[str, ProjectTotals] = {}
    queues: dict[str, int] = {}
    projects: dict[str, str] = {}
    for exporter in exporters:
        project = exporter.project
        if project:
            projects[exporter.id] = project
            counts[project] = counts.get(project, ExporterCounts()).plus(counts_of(exporter))
    for report in sinks:
        project = projects.get(report.exporter, report.group if report.removed else "")
        if project in counts:
            totals[project] = totals.get(project, usage.removed(project)).plus(report)
            queues[project] = queues.get(project, 0) + report.queue.bytes
    found: list[ProjectFigures] = []
    for project, count in counts.items():
        series = usage.series.get(project, ProjectSeries(0, 0))
        total = totals.get(project, usage.removed(project))
        found.append(
            ProjectFigures(
                project,
                *count,
                *series,
                *total[:4],
                records=total.records,
                refused_records=total.refused_records,
                queue_bytes=queues.get(project, 0),
                limits=limit_values(usage.limits(project)),
            )
        )
    return tuple(found)


def project_documents(
    usage: UsageFacts, exporters: Iterable[Exporter], sinks: Iterable[SinkReport]
) -> list[dict[str, Any]]:
    """Return the usage and the limits of every project of these exporters."""
    exporters = tuple(exporters)
    by_project: dict[str, list[UsageFigures]] = {}
    for exporter in exporters:
        by_project.setdefault(exporter.project, []).append(usage.of(exporter.id).total)
    return [
        {
            "project": one.project,
            "exporters": one.exporters,
            "sinks": one.sinks,
            "pairs": one.pairs,
            "usage": figures_document(sum_usage(by_project[one.project], one.series)),
            "refusedSeries": one.refused_series,
            "refusedSamples": one.refused_samples,
            "refusedRecords": one.refused_records,
            "queueBytes": one.queue_bytes,
            "limits": dict(one.limits),
        }
        for one in project_figures(usage, exporters, sinks)
    ]
