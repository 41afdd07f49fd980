"""Three connections for requests and watches: which use gets one, which watch is preempted."""

from __future__ import annotations

import asyncio

import pytest

from relay.control.kubernetes.slots import ConnectionSlot, ConnectionSlots, Use
from tests.own_time import within


async def granted(task: asyncio.Task[ConnectionSlot]) -> bool:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task.done()


def asked(slots: ConnectionSlots, use: Use) -> asyncio.Task[ConnectionSlot]:
    return asyncio.ensure_future(slots.acquire(use))


async def test_main_watches_never_take_the_last() -> None:
    slots = ConnectionSlots(3)
    mains = [await slots.acquire(Use.MAIN_WATCH) for _ in range(3)]
    assert [one.use for one in mains] == [Use.MAIN_WATCH, Use.MAIN_WATCH, Use.SPARE_WATCH]
    request = asked(slots, Use.REQUEST)
    assert not await granted(request)
    assert [one.given_way for one in mains] == [False, False, True]
    mains[2].release()
    assert await granted(request)
    (await request).release()
    mains[0].release()
    assert (await slots.acquire(Use.MAIN_WATCH)).use is Use.MAIN_WATCH


async def test_a_spare_watch_gives_way_to_a_request_at_once() -> None:
    slots = ConnectionSlots(2)
    await slots.acquire(Use.MAIN_WATCH)
    spare = await slots.acquire(Use.SPARE_WATCH)
    ended: list[bool] = []
    spare.give_way = lambda: ended.append(True)
    requests = [asked(slots, Use.REQUEST) for _ in range(3)]
    assert not await granted(requests[0])
    assert ended == [True]
    assert spare.given_way
    again = asked(slots, Use.SPARE_WATCH)
    spare.release()
    for request in requests:  # one after the other, all before the watch
        assert await granted(request)
        assert not again.done()
        (await request).release()
    assert not await granted(again), "another request may follow"
    assert (await within(5, again)).use is Use.SPARE_WATCH


async def test_requests_in_a_row_do_not_end_a_spare_watch_each() -> None:
    slots = ConnectionSlots(2)
    await slots.acquire(Use.MAIN_WATCH)
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            slot = await slots.acquire(Use.SPARE_WATCH)
            turns += 1
            ended = asyncio.Event()
            slot.give_way = ended.set
            if not slot.given_way:
                await ended.wait()
            slot.release()

    watching = asyncio.create_task(watch())
    began = asyncio.get_running_loop().time()
    requests = 0
    while asyncio.get_running_loop().time() < began + 2.5:
        (await within(5, slots.acquire(Use.REQUEST))).release()
        requests += 1
        await asyncio.sleep(0.02)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert requests > 20, "a watch is waited for a tenth of a second at most"
    assert 2 <= turns <= 4, "one at the start, then one a second"


async def test_what_requests_keep_is_one_connection() -> None:
    slots = ConnectionSlots(3)
    (await slots.acquire(Use.REQUEST)).release()
    first, second = asked(slots, Use.SPARE_WATCH), asked(slots, Use.SPARE_WATCH)
    third = asked(slots, Use.SPARE_WATCH)
    assert await granted(second)
    assert first.done()
    assert not third.done()
    assert (await within(5, third)).use is Use.SPARE_WATCH


async def test_spare_watches_give_way_to_main_ones() -> None:
    slots = ConnectionSlots(3)
    spares = [await slots.acquire(Use.SPARE_WATCH) for _ in range(3)]
    mains = [asked(slots, Use.MAIN_WATCH) for _ in range(3)]
    assert not await granted(mains[0])
    assert [spare.given_way for spare in spares] == [True, True, False]
    spares[0].release()
    spares[1].release()
    assert await granted(mains[1])
    assert not mains[2].done()  # a spare one now
    mains[2].cancel()
    await asyncio.gather(mains[2], return_exceptions=True)


async def test_spare_watches_take_turns() -> None:
    slots = ConnectionSlots(2, turn_s=0.02)
    await slots.acquire(Use.MAIN_WATCH)
    spare = await slots.acquire(Use.SPARE_WATCH)
    spare.give_way = spare.release
    assert not spare.given_way
    other = await within(5, slots.acquire(Use.SPARE_WATCH))
    assert spare.given_way
    assert not other.given_way


async def test_nobody_gives_way_to_nobody() -> None:
    slots = ConnectionSlots(2, turn_s=0)
    spare = await slots.acquire(Use.SPARE_WATCH)
    (await slots.acquire(Use.REQUEST)).release()
    assert not spare.given_way
    assert slots.in_use == 1


@pytest.mark.parametrize("yields", [0, 1, 2])
async def test_a_cancelled_wait_keeps_nothing(yields: int) -> None:
    slots = ConnectionSlots(2)
    first, second = [await slots.acquire(Use.REQUEST) for _ in range(2)]
    waiting = asked(slots, Use.REQUEST)
    await asyncio.sleep(0)
    first.release()
    for _ in range(yields):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    if not waiting.cancelled():
        waiting.result().release()
    second.release()
    assert slots.in_use == 0
    (await slots.acquire(Use.REQUEST)).release()
