"""How soon threads give way to the event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import pytest

from relay import loop
from relay.loop import SWITCH_INTERVAL_S, aside, give_way


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


def test_a_thread_with_many_calls_naps_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, naps = 100.0, 0

    def nap(seconds: float) -> None:
        nonlocal naps, now_s
        assert 0 < seconds < 0.001
        naps += 1
        now_s += 0.002

    monkeypatch.setattr(time, "perf_counter", lambda: now_s)
    monkeypatch.setattr(time, "sleep", nap)
    monkeypatch.setattr(loop, "_awake_since_s", now_s)
    for _ in range(1_000):
        now_s += 0.00001
        give_way()
    assert naps in {1, 2}, "10 ms of work"
    now_s += 1.0
    give_way()
    give_way()
    assert naps in {2, 3}, "one nap is enough until there was work again"
