"""The event loop that every command runs on."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

_Result = TypeVar("_Result")


def run_on_uvloop(main_coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine on a fresh uvloop event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main_coroutine)


SWITCH_INTERVAL_S = 0.0005
"""How long a thread with much to do may keep the loop waiting each time that the loop comes back
from a system call; Python's 5 ms add up to a tenth of a second for one request."""

_USUAL_S = sys.getswitchinterval()
_busy = 0
"""How many :func:`aside` are under way."""


async def aside(work: Callable[[], _Result]) -> _Result:
    """Do long work of Python's own in a thread that gives way to the event loop soon.

    Only while there is such work: threads that do next to nothing but wait for a disk would make
    the loop give way to *them* as often, which cost the journal 0.03 µs a sample (``python -m bench
    --workload durable``).
    """
    global _busy  # noqa: PLW0603 - the interpreter has one interval, and this is who asked for it
    if not _busy:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
    _busy += 1
    try:
        return await asyncio.to_thread(work)
    finally:
        _busy -= 1
        if not _busy:
            sys.setswitchinterval(_USUAL_S)


def give_way() -> None:
    """Let the event loop run now and then, from a thread that makes one system call after another.

    Python gives a waiting thread its turn when it has waited for the interval, and each system call
    of the other one begins that anew: looking at ten thousand files in a row held the loop up for
    70 ms, with naps for 12 ms (``python -m bench.micro.live_change``).
    """
    global _awake_since_s  # noqa: PLW0603 - any thread's nap will do
    now = time.perf_counter()
    if now - _awake_since_s >= _NAP_EVERY_S:
        time.sleep(_NAP_S)
        _awake_since_s = time.perf_counter()


_NAP_EVERY_S = 0.005
_NAP_S = 1e-5
"""The kernel makes of it what it takes to let others run, some 60 µs."""

_awake_since_s = 0.0
