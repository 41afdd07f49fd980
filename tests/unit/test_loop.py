"""How soon threads give way to the event loop."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from relay.loop import SWITCH_INTERVAL_S, aside


async def test_threads_give_way_sooner_while_there_is_long_work() -> None:
    usual_s = sys.getswitchinterval()
    assert usual_s > SWITCH_INTERVAL_S
    go_on = [threading.Event(), threading.Event()]
    works = [asyncio.ensure_future(aside(event.wait)) for event in go_on]
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
        await aside(lambda: 1 // 0)
    assert sys.getswitchinterval() == pytest.approx(usual_s)
