"""The event loop that every command runs on."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
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
"""How many :func:`run_in_thread` are under way."""


async def run_in_thread(work: Callable[[], _Result]) -> _Result:
    """Do long work of Python's own in a thread that gives way to the event loop soon; more so
    where the work says when it may (:func:`yield_to_loop`).

    Only while there is such work: threads that do next to nothing but wait for a disk would make
    the loop give way to *them* as often, which cost the journal 0.03 µs a sample (``python -m bench
    --workload durable``).
    """
    global _busy  # noqa: PLW0603 - the interpreter has one interval, and this is who asked for it
    if not _busy:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
    _busy += 1
    guest = _ThreadJob(asyncio.get_running_loop())

    def begin() -> _Result:
        _guest.set(guest)  # for this work alone: the loop must never wait for itself
        return work()

    try:
        return await asyncio.to_thread(begin)
    finally:
        _busy -= 1
        if not _busy:
            sys.setswitchinterval(_USUAL_S)


WORK_S = 0.002
"""How long work aside goes on before the loop has a turn."""
_TURN_MAX_S = 1.0
"""A loop that is stopped has none."""


class _ThreadJob:
    """Work that goes on beside a loop."""

    __slots__ = ("loop", "since_s")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.since_s = time.perf_counter()


_guest: ContextVar[_ThreadJob | None] = ContextVar("_guest", default=None)


def yield_to_loop() -> None:
    """Where work aside may pause: let the event loop have a turn, if it is time.

    Without it the thread takes half of what a busy loop needs, because the loop has to ask for its
    place each time that it comes back from a system call. And where the thread makes one system
    call after the other, the loop asks in vain: Python gives a waiting thread its place when it has
    waited for the interval, and each call of the other begins that anew. Looking at ten thousand
    files held the loop up for 70 ms (``python -m bench.micro.live_change``).
    """
    guest = _guest.get()
    if guest is None or time.perf_counter() - guest.since_s < WORK_S:
        return
    turn = threading.Event()
    try:
        guest.loop.call_soon_threadsafe(turn.set)
    except RuntimeError:
        return  # it is closed
    turn.wait(_TURN_MAX_S)
    guest.since_s = time.perf_counter()
