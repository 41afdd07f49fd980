"""Run the event loop, and long work in threads beside it."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

import uvloop

_Result = TypeVar("_Result")


def run_on_uvloop(main_coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine on a fresh uvloop event loop and return its result."""
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        return runner.run(main_coroutine)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    loop = uvloop.new_event_loop()
    loop.set_exception_handler(_on_error)
    return loop


def _on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report an error that no task has; none where a TLS connection is closed while it reads.

    uvloop calls that fatal, with a traceback, although the closing side wants just this.
    """
    transport, why = context.get("transport"), context.get("exception")
    # A transport that its peer has ended, too, no longer says that it is closing.
    is_closed = transport is not None and (
        transport.is_closing() or str(why).endswith("the handler is closed")
    )
    if is_closed and str(context.get("message")).startswith("Fatal error on SSL protocol"):
        logging.getLogger("asyncio").debug("a TLS connection was closed while it read: %s", why)
        return
    loop.default_exception_handler(context)


SWITCH_INTERVAL_S = 0.0005
"""Interpreter switch interval while :func:`run_in_thread` is active; s. It bounds how long a busy
thread keeps the event loop waiting for the GIL each time the loop returns from a system call."""

_USUAL_S = sys.getswitchinterval()
_busy = 0
"""Number of active :func:`run_in_thread` calls."""


async def run_in_thread(work: Callable[[], _Result]) -> _Result:
    """Run CPU-bound Python work in a thread that yields the GIL to the event loop often.

    The switch interval is shortened only while such work is active, because a short interval also
    makes the loop yield to threads that merely wait for a disk. Long work should call
    :func:`yield_to_loop` from time to time.
    """
    global _busy  # noqa: PLW0603 - the switch interval is global to the interpreter
    if not _busy:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
    _busy += 1
    job = _ThreadJob(asyncio.get_running_loop())

    def begin() -> _Result:
        _current_job.set(
            job
        )  # context-local: on the loop's own thread yield_to_loop() must do nothing
        return work()

    try:
        return await asyncio.to_thread(begin)
    finally:
        _busy -= 1
        if not _busy:
            sys.setswitchinterval(_USUAL_S)


WORK_S = 0.002
"""Longest slice of background work, on the loop or in a thread; s."""
GIVEN_WAY = 4
"""Longest pause after a slice, as a multiple of it: a fifth of a busy loop is background work."""
_LOOK_S = 0.001
"""Time between two looks at a loop that is busy; s."""
_TURNS = 3
"""Turns without other work that show an idle loop: a request needs as many from its bytes to its
answer, and begins after the one that reads them."""
_IDLE_CPU_S = 0.0003
"""CPU time of turns that count as idle, at most; s. They take a tenth of it, a small request half,
but requests that have gathered while work ran take more."""


async def give_way(worked_s: float = WORK_S) -> None:
    """Return once the event loop has nothing else to do, at most ``GIVEN_WAY * worked_s`` later.

    CPU time tells: a loop that waits for a processor is not busy.
    """
    until = time.monotonic() + GIVEN_WAY * worked_s
    while True:
        before = time.thread_time()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if time.monotonic() >= until:
                return
        if time.thread_time() - before < _IDLE_CPU_S:
            return
        await asyncio.sleep(_LOOK_S)


class WorkSlice:
    """Time of long work on the event loop itself, in slices of at most :data:`WORK_S`."""

    __slots__ = ("_end_s",)

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._end_s = time.monotonic() + WORK_S

    @property
    def is_over(self) -> bool:
        """True if the event loop is to have a turn."""
        return time.monotonic() >= self._end_s

    async def rest(self) -> None:
        """Give way, then count from now on."""
        await give_way()
        self.begin()


_TURN_MAX_S = 1.0
"""Longest wait for the event loop's turn, in case the loop has stopped; s."""


class _ThreadJob:
    """State of one :func:`run_in_thread` call: its loop and the time of the last turn."""

    __slots__ = ("_giving_way", "loop", "since_s")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.since_s = time.perf_counter()
        self._giving_way: asyncio.Task[None] | None = None

    def give_way(self, over: threading.Event) -> None:
        """Begin to give way, on the loop; ``over`` is set at the end."""
        self._giving_way = asyncio.ensure_future(give_way())
        self._giving_way.add_done_callback(lambda _: over.set())


_current_job: ContextVar[_ThreadJob | None] = ContextVar("_current_job", default=None)


def yield_to_loop() -> None:
    """Give way to the event loop if this thread has worked for :data:`WORK_S`.

    The switch interval alone is not enough: a thread that makes many short system calls restarts
    the interval with each of them, and the loop never gets its turn. Outside :func:`run_in_thread`
    it does nothing.
    """
    job = _current_job.get()
    if job is None or time.perf_counter() - job.since_s < WORK_S:
        return
    turn = threading.Event()
    try:
        job.loop.call_soon_threadsafe(job.give_way, turn)
    except RuntimeError:
        return  # the loop is closed
    turn.wait(_TURN_MAX_S)
    job.since_s = time.perf_counter()
