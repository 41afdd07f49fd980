"""Drops what was learned of a project that is gone, a part at a time.

Its series go first, so that they are resolved anew if the project comes back. Senders may go on
meanwhile and teach again, within the bounds of projects without exporters: so each kind of state is
done once a step found less than it could drop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from relay.pipeline.engine import MetricsPipeline

STEP_MAX: Final = 2_000
"""Entries that one step drops: a few milliseconds."""


class ProjectForgetting:
    """The end of one project without exporters; ``dropped`` counts by kind.

    :meth:`step` it between two requests until it is ``done``.
    """

    def __init__(self, engine: MetricsPipeline, project: str, *, step_max: int = STEP_MAX) -> None:
        assert project, "without tenancy nothing has an owner that could go"
        self._engine = engine
        self._project = project
        self._step_max = step_max
        self.dropped: Counter[str] = Counter()
        self._left: list[tuple[str, Callable[[str, int], int]]] = [
            ("series", engine.table.forget_share),
            ("deltaStates", engine.deltas.forget),
            ("histograms", engine.assembly.forget),
            ("describedMetrics", engine.resolver.raw.metadata.forget),
            ("settledFamilies", engine.first_sight.forget),
            ("objects", engine.inventory.forget),
            ("targets", lambda one, _: engine.resources.forget(one)),
            ("families", engine.types.forget),
        ]

    @property
    def done(self) -> bool:
        """True if nothing is left to drop."""
        return not self._left

    def step(self) -> None:
        """Drop some of what is left."""
        kind, forget = self._left[0]
        count = forget(self._project, self._step_max)
        if count:
            self.dropped[kind] += count
        if count < self._step_max or kind == "targets":
            del self._left[0]

    def __repr__(self) -> str:
        return f"<ProjectForgetting {self._project!r}, {len(self._left)} kinds left>"
