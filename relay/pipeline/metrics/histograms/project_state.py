"""What the assembly of histograms keeps of one project, so that each has its share."""

from __future__ import annotations

from collections import deque
from typing import Final

from relay.pipeline.metrics.histograms.build_point import FamilyKey
from relay.pipeline.metrics.histograms.counters import Outcomes
from relay.pipeline.metrics.histograms.group import Family, PendingPoint
from relay.runtime.project_shares import Part

COUNT_EVERY: Final = 64
"""Sets that are opened before the samples of all projects are counted anew."""


class ProjectSets:
    """A project's families, what became of their samples, and its sets, the oldest first.

    ``others`` is how many samples of other projects waited when that was counted, ``recount`` how
    many sets may be opened until it is counted anew.
    """

    __slots__ = ("others", "outcomes", "part", "recount", "sets")

    def __init__(self, part: Part[FamilyKey, Family]) -> None:
        self.part = part
        self.outcomes = Outcomes()
        self.sets: deque[tuple[Family, PendingPoint]] = deque()
        self.others = 0
        self.recount = 0

    def __repr__(self) -> str:
        return f"<ProjectSets {self.part!r}, {self.outcomes.waiting} samples waiting>"
