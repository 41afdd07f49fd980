"""Slices of long work: one at a time, in order, whole or not at all."""

from __future__ import annotations

import asyncio
import time
import weakref
from contextlib import suppress

import pytest

from relay.control.time_slicing import DIRECT_S, DirectPace, Turns, TurnsError
from relay.pipeline.pacing import Pace
from relay.runtime.errors import DecodeError
from tests.own_time import without_collections


def busy(pace: Pace, seconds: float) -> None:
    """Work that pauses over and over."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pace.pause()


async def test_short_work_is_done_at_once() -> None:
    turns, done = Turns(), []

    def work(*, pace: Pace) -> int:
        pace.pause()
        return 7

    assert await turns.run(work, done.append) == 7
    assert done == [7]


async def test_long_work_lets_the_loop_go_on() -> None:
    turns, ticks, done = Turns(), [], []

    def work(*, pace: Pace) -> str:
        busy(pace, 0.1)
        return "done"

    async def tick() -> None:
        while not done:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await turns.run(work, done.append)
    await ticker
    assert done == ["done"]
    assert len(ticks) > 10


def test_direct_work_is_restarted_for_the_cpu_time_that_it_took_alone() -> None:
    pace = DirectPace()
    pace.pause()
    time.sleep(2 * DIRECT_S)  # a busy machine
    busy(pace, 0.7 * DIRECT_S)
    with pytest.raises(TurnsError):
        busy(pace, DIRECT_S)


async def test_results_are_handed_on_in_the_order_of_the_calls() -> None:
    turns, done = Turns(), []

    async def one(name: int, seconds: float) -> None:
        def work(*, pace: Pace) -> int:
            busy(pace, seconds)
            return name

        await turns.run(work, done.append)

    await asyncio.gather(one(1, 0.05), one(2, 0.0), one(3, 2 * DIRECT_S), one(4, 0.0))
    assert done == [1, 2, 3, 4]
    assert not turns.entered


async def test_an_error_comes_out_of_the_slices() -> None:
    turns = Turns()

    def work(*, pace: Pace) -> None:
        busy(pace, 3 * DIRECT_S)
        raise DecodeError("bad", offset=3)

    with pytest.raises(DecodeError, match="bad"):
        await turns.run(work, lambda _: None)
    assert not turns.entered


class Outcome(Exception):  # noqa: N818 - a result as well
    """What work ends with; it refers to the pace, as a request's transaction does."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self.pace = pace


@pytest.mark.parametrize("fails", [False, True])
async def test_what_sliced_work_ends_with_is_freed_without_a_collection(fails: bool) -> None:
    ended: list[weakref.ref[Outcome]] = []

    def outcome(pace: Pace) -> Outcome:
        made = Outcome(pace)
        ended.append(weakref.ref(made))
        return made

    def work(*, pace: Pace) -> Outcome:
        if fails:
            raise outcome(pace)
        return outcome(pace)

    with without_collections():
        with suppress(Outcome):
            await Turns().run(work, lambda _: None, repeatable=False)
        (one,) = ended
        assert one() is None


@pytest.mark.parametrize("final", [False, True])
async def test_cancelled_work_is_taken_back_or_finished(final: bool) -> None:
    turns, done, ended = Turns(), [], []

    def work(*, pace: Pace) -> str:
        pace.final = final
        try:
            busy(pace, 0.2)
        finally:
            ended.append(True)
        return "done"

    task = asyncio.create_task(turns.run(work, done.append, repeatable=False))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == (["done"] if final else [])
    assert ended == [True]
    assert not turns.entered


async def test_what_needs_the_engine_between_requests_waits() -> None:
    turns, story = Turns(), []

    def work(*, pace: Pace) -> str:
        story.append("begin")
        busy(pace, 0.05)
        story.append("end")
        return ""

    running = asyncio.create_task(turns.run(work, lambda _: None, repeatable=False))
    await asyncio.sleep(0)
    assert turns.entered
    turns.soon(lambda: story.append("soon"))
    await turns.settled()
    story.append("settled")
    await running
    for _ in range(3):
        await asyncio.sleep(0)
    assert story[:2] == ["begin", "end"]
    assert set(story[2:]) == {"soon", "settled"}


async def test_nothing_that_was_put_off_is_done_once_closed() -> None:
    turns, story = Turns(), []

    def work(*, pace: Pace) -> str:
        busy(pace, 0.02)
        return ""

    running = asyncio.create_task(turns.run(work, lambda _: None, repeatable=False))
    await asyncio.sleep(0)
    turns.soon(lambda: story.append("soon"))
    turns.close()
    await running
    await turns.settled()
    assert not story
