"""The clock of tests that say how long something may take."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from relay.pipeline.pacing import Pace
from tests import own_time as own_time_module
from tests.kit.paths import ROOT
from tests.own_time import REFERENCE_S, held_s, own_time, pass_time, patience, slowness, within

TAKEN_S = 0.05


def test_it_goes_on_while_nothing_is_done() -> None:
    began = own_time()
    time.sleep(0.1)
    assert own_time() - began >= 0.09


def test_where_the_system_does_not_tell_it_is_the_monotonic_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_time_module, "_HAS_SCHEDULE", False)
    before = time.monotonic()
    assert before <= own_time() <= time.monotonic()


def test_it_stands_still_while_others_have_the_processor() -> None:
    assert own_time_module._HAS_SCHEDULE, "the system does not tell how long threads wait"
    before = os.sched_getaffinity(0)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            for process in (0, other.pid):
                os.sched_setaffinity(process, {min(before)})
            began, own_began = time.monotonic(), own_time()
            taken_s = 0.0
            while taken_s < TAKEN_S:  # ends as soon as the other one has had that much of it
                taken_s = (time.monotonic() - began) - (own_time() - own_began)
        finally:
            os.sched_setaffinity(0, before)
            other.kill()


def test_held_is_the_longest_stretch_of_the_best_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    stretches = iter([[0.09], [0.01, 0.06, 0.02], [0.2]])

    def prepare() -> Callable[[Pace], None]:
        mine = next(stretches)

        def work(pace: Pace) -> None:
            for stretch_s in mine:
                clock.now_s += stretch_s
                pace.pause()

        return work

    assert held_s(prepare) == pytest.approx(0.06)
    assert not list(stretches), "an attempt within the bound would have been the last"


def test_a_bound_grows_with_what_the_same_work_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert slowness() == 1.0, "a fast machine has the bounds as they are"
    clock.reference_s = 3 * REFERENCE_S
    assert slowness() == pytest.approx(3.0)

    def prepare() -> Callable[[Pace], None]:
        return lambda _: clock.advance(0.12)

    assert held_s(prepare) == pytest.approx(0.04)


class Clock:
    """A thread's CPU time that goes on when told, and while the reference work is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.reference_s = 0.0
        fake = SimpleNamespace(thread_time=lambda: self.now_s, monotonic=time.monotonic)
        monkeypatch.setattr(own_time_module, "time", fake)
        work = "_reference_work"
        monkeypatch.setattr(own_time_module, work, lambda: self.advance(self.reference_s))

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


async def test_patience_grows_with_what_wants_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for load, times in ((0.5, 1.0), (8.0, 4.0), (99.0, 5.0)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        began = asyncio.get_running_loop().time()
        async with patience(100.0) as limit:
            assert limit.when() == pytest.approx(began + 100.0 * times, abs=1.0)


async def test_a_wait_has_a_result_or_an_end() -> None:
    assert await within(5, asyncio.sleep(0, "come")) == "come"
    with pytest.raises(TimeoutError):
        await within(0.01, asyncio.Event().wait())


async def test_time_passes_in_many_turns() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    began = time.monotonic()
    await pass_time(0.02)
    assert time.monotonic() - began >= 0.02
    assert turns >= 20
    counting.cancel()


def test_every_wait_of_tests_is_patient() -> None:
    """A wait for what comes fails on a slow machine; one with a bound on purpose says which."""
    impatient = re.compile(r"asyncio\.(timeout\([1-9]|wait_for\(.*, [1-9]\d*\)).*")
    files = sorted(set((ROOT / "tests").rglob("*.py")) - {Path(__file__)})
    found = {one[0] for path in files for one in impatient.finditer(path.read_text())}
    assert {one for one in found if "#" not in one} == set()
