"""State of histogram assembly for one project, so that each project has its share."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from relay.pipeline.metrics.histograms.build_point import FamilyKey
from relay.pipeline.metrics.histograms.counters import Outcomes
from relay.pipeline.metrics.histograms.group import Family, PendingPoint
from relay.runtime.project_shares import ProjectPart

COUNT_EVERY: Final = 64
"""Sets that are opened before the samples of all projects are counted again."""


class ProjectSets:
    """The families, outcomes and sets of one project, oldest set first.

    ``others`` is the number of samples of other projects that waited at the last count, ``recount``
    the number of sets that may be opened before the next one.
    """

    __slots__ = ("others", "outcomes", "part", "recount", "sets")

    def __init__(self, part: ProjectPart[FamilyKey, Family]) -> None:
        self.part = part
        self.outcomes = Outcomes()
        self.sets: deque[tuple[Family, PendingPoint]] = deque()
        self.others = 0
        self.recount = 0

    def __repr__(self) -> str:
        return f"<ProjectSets {self.part!r}, {self.outcomes.waiting} samples waiting>"


@dataclass(frozen=True, slots=True)
class AssemblyStatistics:
    """``families`` known, samples that wait now, points made, and samples by their outcome."""

    families: int
    waiting_samples: int
    points: int
    outcomes: dict[str, int]
