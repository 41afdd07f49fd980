"""Any course of loading, running and delivering: a transition is a change of status, and no other.

The board judges only what may have changed; a second board that judges everything each time has to
show the same.
"""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from relay.config.exporter.load_result import ObjectResult
from relay.control.status.board import LOOK_S, StatusBoard
from relay.control.status.conditions import TYPES, StatusCondition
from relay.runtime.errors import Fault
from tests.kit.examples import examples
from tests.kit.sink.running_sinks import ToldSinks, exporter, result, sink

NAMES = ("a", "b")
STEPS = st.one_of(
    st.tuples(st.just("edit"), st.sampled_from(NAMES)),
    st.tuples(st.just("break"), st.sampled_from(NAMES)),
    st.tuples(st.just("apply"), st.sampled_from(NAMES)),
    st.tuples(st.just("pause"), st.sampled_from(NAMES)),
    st.tuples(st.just("match"), st.sampled_from(NAMES)),
    st.tuples(st.just("deliver"), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["retried", "rejected", "partial"]), st.sampled_from(NAMES)),
    st.tuples(st.just("sleep"), st.sampled_from(NAMES)),
    st.tuples(st.just("wait"), st.integers(1, 40)),
)


class Course:
    """Objects, what runs of them, and one board over both."""

    def __init__(self) -> None:
        self.sinks = ToldSinks()
        self.now = 1000.0
        self.good = {name: exporter(name) for name in NAMES}
        self.results: dict[str, ObjectResult] = {
            name: result(one) for name, one in self.good.items()
        }
        self.load()
        self.board = self.new_board()

    def new_board(self) -> StatusBoard:
        return StatusBoard(self.sinks, lambda: self.sinks.loaded, clock=lambda: self.now)

    def load(self) -> None:
        self.sinks.load(*self.results.values())

    def step(self, does: str, value: object) -> None:
        if does == "wait":
            return
        name = str(value)
        worker = self.sinks.workers.get((f"n/{name}", "out"))
        generation = self.results[name].generation
        if does in ("edit", "pause"):
            paused = does == "pause"
            self.good[name] = exporter(name, sink(paused=paused), generation=generation + 1)
            self.results[name] = result(self.good[name])
        elif does == "break":
            fault = Fault("spec", "is bad")
            self.results[name] = result(name, faults=(fault,), generation=generation + 1)
        elif does == "apply" and self.results[name].exporter is not None:
            self.sinks.apply(self.good[name], self.now)
        elif worker is not None:
            if does == "sleep":
                self.sinks.asleep ^= {worker.exporter_id}
                return
            self.sinks.asleep.discard(worker.exporter_id)  # a sink with data is awake
            if does == "match":
                worker.matched += 1
                worker.waiting += 1
            elif does == "deliver" and worker.matched:
                worker.waiting = 0
                worker.outcomes.succeeded(self.now)
            elif does == "retried" and worker.waiting:
                worker.outcomes.failed("503", self.now)
            elif worker.waiting:
                worker.outcomes.rejected("400", self.now, in_part=does == "partial")
        self.load()


def shown(board: StatusBoard) -> dict[tuple[str, str], tuple[StatusCondition, ...]]:
    """Return the conditions of every object and sink."""
    found = {}
    for key in board.objects():
        status = board.status(key)
        assert status is not None
        found[key.name, ""] = status.conditions
        for one in status.sinks:
            found[key.name, one.name] = one.conditions
    return found


@given(st.lists(STEPS, max_size=20))
@examples(150)
def test_a_transition_is_a_change_of_status(course: list[tuple[str, object]]) -> None:
    async def run() -> None:
        bench = Course()
        before: dict[tuple[str, str], tuple[StatusCondition, ...]] = {}
        for does, value in course:
            bench.step(does, value)
            for _ in range(int(value) if isinstance(value, int) else 1):
                bench.now += LOOK_S
                changed = {key.name for key in await bench.board.look()}
                now = shown(bench.board)
                for owner, conditions in now.items():
                    assert [one.type for one in conditions] == list(TYPES)
                    known = {one.type: one for one in before.get(owner, ())}
                    for one in conditions:
                        old = known.get(one.type)
                        moved = old is None or old.status != one.status
                        assert one.since == (bench.now if moved else old.since)  # type: ignore[union-attr]
                differs = {
                    owner[0]
                    for owner in now.keys() | before.keys()
                    if now.get(owner) != before.get(owner)
                }
                assert changed == differs
                before = now

    asyncio.run(run())


@given(st.lists(STEPS, max_size=20))
@examples(100)
def test_a_board_that_begins_now_shows_the_same(course: list[tuple[str, object]]) -> None:
    async def run() -> None:
        bench = Course()
        for does, value in course:
            bench.step(does, value)
            bench.sinks.asleep.clear()
            for _ in range(int(value) if isinstance(value, int) else 1):
                bench.now += LOOK_S
                await bench.board.look()
        other = bench.new_board()
        await bench.board.look()
        await other.look()
        plain = [
            {
                owner: [(one.type, one.status, one.reason, one.message) for one in conditions]
                for owner, conditions in shown(each).items()
            }
            for each in (bench.board, other)
        ]
        assert plain[0] == plain[1]

    asyncio.run(run())


@given(st.lists(STEPS, max_size=20))
@examples(100)
def test_a_restart_shows_nothing_new(course: list[tuple[str, object]]) -> None:
    """Of what runs as it ran before: no status and no time of a transition moves."""

    async def run() -> None:
        bench = Course()
        for does, value in course:
            bench.step(does, value)
            bench.now += int(value) if isinstance(value, int) else LOOK_S
            await bench.board.look()
        for name in NAMES:
            if bench.results[name].exporter is not None:
                bench.sinks.runs.pop(f"n/{name}", None)
                bench.step("apply", name)
        bench.now += LOOK_S
        await bench.board.look()
        before = shown(bench.board)

        again = Course()
        again.now, again.good, again.results = bench.now + 10, bench.good, bench.results
        again.load()
        for name in NAMES:
            again.step("apply", name)
        await again.board.look()
        for key in list(again.board.objects()):
            written = before[key.name, ""]
            sinks = {sink: one for (name, sink), one in before.items() if name == key.name and sink}
            again.board.seed(key, f"uid-{key.name}", written, sinks)
        for _ in range(3):
            again.now += LOOK_S
            await again.board.look()
        for (name, owner), conditions in shown(again.board).items():
            if bench.results[name].exporter is not None:
                assert [(one.type, one.status, one.since) for one in conditions] == [
                    (one.type, one.status, one.since) for one in before[name, owner]
                ]

    asyncio.run(run())
