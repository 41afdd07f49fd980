"""Drops what was learned of a project that is gone, a part at a time."""

from __future__ import annotations

from relay.pipeline.engine import MetricsPipeline

STEP_MAX = 2_000
"""Entries of each kind that one call drops."""


def forget_project(
    engine: MetricsPipeline, project: str, *, step_max: int = STEP_MAX
) -> dict[str, int]:
    """Drop some of what was learned of a project; return how much, by kind: nothing at the end.

    No exporter of it may run. Call it between two requests, until nothing is left. Series of the
    project that still arrive teach again, within the bounds of projects without exporters.
    """
    assert project, "without tenancy nothing has an owner that could go"
    dropped = {
        "families": engine.types.forget(project, step_max),
        "targets": engine.resources.forget(project),
        "objects": engine.inventory.forget(project, step_max),
        "deltaStates": engine.deltas.forget(project, step_max),
        "histograms": engine.assembly.forget(project, step_max),
        "settledFamilies": engine.first_sight.forget(project, step_max),
        "describedMetrics": engine.resolver.raw.metadata.forget(project, step_max),
    }
    return {kind: count for kind, count in dropped.items() if count}
