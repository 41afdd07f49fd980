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
    GIVEN_WAY,
    SWITCH_INTERVAL_S,
    WORK_S,
    WorkSlice,
    give_way,
    run_in_thread,
    yield_to_loop,
)
from tests.own_time import own_time, within


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
    assert all(1 <= turns <= 4 for turns in waited), waited


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
        before = own_time()
        yield_to_loop()
        return own_time() - before

    assert await run_in_thread(work) < 0.5


async def test_a_slice_of_work_gives_the_loop_a_turn_and_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    clock = SimpleNamespace(monotonic=lambda: now, thread_time=lambda: 0.0)
    monkeypatch.setattr(event_loop, "time", clock)
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


class _Requests:
    """A loop that is busy with requests: each takes 1 ms of a clock of the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = self.cpu_s = 0.0
        self.served = 0
        clock = SimpleNamespace(monotonic=lambda: self.now_s, thread_time=lambda: self.cpu_s)
        monkeypatch.setattr(event_loop, "time", clock)
        monkeypatch.setattr(event_loop, "_LOOK_S", 0.0)

    async def come(self, count: int, *, turns: int = 1) -> None:
        """Serve as many; each suspends so often before its work."""
        for _ in range(count):
            for _ in range(turns):
                await asyncio.sleep(0)
            self.now_s += 0.001
            self.cpu_s += 0.001
            self.served += 1


async def test_who_gives_way_on_an_idle_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = _Requests(monkeypatch)
    await within(10, give_way())
    assert requests.now_s == 0.0


@pytest.mark.parametrize("turns", [1, 2])
async def test_who_gives_way_waits_for_what_has_begun(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    requests = _Requests(monkeypatch)
    coming = asyncio.ensure_future(requests.come(4, turns=turns))
    await give_way()
    assert requests.served == 4
    await coming


@pytest.mark.parametrize("worked_s", [WORK_S, 0.004])
async def test_who_gives_way_has_a_part_of_a_loop_that_is_never_idle(
    monkeypatch: pytest.MonkeyPatch, worked_s: float
) -> None:
    requests = _Requests(monkeypatch)
    coming = asyncio.ensure_future(requests.come(1_000_000))
    for _ in range(5):
        before_s = requests.now_s
        await give_way(worked_s)
        # One request may have begun before it was over.
        assert 0 <= requests.now_s - before_s - GIVEN_WAY * worked_s <= 0.0021
    coming.cancel()


async def test_a_loop_that_waits_for_a_processor_is_not_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = _Requests(monkeypatch)

    async def others() -> None:
        await asyncio.sleep(0)
        requests.now_s += 0.004

    waiting = asyncio.ensure_future(others())
    await give_way()
    assert requests.now_s == pytest.approx(0.004)
    await waiting


async def test_work_aside_waits_for_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = _Requests(monkeypatch)
    coming = threading.Event()
    event_loop.time.perf_counter = lambda: requests.now_s  # type: ignore[attr-defined]

    def work() -> int:
        assert coming.wait(10)
        requests.now_s += WORK_S
        yield_to_loop()
        return requests.served

    working = asyncio.ensure_future(run_in_thread(work))
    await asyncio.sleep(0)
    served = asyncio.ensure_future(requests.come(6))
    coming.set()
    assert await working == 6
    await served
