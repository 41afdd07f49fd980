"""Totals of projects since the start of the process, over sinks that come and go."""

from __future__ import annotations

from typing import NamedTuple

from relay.control.reconcile.sink_report import SinkReport


class ProjectTotals(NamedTuple):
    """Samples that sinks took, and that limits refused for sinks; bytes sent; points sent again."""

    samples: int = 0
    refused: int = 0
    bytes_sent: int = 0
    points_resent: int = 0

    def plus(self, report: SinkReport) -> ProjectTotals:
        """Return the sum with a sink's."""
        return ProjectTotals(
            self.samples + report.matched_samples - report.refused_samples,
            self.refused + report.refused_samples,
            self.bytes_sent + report.worker.bytes_sent,
            self.points_resent + report.worker.points_resent,
        )


class RemovedTotals:
    """The totals of removed sinks, by project: sums of counters must not fall when a sink goes."""

    def __init__(self) -> None:
        self._totals: dict[str, ProjectTotals] = {}

    def add(self, report: SinkReport) -> None:
        """Add those of a sink that has ended. Without tenancy there are no projects."""
        if report.group == report.exporter:
            return
        self._totals[report.group] = self._totals.get(report.group, ProjectTotals()).plus(report)

    def of(self, project: str) -> ProjectTotals:
        """Return the totals of a project's removed sinks."""
        return self._totals.get(project, ProjectTotals())

    def forget(self, project: str) -> None:
        """Forget a project that is gone."""
        self._totals.pop(project, None)

    def __repr__(self) -> str:
        return f"<RemovedTotals of {len(self._totals)} projects>"
