"""Wake-ups of shards: set, remembered, timed, cancelled. Their tasks: made, ended, replaced."""

from __future__ import annotations

import asyncio

import pytest

from relay.sink.wakeup import ShardTasks, WakeupEvent
from tests.own_time import within


async def test_ringing_wakes_and_is_remembered_until_hushed() -> None:
    wakeup = WakeupEvent()
    waiting = asyncio.create_task(wakeup.wait(None))
    await asyncio.sleep(0)
    assert not waiting.done()
    wakeup.set()
    wakeup.set()
    await within(1, waiting)
    await within(1, wakeup.wait(None))
    wakeup.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wakeup.wait(None), 0.01)


async def test_time_passes() -> None:
    wakeup = WakeupEvent()
    began = asyncio.get_running_loop().time()
    await within(1, wakeup.wait(0.02))
    assert asyncio.get_running_loop().time() - began >= 0.015


async def test_a_cancelled_wait_leaves_no_timer_and_can_be_repeated() -> None:
    wakeup = WakeupEvent()
    waiting = asyncio.create_task(wakeup.wait(0.01))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0.03)
    again = asyncio.create_task(wakeup.wait(None))
    await asyncio.sleep(0)
    assert not again.done(), "the first one's timer must not ring"
    wakeup.set()
    await within(1, again)


class Work:
    """What the tasks of two shards do: wait, as often as they are woken, until told to rest."""

    def __init__(self) -> None:
        self.tasks = ShardTasks()
        self.begun: list[tuple[int, int]] = []
        self.turns = 0
        self.rests = False
        self.cancelled = 0

    def wake(self, shard: int) -> None:
        """Wake a shard."""
        self.tasks.wake(shard, self._serve, "work")

    async def _serve(self, shard: int, generation: int, wakeup: WakeupEvent) -> None:
        await self.tasks.earlier_ended(generation)
        self.begun.append((shard, generation))
        try:
            while generation == self.tasks.generation and not self.rests:
                self.turns += 1
                wakeup.clear()
                await wakeup.wait(None)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.tasks.rest(shard, generation)


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_shard_has_a_task_from_when_it_is_woken_until_it_rests() -> None:
    work = Work()
    work.wake(1)
    work.tasks.begin(2)
    await settle()
    assert not len(work.tasks), "none is made before there is anything to do"
    work.wake(1)
    await settle()
    work.wake(1)
    await settle()
    assert (work.begun, work.turns, len(work.tasks)) == ([(1, 1)], 2, 1)
    work.rests = True
    work.wake(1)
    await settle()
    assert not len(work.tasks)
    work.rests = False
    work.wake(1)
    await settle()
    assert work.begun == [(1, 1), (1, 1)]
    await work.tasks.stop()
    assert (work.cancelled, len(work.tasks)) == (1, 0)
    work.wake(1)
    assert not len(work.tasks), "it is stopped"


async def test_tasks_begin_once_those_of_the_last_configuration_have_ended() -> None:
    work = Work()
    work.tasks.begin(1)
    work.wake(0)
    await settle()
    ending = asyncio.Event()

    async def slow(shard: int, generation: int, wakeup: WakeupEvent) -> None:
        await wakeup.wait(None)
        await ending.wait()

    await work.tasks.stop()
    work.tasks.begin(1)
    work.tasks.wake(0, slow, "slow")
    await settle()
    work.tasks.begin(2)
    work.wake(1)
    await settle()
    assert work.begun == [(0, 1)]
    ending.set()
    await settle()
    assert work.begun == [(0, 1), (1, 3)]
    await work.tasks.stop()


async def test_a_task_that_was_replaced_before_it_ran_does_not_wait_for_itself() -> None:
    work = Work()
    work.tasks.begin(1)
    work.wake(0)
    work.tasks.begin(1)
    work.wake(0)
    await within(1, settle())
    await settle()
    assert work.begun == [(0, 1), (0, 2)]
    assert len(work.tasks) == 1
    await work.tasks.stop()
