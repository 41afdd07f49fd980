"""Exemplars that come in series of their own, as Prometheus sends them, and where they end up."""

from __future__ import annotations

from typing import Any

import pytest

from relay.pipeline.metrics.exemplars import PER_SERIES_MAX, ExemplarBuffer
from relay.pipeline.routing.match_set import OutputOptions
from relay.runtime.errors import DecodeError
from tests.kit.engine_rig import NUMBERS, Rig, RigSink, named
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.remote_write.prompb import WriteRequest
from tests.kit.remote_write.symbolic import T0_MS, native

TRACE = "0af7651916cd43dd8448eb211c80319c"
HITS = {"__name__": "hits_total", "job": "api"}
STEP = 15_000


def write(*series: tuple[dict[str, str], str]) -> bytes:
    """A 1.0 request: each series has a ``sample``, an ``exemplar``, a ``native`` or some of them,
    each of them followed by the scrape that it is of."""
    request = WriteRequest()
    for labels, content in series:
        message = request.timeseries.add()
        for name, value in labels.items():
            message.labels.add(name=name, value=value)
        for word in content.split():
            _add(message, word.rstrip("0123456789"), T0_MS + STEP * int(word[-1]))
    encoded: bytes = request.SerializeToString()
    return encoded


def _add(message: Any, what: str, time_ms: int) -> None:
    if what == "sample":
        message.samples.add(value=1.0, timestamp=time_ms)
    elif what == "native":
        native(message, time_ms)
    else:
        exemplar = message.exemplars.add(value=0.5, timestamp=time_ms - 1)
        exemplar.labels.add(name="trace_id", value=TRACE)


def feed_exemplars(*bodies: bytes, options: OutputOptions = NUMBERS) -> tuple[Rig, list[AnyPoint]]:
    """Feed the bodies to an engine with one sink; return it and all points."""
    rig = Rig()
    sink = rig.export(RigSink("s", limit=1000, options=options))
    for number, body in enumerate(bodies):
        rig.feed(body, tick=number)
    rig.due(1e6)
    rig.flush()
    rig.engine.router.flush_counters()
    assert sink.counter.points == sink.held
    return rig, sink.any_points()


def traces(points: list[AnyPoint]) -> list[int]:
    """How many exemplars each point has, in order."""
    return [len(point.exemplars) for point in points]


def test_an_exemplar_goes_with_the_next_point_of_its_series() -> None:
    up = {"__name__": "up"}
    rig, points = feed_exemplars(
        write((HITS, "sample0"), (HITS, "exemplar0"), (up, "sample0")),
        write((HITS, "sample1"), (up, "sample1")),
        write((HITS, "sample2"), (up, "sample2")),
    )
    hits = [point for point in points if point.name == "hits_total"]
    assert traces(hits) == [0, 1, 0]
    assert sum(traces(points)) == 1
    (exemplar,) = hits[1].exemplars
    assert exemplar == ((T0_MS - 1) * 1_000_000, 0.5, TRACE, "", ())
    assert hits[1].data == hits[0].data
    statistics = rig.engine.statistics().exemplars
    assert (statistics.received, statistics.sent, statistics.dropped) == (1, 1, 0)
    assert statistics.waiting == 0


def test_with_a_sample_it_goes_with_that() -> None:
    _, points = feed_exemplars(write((HITS, "sample0 exemplar0")), write((HITS, "sample1")))
    assert traces(points) == [1, 0]


def test_one_point_takes_all_that_wait_and_no_other() -> None:
    rig, points = feed_exemplars(
        write((HITS, "sample0"), *[(HITS, "exemplar0")] * 3),
        write((HITS, "sample1"), (HITS, "sample2")),  # both were met before the first is handled
    )
    assert traces(points) == [0, 3, 0]
    assert rig.engine.statistics().exemplars.waiting == 0


def test_delta_points_carry_them_too() -> None:
    _, points = feed_exemplars(
        write((HITS, "sample0"), (HITS, "exemplar0")),
        write((HITS, "sample1")),
        options=OutputOptions(temporality="delta"),
    )
    assert [point.identity.temporality for point in points] == ["delta"]
    # The first point only sets the base; what it carried would be of another window.
    assert traces(points) == [1]


def test_native_histograms_have_their_own() -> None:
    latency = {"__name__": "latency"}
    rig, points = feed_exemplars(
        write((latency, "native0"), (latency, "exemplar0")),
        write((latency, "native1")),
        write((latency, "native2")),
        options=OutputOptions(),
    )
    assert traces(points) == [0, 1, 0]
    assert rig.engine.statistics().exemplars.sent == 1


def test_nobody_wants_the_series() -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=10), sources={"up": named("up")})
    rig.feed(write((HITS, "sample0"), (HITS, "exemplar0")))
    statistics = rig.engine.statistics().exemplars
    assert (statistics.received, statistics.waiting, statistics.dropped) == (1, 0, 0)


def test_too_many_for_a_series_and_altogether() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=1000, options=NUMBERS))
    rig.engine.exemplar_buffer = ExemplarBuffer(exemplars_max=10)
    rig.feed(write((HITS, "sample0"), *[(HITS, "exemplar0")] * 12))
    assert rig.engine.statistics().exemplars.waiting == PER_SERIES_MAX
    others = [{"__name__": "other", "n": str(n)} for n in range(6)]
    rig.feed(write(*[(labels, "sample0") for labels in others]))
    rig.feed(write(*[(labels, "exemplar0") for labels in others]))
    statistics = rig.engine.statistics().exemplars
    assert statistics.received == 18
    assert statistics.waiting == 6  # the first series, which waited longest, gave way
    assert statistics.dropped == 12
    rig.feed(write((HITS, "sample1"), *[(labels, "sample1") for labels in others]))
    rig.flush()
    assert traces(sink.any_points()) == [0] * 8 + [1] * 6
    assert rig.engine.statistics().exemplars.sent == 6


def test_a_change_of_exporters_drops_them_and_nothing_else() -> None:
    rig = Rig()
    first = rig.export(RigSink("a", limit=100, options=NUMBERS), exporter="a")
    rig.feed(write((HITS, "sample0"), (HITS, "exemplar0")))
    second = rig.export(RigSink("b", limit=100, options=NUMBERS), exporter="b")
    rig.feed(write((HITS, "sample1")))
    rig.feed(write((HITS, "exemplar1"), (HITS, "sample2")))
    rig.feed(write((HITS, "sample3")))
    rig.flush()
    rig.engine.router.flush_counters()
    assert traces(first.any_points()) == [0, 0, 0, 1]
    assert traces(second.any_points()) == [0, 0, 1]
    for sink in (first, second):
        assert sink.counter.points == sink.held


def test_a_refused_request_leaves_none_behind() -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=10, options=NUMBERS))
    rig.feed(write((HITS, "sample0")))
    before = rig.snapshot()
    body = write((HITS, "exemplar0"), (HITS, "sample1"))
    with pytest.raises(DecodeError):
        rig.feed(body + b"\x0a\x7f")
    assert rig.snapshot() == before
    assert rig.engine.statistics().exemplars.waiting == 0
    assert repr(rig.engine.exemplar_buffer) == "<ExemplarBuffer 0 waiting of 0 series>"


@pytest.mark.parametrize(
    ("options", "series", "sent", "dropped"),
    [
        (NUMBERS, [(HITS, "sample0 exemplar0")], 1, 0),
        (NUMBERS, [(HITS, "sample0 exemplar0"), (HITS, "exemplar0"), (HITS, "sample1")], 2, 0),
        (OutputOptions("delta"), [(HITS, "sample0 exemplar0"), (HITS, "sample1 exemplar1")], 1, 1),
        (OutputOptions(), [({"__name__": "latency"}, "native0 exemplar0")], 1, 0),
        (
            OutputOptions(),
            [
                ({"__name__": "h_bucket", "le": "+Inf"}, "sample0 exemplar0"),
                ({"__name__": "h_count"}, "sample0"),
            ],
            1,
            0,
        ),
        (OutputOptions(), [({"__name__": "h_bucket", "le": "1"}, "sample0 exemplar0")], 0, 1),
    ],
)
def test_all_that_are_sent_are_counted_once(
    options: OutputOptions, series: list[tuple[dict[str, str], str]], sent: int, dropped: int
) -> None:
    """Also those that came with their sample, and however many sinks they go to."""
    rig = Rig()
    for name in ("s", "t"):
        rig.export(RigSink(name, limit=1000, options=options, exporter=name), exporter=name)
    for one in series:
        rig.feed(write(one))
    rig.due(1e6)
    rig.flush()
    statistics = rig.engine.statistics().exemplars
    assert (statistics.sent, statistics.dropped, statistics.waiting) == (sent, dropped, 0)
    for sink in rig.sinks:
        assert sum(traces(sink.any_points())) == sent
