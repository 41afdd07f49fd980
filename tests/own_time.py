"""Time of what may take no longer than a bound, on a machine that others use as well.

A bound of CPU time is one of :data:`REFERENCE_S`: where the same work takes longer, because the
machine is slower or others use its caches and the other half of a core, it is that much longer.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from relay.pipeline.pacing import Pace

_Result = TypeVar("_Result")
_SCHEDULE = Path("/proc/thread-self/schedstat")
_HAS_SCHEDULE = _SCHEDULE.exists()

HELD_S_MAX = 0.05
"""How long nothing may hold an event loop, s of CPU time."""

REFERENCE_S = 0.02
"""CPU time of the reference work on a machine that has it for itself and is slow already."""

_ATTEMPTS = 3
_TURNS = 20
_CROWDING_MAX = 5.0


def own_time() -> float:
    """Return s of a monotonic clock that stands still while others have this thread's processor.

    It goes on while the thread runs and while it waits for anything else. Where the system does
    not tell for how long a thread could run and did not, it is the monotonic clock.
    """
    now = time.monotonic()
    if not _HAS_SCHEDULE:
        return now
    _, waited_ns, _ = _SCHEDULE.read_text().split()
    return now - int(waited_ns) / 1e9


def crowding() -> float:
    """Return how many threads want each processor, of the last minute's; 1 to 5."""
    return min(max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), _CROWDING_MAX)


def patience(timeout_s: float) -> asyncio.Timeout:
    """Return a limit for a wait: longer the more threads want a processor.

    A wait ends as soon as what it is for has come, so this costs nothing where all is well.
    """
    return asyncio.timeout(timeout_s * crowding())


async def within(timeout_s: float, awaited: Awaitable[_Result]) -> _Result:
    """Return a result that comes in time, with :func:`patience`."""
    async with patience(timeout_s):
        return await awaited


async def pass_time(seconds: float) -> None:
    """Let a time pass in many turns of the loop: what was sent before has arrived then.

    A process that others hold up may come from a single sleep without a turn in between.
    """
    for _ in range(_TURNS):
        await asyncio.sleep(seconds / _TURNS)


@contextmanager
def without_collections() -> Iterator[None]:
    """Let the GC wait: a collection looks at what all tests have left, which a relay has not."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class PauseWatch(Pace):
    """Measures the longest stretch between two pauses, in s of this thread's CPU time."""

    def __init__(self) -> None:
        super().__init__()
        self.longest_s = 0.0
        self.began_s = self._last_s = time.thread_time()

    def pause(self) -> None:
        """Take the time since the last pause."""
        now_s = time.thread_time()
        self.longest_s = max(self.longest_s, now_s - self._last_s)
        self._last_s = time.thread_time()


class CountingPace(Pace):
    """Counts pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses = 0

    def pause(self) -> None:
        self.pauses += 1


class LeastTime:
    """The least CPU time of some attempts, ``s``: others may have a share of any of them."""

    def __init__(self) -> None:
        self.s = math.inf

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Measure one attempt."""
        began_s = time.process_time()
        yield
        self.s = min(self.s, time.process_time() - began_s)


def slowness() -> float:
    """Return how many times longer than :data:`REFERENCE_S` the same work takes now; at least 1."""
    began_s = time.thread_time()
    _reference_work()
    return max(1.0, (time.thread_time() - began_s) / REFERENCE_S)


def _reference_work() -> None:
    """Interpret, allocate, look up and copy memory, as what is measured does."""
    sums: dict[bytes, int] = {}
    for number in range(40_000):
        key = b"%d" % (number & 1023)
        sums[key] = sums.get(key, 0) + number
    for _ in range(8):
        bytes(bytearray(1 << 20))


def held_s(prepare: Callable[[], Callable[[Pace], object]]) -> float:
    """Return the longest stretch between two pauses of some work, in s of CPU time.

    The least of some attempts, each prepared anew and divided by :func:`slowness`: what holds the
    loop does so always.
    """
    least_s = math.inf
    for _ in range(_ATTEMPTS):
        work = prepare()
        gc.collect()
        with without_collections():
            watch = PauseWatch()
            work(watch)
            watch.pause()
        least_s = min(least_s, watch.longest_s / slowness())
        if least_s <= HELD_S_MAX:
            break
    return least_s
