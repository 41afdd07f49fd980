"""A lane's bell: set, remembered, timed, cancelled."""

from __future__ import annotations

import asyncio

import pytest

from relay.sink.wakeup import WakeupEvent


async def test_ringing_wakes_and_is_remembered_until_hushed() -> None:
    wakeup = WakeupEvent()
    waiting = asyncio.create_task(wakeup.wait(None))
    await asyncio.sleep(0)
    assert not waiting.done()
    wakeup.set()
    wakeup.set()
    await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(wakeup.wait(None), 1)
    wakeup.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wakeup.wait(None), 0.01)


async def test_time_passes() -> None:
    wakeup = WakeupEvent()
    began = asyncio.get_running_loop().time()
    await asyncio.wait_for(wakeup.wait(0.02), 1)
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
    await asyncio.wait_for(again, 1)
