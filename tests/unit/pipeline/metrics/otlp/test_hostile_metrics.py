"""Requests that cost as much as a request may pause often, and are bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from relay.pipeline.routing.match_set import OutputOptions
from relay.pipeline.routing.tenancy import ANYWHERE
from relay.runtime.errors import OverloadedError, TooLargeError
from tests.kit.engine_rig import RAW2, Rig, RigSink
from tests.kit.otlp.hostile_metrics import SHAPES
from tests.own_time import PauseWatch, without_collections

HELD_S_MAX = 0.05


@pytest.fixture(autouse=True)
def _without_collections() -> Iterator[None]:
    with without_collections():
        yield


@pytest.mark.parametrize("name", SHAPES)
def test_no_request_holds_the_loop(name: str) -> None:
    rig = Rig()
    rig.export(
        RigSink("cumulative", limit=1000),
        RigSink("deltas", limit=1000, options=OutputOptions(temporality="delta")),
        RigSink("prometheus", limit=1000, options=RAW2),
    )
    body = SHAPES[name](1)
    watch = PauseWatch()
    try:
        rig.engine.ingest(
            body,
            now=time.time(),
            tick=0.0,
            origin=ANYWHERE,
            protocol="otlp_metrics",
            pace=watch,
        )
    except (OverloadedError, TooLargeError):
        assert rig.engine.offsets.low == rig.engine.offsets.following
    watch.pause()
    assert watch.longest_s < HELD_S_MAX
