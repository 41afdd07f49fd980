"""A source that feeds no sink counts its samples and has no route: the decode loop needs one."""

from __future__ import annotations

import pytest

from relay.pipeline.routing.match_set import OutputOptions
from tests.kit.engine_rig import EVERYTHING, NUMBERS, PLAIN, RAW1, Rig, RigSink, named
from tests.kit.remote_write import raw

BODY = raw.join(
    raw.text_series(labels, (1.0, 10**12))
    for labels in (
        {"__name__": "up"},
        {"__name__": "requests_total", "job": "a"},
        {"__name__": "latency_bucket", "le": "1"},
        {"__name__": "latency_bucket", "le": "+Inf"},
    )
)


def samples(rig: Rig) -> dict[str, int]:
    rig.engine.router.flush_counters()
    return {one.source: one.samples for one in rig.engine.router.source_counters()}


def test_it_counts_and_sends_nothing() -> None:
    rig = Rig()
    rig.engine.add_exporter("x", "", [("unfed", EVERYTHING, [])])
    for _ in range(3):
        rig.feed(BODY)
    assert samples(rig) == {"unfed": 12}


@pytest.mark.parametrize("options", [PLAIN, NUMBERS, RAW1])
def test_a_source_beside_it_gets_its_points(options: OutputOptions) -> None:
    rig = Rig()
    sink = RigSink("s", limit=100, options=options)
    rig.sinks.append(sink)
    sources = [("unfed", EVERYTHING, []), ("fed", named("up"), [sink.target])]
    rig.engine.add_exporter("x", "", sources)
    for _ in range(3):
        rig.feed(BODY)
    rig.flush()
    assert samples(rig) == {"unfed": 12, "fed": 3}
    assert sink.held == 3


@pytest.mark.parametrize("options", [PLAIN, NUMBERS, RAW1])
def test_sinks_come_and_go(options: OutputOptions) -> None:
    rig = Rig()
    sink = RigSink("s", limit=100, options=options)
    rig.sinks.append(sink)
    rig.engine.add_exporter("x", "", [("one", named("up"), [sink.target])])
    rig.feed(BODY)
    rig.engine.replace_exporter("x", [("one", named("up"), [])])
    rig.feed(BODY)
    rig.feed(BODY)
    rig.engine.replace_exporter("x", [("one", named("up"), [sink.target])])
    rig.feed(BODY)
    rig.flush()
    assert samples(rig) == {"one": 4}
    assert sink.held == 2
