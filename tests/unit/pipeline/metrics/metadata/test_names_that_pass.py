"""A name that need not wait for metadata is remembered until that may have changed."""

from __future__ import annotations

import pytest

from relay.pipeline.batching.unfinished import ReplayGate
from relay.pipeline.limits import Limits
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.remote_write.sample_writes import write


def waiting_rig() -> Rig:
    """A rig with one sink, in which families wait for 1.5 s."""
    made = Rig(Limits(), first_sight_s=1.5)
    made.export(RigSink("s", limit=1000, timeout_s=0.1))
    return made


def points_out(made: Rig) -> list[AnyPoint]:
    """What has left, in order."""
    made.flush()
    return made.sinks[0].any_points()


def test_names_that_need_no_wait_are_not_looked_up_again() -> None:
    made = waiting_rig()
    made.feed(write("c 1"))
    made.due(2.0)
    made.feed(write('c{a="1"} 2'), tick=2.0)
    made.engine.first_sight.family = _must_not_be_asked  # type: ignore[method-assign]
    made.feed(write('c{a="2"} 3'), tick=2.0)
    assert [point.value for point in points_out(made)] == [1.0, 2.0, 3.0]


def _must_not_be_asked(name: str, project: str) -> None:
    pytest.fail(f"asked for {name}")


def test_a_forgotten_family_waits_again() -> None:
    made = waiting_rig()
    made.feed(write("c 1"))
    made.due(2.0)
    made.feed(write('c{a="1"} 2', 'c{a="2"} 3'), tick=2.0)
    assert len(points_out(made)) == 3
    assert made.engine.first_sight.forget("", 10) == 1
    made.feed(write('c{a="3"} 4'), tick=3.0)
    assert len(points_out(made)) == 3
    made.due(5.0)
    assert len(points_out(made)) == 4


def test_a_described_name_waits_with_another_one_of_its_family() -> None:
    made = waiting_rig()
    made.feed(write('c_total{a="1"} 1', 'c_total{a="2"} 2', types={"c_total": "counter"}))
    assert len(points_out(made)) == 2
    made.feed(write("c_sum 3", 'c_total{a="3"} 4'), tick=1.0)
    assert len(points_out(made)) == 2
    made.due(3.0)
    assert [point.value for point in points_out(made)] == [1.0, 2.0, 3.0, 4.0]


def test_no_name_passes_by_what_was_known_before_a_replay() -> None:
    made = waiting_rig()
    first_sight = made.engine.first_sight
    made.feed(write('c{a="1"} 1', 'c{a="2"} 2', 'c{a="3"} 2', types={"c": "counter"}))
    assert passes(made, "c")
    gate = ReplayGate(lambda batch: 0, [], floor=0, ceiling=9)
    made.engine.begin_replay(gate)
    assert first_sight.gate is gate
    assert not passes(made, "c")
    assert first_sight.family("c", "") is None
    assert not passes(made, "c")


def test_a_new_typing_has_not_passed() -> None:
    made = waiting_rig()
    made.feed(write('c{a="1"} 1', 'c{a="2"} 2', types={"c": "counter"}))
    assert passes(made, "c")
    made.engine.types.of("").turn()
    made.engine.types.of("").turn()
    made.feed(write('c{a="3"} 3'))
    assert not passes(made, "c")
    made.feed(write('c{a="4"} 4'))
    assert passes(made, "c")
    assert len(points_out(made)) == 4


def passes(made: Rig, name: str) -> bool:
    """Return whether the next series of a name is known to need no wait."""
    typing = made.engine.types.of("").young.get(name)
    return typing is not None and typing.passed == made.engine.first_sight.passes.number
