"""Totals of projects since the start of the process, over sinks that come and go."""

from __future__ import annotations

from typing import NamedTuple

from relay.config.exporter.records.outputs import carries_records
from relay.control.reconcile.sink_report import SinkReport


class ProjectTotals(NamedTuple):
    """Totals of sinks: samples that they took, and that limits refused for them; bytes; resends.

    ``records`` and ``refused_records`` are log records and spans, which are no samples.
    """

    samples: int = 0
    refused: int = 0
    bytes_sent: int = 0
    points_resent: int = 0
    records: int = 0
    refused_records: int = 0

    def plus(self, report: SinkReport) -> ProjectTotals:
        """Return the sum with a sink's."""
        refused = report.refused_samples
        taken = report.matched_samples - refused
        both = self._replace(
            bytes_sent=self.bytes_sent + report.worker.bytes_sent,
            points_resent=self.points_resent + report.worker.points_resent,
        )
        if carries_records(report.sink):
            return both._replace(
                records=self.records + taken, refused_records=self.refused_records + refused
            )
        return both._replace(samples=self.samples + taken, refused=self.refused + refused)


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
