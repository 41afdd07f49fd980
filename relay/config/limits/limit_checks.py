"""Checks the number of exporters, sinks and pairs of each project against its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from relay.config.exporter.cross_checks import Candidate
from relay.config.exporter.types import Exporter
from relay.config.limits.project_limits import ProjectLimits

LIMIT_EXCEEDED: Final = "LimitExceeded"
"""The reason of faults because of a limit."""


class ExporterCounts(NamedTuple):
    """Exporters, their sinks, and their pairs of a source and a sink that it feeds."""

    exporters: int = 0
    sinks: int = 0
    pairs: int = 0

    def plus(self, other: ExporterCounts) -> ExporterCounts:
        """Return the sum."""
        return ExporterCounts(*(a + b for a, b in zip(self, other, strict=True)))


def counts_of(exporter: Exporter) -> ExporterCounts:
    """Return what an exporter counts."""
    pairs = sum(len(set(sink.sources)) for sink in exporter.sinks)
    return ExporterCounts(1, len(exporter.sinks), pairs)


def check_limits(
    candidates: Iterable[Candidate], limits_of: Callable[[str], ProjectLimits]
) -> None:
    """Refuse the exporters that are too many for their project.

    The oldest ones count first, so that an exporter that runs is not refused for a new one; of
    those without a time of creation the first.
    """
    used: dict[str, ExporterCounts] = {}
    for candidate in sorted(candidates, key=lambda one: one.exporter.created_at or 0.0):
        exporter = candidate.exporter
        limits = limits_of(exporter.project)
        before = used.get(exporter.project, ExporterCounts())
        now = before.plus(counts_of(exporter))
        maxima = limits.exporters_max, limits.sinks_max, limits.pairs_max
        excesses = [
            f"{count} {name}, at most {most}"
            for name, count, most in zip(
                ("exporters", "sinks", "pairs of source and sink"), now, maxima, strict=True
            )
            if most is not None and count > most
        ]
        if not excesses:
            used[exporter.project] = now
            continue
        candidate.report.fault(
            (*candidate.where, "metadata", "name"),
            f"the project {exporter.project} has too much with this one: {'; '.join(excesses)}; "
            "remove others, or ask the operator for more",
            reason=LIMIT_EXCEEDED,
        )
