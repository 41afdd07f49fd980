"""The board beside hundreds of objects: what has not changed is not judged, but for its turn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.config.exporter.load_result import ObjectKey
from relay.control.reconcile.sink_entry import RunningExporter
from relay.control.status.board import BUSY_S, LOOK_S, ROUND_S, StatusBoard
from relay.control.status.conditions import StatusCondition
from relay.control.status.history import CARRY_S
from tests.kit.sink.running_sinks import ToldSinks, exporter, result

COUNT = 600
A_TURN = COUNT * LOOK_S / ROUND_S
"""Objects that are judged at each look, whatever happens."""


class CountingSinks(ToldSinks):
    """Counts how many objects are judged."""

    def __init__(self) -> None:
        super().__init__()
        self.judged = 0

    def running(self, exporter: str) -> RunningExporter | None:
        self.judged += 1
        return super().running(exporter)


class Many:
    """A board over sinks that rest, and its clock."""

    def __init__(self) -> None:
        self.sinks = CountingSinks()
        self.now = 1000.0
        self.board = StatusBoard(self.sinks, lambda: self.sinks.loaded, clock=lambda: self.now)
        self.results = [result(exporter(f"e{number}")) for number in range(COUNT)]
        for one in self.results:
            assert one.exporter is not None
            self.sinks.apply(one.exporter, self.now)
        self.sinks.load(*self.results)
        self.sinks.asleep = {one.key.id for one in self.results}

    async def looks(self, count: int) -> float:
        """Look so often; return how many objects were judged each time."""
        self.sinks.judged = 0
        for _ in range(count):
            self.now += LOOK_S
            await self.board.look()
        return self.sinks.judged / count

    def seed(self, key: ObjectKey, at: float) -> None:
        written = (StatusCondition("Delivering", "True", "Delivering", "", 1, at),)
        found = self.board.result(key)
        assert found is not None
        self.board.seed(key, found.uid, written, {"out": written})


@pytest.fixture
async def many() -> Many:
    made = Many()
    await made.looks(1)
    return made


async def test_nothing_happens_and_next_to_nothing_is_judged(many: Many) -> None:
    assert await many.looks(20) == A_TURN


async def test_what_is_written_stands_in_for_others_at_no_cost(many: Many) -> None:
    for key in many.board.objects():
        many.seed(key, many.now)
    assert await many.looks(1) == COUNT
    assert await many.looks(20) == A_TURN
    assert many.board.conditions()[0].conditions[3].status == "True"
    many.now += CARRY_S
    assert await many.looks(1) == COUNT
    assert many.board.conditions()[0].conditions[3].status == "Unknown"
    assert await many.looks(20) == A_TURN


async def test_an_edit_judges_what_it_edits(many: Many) -> None:
    edited = exporter("e7", generation=2)
    many.results[7] = result(edited, key=many.results[7].key, generation=2)
    many.sinks.load(*many.results)
    many.sinks.apply(edited, many.now)
    assert await many.looks(1) == A_TURN + 1
    status = many.board.status(many.results[7].key)
    assert status is not None
    assert {one.observed_generation for one in status.conditions} == {2}
    assert [key.name for key in many.board.objects()][:3] == ["e0", "e1", "e2"]


async def test_an_edit_of_what_has_its_name_taken_is_found(many: Many) -> None:
    taken = result(
        exporter("e3"), conflict=True, key=ObjectKey("files", "", "Exporter", "", "n", "e3")
    )
    many.results.append(taken)
    many.sinks.load(*many.results)
    await many.looks(1)
    moved = replace(exporter("e3"), origin="/etc/relay/moved.yaml:1")
    many.results[3] = result(moved, key=many.results[3].key)
    many.sinks.load(*many.results)
    await many.looks(1)
    status = many.board.status(taken.key)
    assert status is not None
    assert "moved.yaml" in status.conditions[0].message


async def test_counters_move_where_there_is_data_and_a_while_after(many: Many) -> None:
    assert list(many.board.busy()) == []
    many.sinks.asleep.remove("n/e5")
    await many.looks(1)
    assert list(many.board.busy()) == []
    many.sinks.workers["n/e5", "out"].deliver(many.now)
    await many.looks(1)
    many.sinks.asleep.add("n/e5")
    assert [key.name for key in many.board.busy()] == ["e5"]
    many.now += BUSY_S + 1
    assert list(many.board.busy()) == []


async def test_counters_are_settled_while_nothing_is_delivered(many: Many) -> None:
    one = many.results[7]
    assert one.exporter is not None
    mark = many.board.settled(one.key)
    assert mark is not None
    assert many.board.settled(one.key) is mark
    many.sinks.workers[one.key.id, "out"].deliver(many.now)
    many.sinks.asleep.discard(one.key.id)
    await many.looks(1)
    assert many.board.settled(one.key) is None
    many.sinks.asleep.add(one.key.id)
    many.now += BUSY_S
    assert many.board.settled(one.key) is mark
    many.sinks.apply(one.exporter, many.now)
    many.board.mark(one.key.id)
    await many.looks(1)
    assert many.board.settled(one.key) not in (None, mark)
    assert many.board.settled(ObjectKey("api", "", "Exporter", "", "n", "none")) is None
