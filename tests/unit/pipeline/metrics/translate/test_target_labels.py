"""Sinks whose backend does not make job and instance of a resource again keep them on points."""

from __future__ import annotations

import pytest

from relay.pipeline.routing.match_set import OutputOptions
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write.sample_writes import T0_MS, histogram, write

TARGET = 'job="ns/api",instance="h:1"'
KEEPS = OutputOptions(keeps_target_labels=True)
SERVICE = {"service.namespace": "ns", "service.name": "api", "service.instance.id": "h:1"}


@pytest.mark.parametrize(
    ("lines", "own"),
    [
        ((f'up{{{TARGET},a="b"}} 1',), {"a": "b"}),
        (histogram("h", TARGET, (("1", 2), ("+Inf", 3)), 4.5, 3), {}),
        ((f'up{{{TARGET},otel_scope_name="lib"}} 1',), {}),
    ],
)
def test_both_beside_each_other(lines: tuple[str, ...], own: dict[str, str]) -> None:
    rig = Rig()
    rig.export(RigSink("plain", limit=100), RigSink("keeps", limit=100, options=KEEPS))
    rig.feed(write(*lines))
    rig.due(100.0)
    rig.flush()
    (plain,), (keeps,) = (sink.any_points() for sink in rig.sinks)
    assert dict(plain.attributes) == own
    assert dict(keeps.attributes) == {**own, "job": "ns/api", "instance": "h:1"}
    assert dict(plain.resource) == dict(keeps.resource) == SERVICE


def test_delta_streams_of_both_stand_apart() -> None:
    rig = Rig()
    rig.export(
        RigSink("plain", limit=100, options=OutputOptions("delta")),
        RigSink("keeps", limit=100, options=OutputOptions("delta", keeps_target_labels=True)),
    )
    for second, value in enumerate((5, 7, 10)):
        rig.feed(write(f"c_total{{{TARGET}}} {value}", at_ms=T0_MS + 1000 * second))
    rig.flush()
    for sink in rig.sinks:
        assert [point.value for point in sink.any_points()] == [2.0, 3.0]
