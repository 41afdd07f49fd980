"""Connections of a control plane under any order of asking, releasing and cancelling."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from relay.control.kubernetes.slots import ConnectionSlot, ConnectionSlots, Use
from tests.kit.examples import examples

ACTIONS = st.lists(
    st.tuples(st.sampled_from([*Use, "release", "cancel", "rest"]), st.integers(0, 9)),
    max_size=40,
)


async def live(connections_max: int, linger_s: float, actions: list[tuple[object, int]]) -> None:
    slots = ConnectionSlots(connections_max, turn_s=0, linger_s=linger_s)
    asked: list[asyncio.Task[ConnectionSlot]] = []
    held: list[ConnectionSlot] = []

    async def rest() -> None:
        for _ in range(4):
            await asyncio.sleep(0)
        for task in [one for one in asked if one.done()]:
            asked.remove(task)
            if not task.cancelled():
                held.append(task.result())

    for action, number in actions:
        if isinstance(action, Use):
            asked.append(asyncio.ensure_future(slots.acquire(action)))
        elif action == "release" and held:
            held.pop(number % len(held)).release()
        elif action == "cancel" and asked:
            asked[number % len(asked)].cancel()
        elif action == "rest":
            await rest()
        assert slots.in_use <= connections_max
    await rest()
    mains = sum(one.use is Use.MAIN_WATCH for one in held)
    assert mains < connections_max
    # If preempted watches and requests end, each use gets a connection in the end.
    for _ in range(1000):
        if not asked:
            break
        for one in [one for one in held if one.given_way or one.use is Use.REQUEST]:
            held.remove(one)
            one.release()
        await rest()
        await asyncio.sleep(linger_s / 4)
    assert not asked
    for one in held:
        one.release()
    assert slots.in_use == 0


@given(st.integers(2, 4), st.sampled_from([0.0, 0.002]), ACTIONS)
@examples(200)
def test_everything_is_served(
    connections_max: int, linger_s: float, actions: list[tuple[object, int]]
) -> None:
    asyncio.run(live(connections_max, linger_s, actions))
