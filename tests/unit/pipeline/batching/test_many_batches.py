"""Requests that go to many batches: points keep their order, whatever comes between them."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from relay.runtime.errors import DecodeError
from relay.selector.matchers import Selector
from tests.kit.engine_rig import Rig, RigSink, named
from tests.kit.remote_write.sample_writes import T0_MS, write

SINKS = 90
SERIES = 3
FULL = 7


def rig_of_many() -> Rig:
    """Exporters of one sink each; a fifth is another one's twin, and gets the same series."""
    rig = Rig()
    for number in range(SINKS):
        wanted = number - number % 5 % 2
        rig.export(
            RigSink(f"sink-{number}", limit=FULL),
            exporter=f"x{number}",
            sources={"all": named(f"metric_{wanted:02d}")},
        )
    return rig


def turn_request(turn: int, *, unusual: bool = False) -> bytes:
    """A sample of each series. Of some there is another metric's between them, or two samples."""
    lines = []
    for number in range(SINKS):
        name, value = f"metric_{number:02d}", f"{turn}.{number:02d}"
        lines += (f'{name}{{code="{code}"}} {value}' for code in range(SERIES))
        if number % 7 == 0:
            lines.append(f'other{{number="{number}"}} 1')
        if unusual and number % 11 == 3:
            # A second sample of an earlier series, a stale marker, and one that is new each time.
            lines.append(f'metric_{number:02d}{{code="0"}} {turn}.5 @{T0_MS + turn * 1000 + 1}')
            lines.append(f'metric_{number:02d}{{code="1"}} StaleNaN @{T0_MS + turn * 1000 + 2}')
            lines.append(f'metric_{number:02d}{{code="new-{turn}"}} {turn}.7')
    types = {f"metric_{turn:02d}": "counter"} if unusual else None
    return write(*lines, at_ms=T0_MS + turn * 1000, types=types)


@pytest.mark.parametrize("unusual", [False, True])
def test_every_sink_gets_its_points_in_order(unusual: bool) -> None:
    rig = rig_of_many()
    for turn in range(6):
        rig.feed(turn_request(turn, unusual=unusual))
    rig.flush()
    rig.engine.router.flush_counters()
    for number, sink in enumerate(rig.sinks):
        name = f"metric_{number - number % 5 % 2:02d}"
        series = defaultdict(list)
        for point in sink.any_points():
            assert point.name == name
            series[dict(point.attributes)["code"]].append(point.time_ns)
        assert all(times == sorted(times) for times in series.values())
        extra = unusual and (number - number % 5 % 2) % 11 == 3
        assert sink.counter.points == sink.held == 6 * (SERIES + (3 if extra else 0))
        assert {len(series[str(code)]) for code in range(SERIES)} <= {6, 12}
        assert all(sealed.count == FULL for sealed in sink.sealed[:-1])


@pytest.mark.parametrize("unusual", [False, True])
def test_a_request_with_a_bad_end_was_never_there(unusual: bool) -> None:
    rig = rig_of_many()
    for turn in range(3):
        rig.feed(turn_request(turn, unusual=unusual))
    before = rig.snapshot()
    with pytest.raises(DecodeError):
        rig.feed(turn_request(3, unusual=unusual)[:-1])
    assert rig.snapshot() == before
    rig.feed(turn_request(3, unusual=unusual))
    other = rig_of_many()
    for turn in range(4):
        other.feed(turn_request(turn, unusual=unusual))
    rig.flush()
    other.flush()
    encoded = [
        [[s.point_buffer.encode() for s in sink.sealed] for sink in one.sinks]
        for one in (rig, other)
    ]
    assert encoded[0] == encoded[1]


@pytest.mark.parametrize("seed", range(5))
def test_requests_that_overtake_each_other_are_put_in_order(seed: int) -> None:
    """Of one batch: a sender with several connections delivers blocks in any order."""
    rig = Rig()
    rig.export(RigSink("sink", limit=10_000), exporter="x", sources={"all": Selector(())})
    turns = list(range(20))
    random.Random(seed).shuffle(turns)
    for turn in turns:
        rig.feed(turn_request(turn))
    rig.flush()
    rig.engine.router.flush_counters()
    series = defaultdict(list)
    for point in rig.sinks[0].any_points():
        series[point.name, point.attributes].append((point.time_ns, point.value))
    assert len(series) > SINKS
    for points in series.values():
        assert len(points) == len(turns)
        assert points == sorted(points)


def test_what_comes_in_order_stays_in_order() -> None:
    """Beside a series of the same metric that is far ahead of it."""
    rig = Rig()
    rig.export(RigSink("sink", limit=100), exporter="x", sources={"all": Selector(())})
    rig.feed(write(f'm{{n="ahead"}} 1 @{T0_MS + 9}', f'm{{n="y"}} 1 @{T0_MS + 1}'))
    rig.feed(write(f'm{{n="y"}} 2 @{T0_MS + 3}', f'm{{n="ahead"}} 2 @{T0_MS + 12}'))
    rig.flush()
    rig.engine.router.flush_counters()
    points = [point for point in rig.sinks[0].any_points() if dict(point.attributes)["n"] == "y"]
    assert [point.value for point in points] == [1, 2]
