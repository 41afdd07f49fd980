"""Deadlines of batches: never early, never missed, whatever happens to the batch in between."""

from __future__ import annotations

import pytest

from relay.pipeline.batching.flush_schedule import FlushSchedule
from relay.runtime.errors import DecodeError
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write import raw

UP = [(b"__name__", b"up")]
T = raw.T0_MS


def body_of_series(count: int) -> bytes:
    """A request of so many points."""
    return b"".join(raw.series(UP, (float(n), T + n)) for n in range(count))


def rig_with(**sink: float) -> tuple[Rig, RigSink]:
    """An engine with one sink."""
    rig = Rig()
    options = {"limit": 10, "timeout_s": 5.0} | sink
    return rig, rig.export(RigSink("s", **options))  # type: ignore[arg-type]


def test_due_exactly_a_timeout_after_the_first_point() -> None:
    rig, sink = rig_with()
    rig.feed(body_of_series(1), tick=10.0)
    rig.feed(body_of_series(2), tick=14.0)  # does not put it off
    assert rig.engine.schedule.next_due() == 15.0
    rig.due(14.999)
    assert not sink.sealed
    rig.due(15.0)
    assert [sealed.count for sealed in sink.sealed] == [3]
    assert rig.engine.schedule.next_due() is None


def test_a_batch_sealed_by_size_is_due_anew() -> None:
    rig, sink = rig_with(limit=3)
    rig.feed(body_of_series(2), tick=0.0)
    rig.feed(
        body_of_series(2), tick=3.0
    )  # one completes the first batch, the other begins the second
    assert [sealed.count for sealed in sink.sealed] == [3]
    rig.due(5.0)
    assert len(sink.sealed) == 1, "the first filling's deadline is not the second's"
    assert rig.engine.schedule.next_due() == 8.0
    rig.due(8.0)
    assert [sealed.count for sealed in sink.sealed] == [3, 1]


def test_a_batch_sealed_to_the_point_has_no_deadline() -> None:
    rig, sink = rig_with(limit=3)
    rig.feed(body_of_series(2), tick=0.0)
    rig.feed(body_of_series(1), tick=1.0)
    assert len(sink.sealed) == 1
    assert rig.engine.schedule.next_due() is None
    rig.due(100.0)
    assert len(sink.sealed) == 1


def test_one_request_that_fills_several_batches_arms_the_last() -> None:
    rig, sink = rig_with(limit=3)
    rig.feed(body_of_series(10), tick=2.0)
    assert [sealed.count for sealed in sink.sealed] == [3, 3, 3]
    rig.due(6.9)
    assert len(sink.sealed) == 3
    rig.due(7.0)
    assert [sealed.count for sealed in sink.sealed] == [3, 3, 3, 1]


def test_a_refused_request_that_sealed_the_batch_leaves_its_deadline() -> None:
    rig, sink = rig_with(limit=3)
    rig.feed(body_of_series(2), tick=0.0)
    with pytest.raises(DecodeError):
        rig.feed(body_of_series(5) + b"\x0a", tick=1.0)
    assert not sink.sealed
    rig.due(4.9)
    assert not sink.sealed
    rig.due(5.0)
    assert [sealed.count for sealed in sink.sealed] == [2]


def test_a_refused_request_arms_nothing() -> None:
    rig, _ = rig_with()
    with pytest.raises(DecodeError):
        rig.feed(body_of_series(5) + b"\x0a", tick=1.0)
    assert len(rig.engine.schedule) == 0
    assert rig.engine.schedule.next_due() is None


def test_no_timeout_means_with_the_request() -> None:
    rig, sink = rig_with(timeout_s=0.0)
    transaction = rig.feed(body_of_series(12), tick=1.0)
    assert [sealed.count for sealed in sink.sealed] == [10, 2]
    assert len(transaction.sealed) == 2
    assert len(rig.engine.schedule) == 0


def test_a_flush_takes_the_deadline_along() -> None:
    rig, sink = rig_with()
    rig.feed(body_of_series(1), tick=0.0)
    rig.flush()
    rig.feed(body_of_series(1), tick=4.0)
    rig.due(5.0)
    assert len(sink.sealed) == 1
    rig.due(9.0)
    assert len(sink.sealed) == 2


def test_sinks_are_due_each_at_its_own_time() -> None:
    rig = Rig()
    sinks = [RigSink(f"s{n}", limit=10, timeout_s=float(n)) for n in (3, 1, 2)]
    rig.export(*sinks)
    rig.feed(body_of_series(1), tick=0.0)
    left = []
    for tick in (1.0, 2.0, 3.0):
        rig.due(tick)
        left.append(sorted(sink.name for sink in sinks if sink.sealed))
    assert left == [["s1"], ["s1", "s2"], ["s1", "s2", "s3"]]


def test_a_late_wake_up_takes_all_that_is_due() -> None:
    rig = Rig()
    sinks = [RigSink(f"s{n}", limit=10, timeout_s=float(n)) for n in (1, 2, 30)]
    rig.export(*sinks)
    rig.feed(body_of_series(1), tick=0.0)
    rig.due(20.0)
    assert [len(sink.sealed) for sink in sinks] == [1, 1, 0]


def test_an_empty_schedule_has_nothing_due() -> None:
    schedule = FlushSchedule()
    assert schedule.next_due() is None
    assert list(schedule.due(1e9)) == []
    assert repr(schedule) == "<FlushSchedule 0 armed>"


def test_what_is_due_can_be_taken_in_parts() -> None:
    rig = Rig()
    sinks = [RigSink("s", limit=10, exporter=f"x{n}") for n in range(5)]
    for sink in sinks:
        rig.export(sink, exporter=sink.counter.exporter)
    rig.feed(body_of_series(1), tick=0.0)
    taken = [len(rig.engine.flush_due(5.0, most=2)) for _ in range(4)]
    assert taken == [2, 2, 1, 0]
    assert rig.engine.next_due() is None
    assert not any(batch.count for sink in sinks for batch in sink.batches)
