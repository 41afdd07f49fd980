"""Usage and limits of everything that runs, at one moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from relay.config.limits.project_limits import NO_LIMITS, ProjectLimits
from relay.control.projects.project_totals import ProjectTotals
from relay.control.status.usage import NO_USAGE, ExporterUsage
from relay.pipeline.routing.series_counts import ProjectSeries


def _nothing_removed(_project: str) -> ProjectTotals:
    return ProjectTotals()


def _no_limits(_project: str) -> ProjectLimits:
    return NO_LIMITS


class UsageFacts(msgspec.Struct, frozen=True):
    """The usage of exporters by id; series, totals of removed sinks and limits by project.

    ``forgotten`` counts the projects that are gone.
    """

    exporters: Mapping[str, ExporterUsage] = msgspec.field(default_factory=dict)
    series: Mapping[str, ProjectSeries] = msgspec.field(default_factory=dict)
    removed: Callable[[str], ProjectTotals] = _nothing_removed
    limits: Callable[[str], ProjectLimits] = _no_limits
    forgotten: int = 0

    def of(self, exporter: str) -> ExporterUsage:
        """Return the usage of an exporter."""
        return self.exporters.get(exporter, NO_USAGE)
