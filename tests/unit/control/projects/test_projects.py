"""A project's share of series outlives the removal of its last exporter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from relay.config.limits.project_limits import LimitSettings, ProjectLimits
from relay.control.projects import projects as module
from relay.control.projects.projects import Projects
from relay.control.reconcile.reconciler import SinkReconciler
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.limits import Limits
from relay.pipeline.routing.series_tally import SHARE_ALL
from relay.pipeline.routing.tenancy import Tenancy
from relay.selector.matchers import Selector
from tests.kit.processes import eventually


class NothingRuns:
    """The part of a reconciler that is looked at, without sinks."""

    exporters = ()

    def entries(self) -> Iterator[object]:
        return iter(())

    def running(self, exporter: str) -> None:
        return None


async def between_requests() -> None:
    return


async def test_a_share_is_kept_where_the_last_exporter_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.001)
    engine = MetricsPipeline(
        Limits(series_max=1_000, families_max=1_000, histograms_max=1_000), tenancy=Tenancy("t")
    )
    projects = Projects(
        engine,
        cast("SinkReconciler", NothingRuns()),
        LimitSettings(ProjectLimits(samples_per_minute_max=600)),
        settled=between_requests,
    )
    engine.add_exporter("acme/e", "acme", [("s", Selector(()), [])])
    tally = engine.router._projects["acme"].tally
    for at, samples in ((0.0, 0), (60.0, 6_000)):
        projects._limiter.observe("acme", samples, at)
    share = tally.share_max
    assert share < SHARE_ALL // 10
    engine.remove_exporter("acme/e")
    engine.add_exporter("acme/e", "acme", [("s", Selector(()), [])])
    again = engine.router._projects["acme"].tally
    assert again.share_max == SHARE_ALL
    projects.start()
    await eventually("the share is applied", lambda: again.share_max == share, timeout_s=5)
    await projects.stop()
