"""Turns of the event loop: beside threads, and between parts of long work on the loop itself."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from relay.runtime import event_loop
from relay.runtime.event_loop import (
    SWITCH_INTERVAL_S,
    WORK_S,
    WorkSlice,
    run_in_thread,
    yield_to_loop,
)


async def test_threads_give_way_sooner_while_there_is_long_work() -> None:
    usual_s = sys.getswitchinterval()
    assert usual_s > SWITCH_INTERVAL_S
    go_on = [threading.Event(), threading.Event()]
    works = [asyncio.ensure_future(run_in_thread(event.wait)) for event in go_on]
    await asyncio.sleep(0)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    go_on[0].set()
    assert await works[0]
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S), "one is still busy"
    go_on[1].set()
    assert await works[1]
    assert sys.getswitchinterval() == pytest.approx(usual_s)


async def test_what_fails_leaves_no_trace() -> None:
    usual_s = sys.getswitchinterval()
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 // 0)
    assert sys.getswitchinterval() == pytest.approx(usual_s)


async def test_work_aside_lets_the_loop_have_a_turn() -> None:
    rounds, waited = 0, []

    def work() -> None:
        for _ in range(4):
            time.sleep(2 * event_loop.WORK_S)
            before = rounds
            yield_to_loop()
            waited.append(rounds - before)
        yield_to_loop()  # no time has gone by

    task = asyncio.ensure_future(run_in_thread(work))
    while not task.done():
        # A turn that is longer than what a thread would wait for by itself.
        until = time.perf_counter() + 0.01
        while time.perf_counter() < until:
            pass
        rounds += 1
        await asyncio.sleep(0)
    await task
    assert all(1 <= turns <= 3 for turns in waited), waited


async def test_work_that_is_short_does_not_wait() -> None:
    loop_time = asyncio.get_running_loop()
    calls: list[object] = []

    class Watched(asyncio.AbstractEventLoop):
        """Only ever asked for this."""

        def call_soon_threadsafe(self, callback: object, *_args: object, **_kwargs: object) -> Any:
            calls.append(callback)

    def work() -> None:
        job = event_loop._current_job.get()
        assert job is not None
        assert job.loop is loop_time
        job.loop = Watched()
        for _ in range(100):
            job.since_s = time.perf_counter()
            yield_to_loop()

    await run_in_thread(work)
    assert not calls


def test_nobody_to_give_way_to() -> None:
    started = time.process_time()
    for _ in range(10_000):
        yield_to_loop()
    assert time.process_time() - started < 1


async def test_the_loop_never_waits_for_itself() -> None:
    await run_in_thread(yield_to_loop)
    assert event_loop._current_job.get() is None


async def test_a_loop_that_is_closed_is_not_waited_for() -> None:
    closed = asyncio.new_event_loop()
    closed.close()

    def work() -> float:
        job = event_loop._current_job.get()
        assert job is not None
        job.loop = closed
        job.since_s -= 1.0
        before = time.perf_counter()
        yield_to_loop()
        return time.perf_counter() - before

    assert await run_in_thread(work) < 0.5


async def test_a_slice_of_work_gives_the_loop_a_turn_and_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(event_loop, "time", SimpleNamespace(monotonic=lambda: now))
    part, turns = WorkSlice(), list[str]()
    assert not part.is_over
    now += WORK_S
    assert part.is_over
    asyncio.get_running_loop().call_soon(turns.append, "another's")
    await part.rest()
    assert turns == ["another's"]
    assert not part.is_over
    now += WORK_S / 2
    part.begin()
    now += WORK_S / 2
    assert not part.is_over
