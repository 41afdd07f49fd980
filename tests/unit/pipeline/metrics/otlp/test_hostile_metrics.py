"""Requests that cost as much as a request may pause often, and are bounded."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest

from relay.pipeline.pacing import Pace
from relay.pipeline.routing.match_set import OutputOptions
from relay.pipeline.routing.tenancy import ANYWHERE
from relay.runtime.errors import OverloadedError, TooLargeError
from tests.kit.engine_rig import RAW2, Rig, RigSink
from tests.kit.otlp.hostile_metrics import SHAPES
from tests.own_time import HELD_S_MAX, held_s


@pytest.mark.parametrize("name", SHAPES)
def test_no_request_holds_the_loop(name: str) -> None:
    body = SHAPES[name](1)

    def prepare() -> Callable[[Pace], object]:
        rig = Rig()
        rig.export(
            RigSink("cumulative", limit=1000),
            RigSink("deltas", limit=1000, options=OutputOptions(temporality="delta")),
            RigSink("prometheus", limit=1000, options=RAW2),
        )
        return partial(ingest, rig, body)

    assert held_s(prepare) < HELD_S_MAX


def ingest(rig: Rig, body: bytes, pace: Pace) -> None:
    """Take a body in, which may be refused, without a trace then."""
    try:
        rig.engine.ingest(
            body,
            now=time.time(),
            tick=0.0,
            origin=ANYWHERE,
            protocol="otlp_metrics",
            pace=pace,
        )
    except (OverloadedError, TooLargeError):
        assert rig.engine.offsets.low == rig.engine.offsets.following
