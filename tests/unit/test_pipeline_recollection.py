"""What a restarted pipeline knows again: types, and where every delta stood."""

from __future__ import annotations

import msgspec
import pytest

from relay.errors import DecodeError
from relay.pipeline.plans import TargetOptions
from tests.support.engine_rig import Rig, RigSink
from tests.support.sample_writes import T0_MS, histogram, write

LINES = ["c_total 5", *histogram("h", 'a="b"', (("1", 2), ("+Inf", 3)), 4.5, 3)]
GROWN = ["c_total 7", *histogram("h", 'a="b"', (("1", 3), ("+Inf", 5)), 6.5, 5)]
TYPES = {"c": "counter", "h": "histogram seconds", "g": "gauge"}


def rig() -> Rig:
    """An engine with one sink that wants deltas."""
    made = Rig()
    made.export(RigSink("s", limit=1000, options=TargetOptions("delta")))
    return made


def test_a_restart_loses_no_increment_and_no_type() -> None:
    before = rig()
    before.feed(write(*LINES, types=TYPES))
    before.hand_over(before.engine.finish(10.0))
    after = rig()
    after.engine.recall(before.engine.remember())
    after.feed(write(*GROWN, at_ms=T0_MS + 1000))
    after.hand_over(after.engine.finish(10.0))
    after.flush()
    points = {point.name: point for point in after.sinks[0].any_points()}
    assert points["c_total"].value == 2.0
    assert points["c_total"].identity.prometheus_type == "counter"
    assert points["h"].data[3] == (1, 1)
    assert points["h"].identity.unit == "s"
    assert {point.start_ns for point in points.values()} == {T0_MS * 1_000_000}
    assert after.engine.types.identity("g").prometheus_type == "gauge"


def test_what_was_learned_meanwhile_wins() -> None:
    before, after = rig(), rig()
    before.feed(write(*LINES, types=TYPES))
    after.feed(write("c_total 9", at_ms=T0_MS + 1000, types={"g": "counter"}))
    after.engine.recall(before.engine.remember())
    after.feed(write("c_total 10", at_ms=T0_MS + 2000))
    after.flush()
    assert [point.value for point in after.sinks[0].any_points()] == [1.0]
    assert after.engine.types.identity("g").prometheus_type == "counter"


def test_a_second_recollection_is_the_same() -> None:
    before, after = rig(), rig()
    before.feed(write(*LINES, types=TYPES))
    before.hand_over(before.engine.finish(10.0))
    after.engine.recall(before.engine.remember())
    first, second = (
        msgspec.msgpack.decode(one.engine.remember())["streams"] for one in (before, after)
    )
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"{}", msgspec.msgpack.encode({"version": 1, "streams": [[b"", 0.0]]})]
)
def test_other_bytes_are_refused(data: bytes) -> None:
    engine = rig().engine
    with pytest.raises(DecodeError):
        engine.recall(data)
    known = {"version": 2, "since_ns": 0, "families": [], "streams": []}
    with pytest.raises(DecodeError, match="version 2"):
        engine.recall(msgspec.msgpack.encode(known))
