"""What a restarted pipeline knows again: where every delta stood."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from relay.control.durability import delta_state_file
from relay.pipeline.metrics.temporality.delta_state_codec import recall, remember
from relay.pipeline.routing.match_set import OutputOptions
from relay.runtime.errors import DecodeError
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write.sample_writes import T0_MS, histogram, write

LINES = ["c_total 5", *histogram("h", 'a="b"', (("1", 2), ("+Inf", 3)), 4.5, 3)]
GROWN = ["c_total 7", *histogram("h", 'a="b"', (("1", 3), ("+Inf", 5)), 6.5, 5)]
TYPES = {"c": "counter", "h": "histogram seconds"}


def delta_rig() -> Rig:
    """An engine with one sink that wants deltas."""
    made = Rig()
    made.export(RigSink("s", limit=1000, options=OutputOptions("delta")))
    return made


def test_a_restart_loses_no_increment() -> None:
    before = delta_rig()
    before.feed(write(*LINES, types=TYPES))
    before.hand_over(before.engine.finish(10.0))
    after = delta_rig()
    recall(remember(before.engine.deltas), after.engine.deltas)
    after.feed(write(*GROWN, at_ms=T0_MS + 1000, types=TYPES))
    after.hand_over(after.engine.finish(10.0))
    after.flush()
    points = {point.name: point for point in after.sinks[0].any_points()}
    assert points["c_total"].value == 2.0
    assert points["h"].data[3] == (1, 1)
    assert {point.start_ns for point in points.values()} == {T0_MS * 1_000_000}


def test_what_was_learned_meanwhile_wins() -> None:
    before, after = delta_rig(), delta_rig()
    before.feed(write(*LINES, types=TYPES))
    after.feed(write("c_total 9", at_ms=T0_MS + 1000, types=TYPES))
    recall(remember(before.engine.deltas), after.engine.deltas)
    after.feed(write("c_total 10", at_ms=T0_MS + 2000))
    after.flush()
    assert [point.value for point in after.sinks[0].any_points()] == [1.0]


def test_a_second_recollection_is_the_same() -> None:
    before, after = delta_rig(), delta_rig()
    before.feed(write(*LINES, types=TYPES))
    before.hand_over(before.engine.finish(10.0))
    recall(remember(before.engine.deltas), after.engine.deltas)
    first, second = (
        msgspec.msgpack.decode(remember(one.engine.deltas))["streams"] for one in (before, after)
    )
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"{}", msgspec.msgpack.encode({"version": 1, "streams": [[b"", 0.0]]})]
)
def test_other_bytes_are_refused(data: bytes) -> None:
    deltas = delta_rig().engine.deltas
    with pytest.raises(DecodeError):
        recall(data, deltas)
    with pytest.raises(DecodeError, match="version 2"):
        recall(msgspec.msgpack.encode({"version": 2, "streams": []}), deltas)


def test_the_file_is_of_one_use(tmp_path: Path) -> None:
    """After a crash there is none, and nothing is counted a second time."""
    before, after, later = delta_rig(), delta_rig(), delta_rig()
    before.feed(write(*LINES, types=TYPES))
    delta_state_file.save(tmp_path, before.engine.deltas)
    delta_state_file.load_and_delete(tmp_path, after.engine.deltas)
    delta_state_file.load_and_delete(tmp_path, later.engine.deltas)
    assert list(tmp_path.iterdir()) == []
    for one, values in ((after, [2.0]), (later, [])):
        one.feed(write("c_total 7", at_ms=T0_MS + 1000, types=TYPES))
        one.flush()
        assert [point.value for point in one.sinks[0].any_points()] == values


def test_a_file_that_cannot_be_used_costs_its_deltas_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / delta_state_file.NAME).write_bytes(b"damaged")
    delta_state_file.load_and_delete(tmp_path, delta_rig().engine.deltas)
    delta_state_file.save(tmp_path / "missing", delta_rig().engine.deltas)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
