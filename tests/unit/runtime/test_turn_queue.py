"""Turns of the event loop for work that comes at once."""

from __future__ import annotations

import asyncio

from relay.runtime.turn_queue import BACKGROUND_EACH, TurnQueue
from tests.own_time import patience


async def test_each_piece_has_a_turn_of_its_own_in_order() -> None:
    queue = TurnQueue()
    done: list[object] = []

    async def work(number: int) -> None:
        await queue.turn()
        done.append(number)

    async def others() -> None:
        while len(done) < 20:
            done.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(10)), others())
    assert [one for one in done if one != "other"] == list(range(10))
    for number in range(1, 9):  # something else ran between any two that waited
        place = done.index(number)
        assert "other" in done[place + 1 : done.index(number + 1)]


async def test_a_flood_of_one_owner_costs_another_one_turn() -> None:
    queue = TurnQueue()
    await queue.turn()
    done: list[str] = []

    async def work(owner: str, name: str) -> None:
        await queue.turn(owner)
        done.append(name)

    flood = [work("loud", f"loud {number}") for number in range(20)]
    await asyncio.gather(*flood, work("quiet", "quiet 0"), work("quiet", "quiet 1"), work("", "x"))
    assert done[:6] == ["loud 0", "loud 1", "quiet 0", "x", "loud 2", "quiet 1"]
    assert done[6:] == [f"loud {number}" for number in range(3, 20)]


async def test_work_alone_does_not_wait() -> None:
    queue = TurnQueue()
    for _ in range(3):
        waiting = queue.turn()
        try:
            waiting.send(None)  # it ends at once
        except StopIteration:
            pass
        else:
            raise AssertionError("it waits")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert repr(queue) == "<TurnQueue: 0 wait, 0 in the background>"


async def test_work_that_is_cancelled_costs_the_others_nothing() -> None:
    queue = TurnQueue()
    await queue.turn()
    tasks = [asyncio.ensure_future(queue.turn()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    async with patience(5):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [False, True, False]
    async with patience(5):
        await queue.turn()


async def test_work_in_the_background_has_few_turns_while_others_wait() -> None:
    queue = TurnQueue()
    done: list[str] = []

    async def work(name: str, *, in_background: bool) -> None:
        await queue.turn(in_background=in_background)
        done.append(name)

    await queue.turn()
    await asyncio.gather(
        *(work("back", in_background=True) for _ in range(10)),
        *(work("front", in_background=False) for _ in range(12)),
    )
    last = len(done) - 1 - done[::-1].index("front")
    assert 2 <= done[:last].count("back") <= last // BACKGROUND_EACH + 1
    assert done.count("back") == 10
