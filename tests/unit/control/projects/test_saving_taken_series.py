"""The file of taken series, while projects come to their limits and leave them, and at a stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from relay.config.limits.project_limits import LimitSettings, ProjectLimits
from relay.control.projects import projects as module
from relay.control.projects.projects import Projects
from relay.control.projects.taken_series_file import NAME, load_taken, save_taken
from relay.control.reconcile.reconciler import SinkReconciler
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.limits import Limits
from relay.pipeline.routing.tenancy import Tenancy
from tests.kit.processes import eventually
from tests.unit.control.projects.test_projects import NothingRuns, between_requests

LIMITS = LimitSettings(ProjectLimits(series_max=3))


def projects_of(directory: Path, *, reserve_s: float = 3600.0) -> Projects:
    limits = Limits(series_max=1_000, families_max=1_000, histograms_max=1_000)
    return Projects(
        MetricsPipeline(limits, tenancy=Tenancy("t")),
        cast("SinkReconciler", NothingRuns()),
        LIMITS,
        directory=directory,
        reserve_s=reserve_s,
        settled=between_requests,
    )


async def test_a_stop_waits_for_the_save_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def save(directory: Path, found: Mapping[str, set[int]]) -> None:
        if threading.current_thread() is threading.main_thread():
            order.append("the stop's")
        else:
            begun.set()
            assert go_on.wait(10)
            order.append("the minute's")
        save_taken(directory, found)

    monkeypatch.setattr(module, "save_taken", save)
    projects = projects_of(tmp_path)
    projects._refusing = {"acme"}
    saving = asyncio.create_task(projects._save_taken())
    projects._tasks.append(saving)
    await eventually("it is being saved", begun.is_set, timeout_s=5)
    stopping = asyncio.create_task(projects.stop())
    await asyncio.sleep(0.05)
    assert not order
    go_on.set()
    await stopping
    assert order == ["the minute's", "the stop's"]
    assert load_taken(tmp_path) == {"acme": set()}


async def test_the_file_goes_once_no_project_is_at_its_limit(tmp_path: Path) -> None:
    projects = projects_of(tmp_path)
    projects._refusing = {"acme"}
    await projects._save_taken()
    assert (tmp_path / NAME).exists()
    projects._refusing = set()
    await projects._save_taken()
    assert not (tmp_path / NAME).exists()


async def test_the_file_goes_at_a_stop(tmp_path: Path) -> None:
    projects = projects_of(tmp_path)
    save_taken(tmp_path, {"acme": {7}})
    await projects.stop()
    assert not (tmp_path / NAME).exists()


async def test_the_file_stays_while_places_are_kept(tmp_path: Path) -> None:
    save_taken(tmp_path, {"acme": {7}})
    projects = projects_of(tmp_path)
    await projects._save_taken()
    await projects.stop()
    assert load_taken(tmp_path) == {"acme": {7}}
    late = projects_of(tmp_path, reserve_s=0.0)
    await late._save_taken()
    assert not (tmp_path / NAME).exists()
