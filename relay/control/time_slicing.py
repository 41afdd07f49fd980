"""Run long work of the engine in slices, with turns of the event loop between them.

* Work first runs directly. If it takes longer than :data:`DIRECT_S` it is rolled back and restarted
  in slices of :data:`SLICE_S`, so that a request of any size holds the loop for milliseconds only.
* Slices run on a thread while the loop waits for them. Only one of the two runs at any moment, and
  they switch only in :meth:`Pace.pause`, so the engine needs no locks.
* One piece of work is active at a time; others, and callers of :meth:`Turns.settled`, wait in the
  order of their calls.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar, cast

from relay.pipeline.pacing import Pace

DIRECT_S: Final = 0.010
"""CPU time of work before it is sliced; s. A usual request takes a tenth of it."""
SLICE_S: Final = 0.004
"""Duration of a slice; s."""

LOOP_TURNS: Final = 3
"""Iterations of the event loop between two slices."""

_Result = TypeVar("_Result")


class TurnsError(Exception):
    """Abort work; the engine rolls back and re-raises it."""


class DirectPace(Pace):
    """Raise TurnsError once the work has taken :data:`DIRECT_S` of CPU since its first pause.

    For work that begins now and is not sliced; only while :attr:`Turns.entered` is 0.

    CPU time and not the clock: a busy machine must not restart work. It takes a system call to
    read, so it is read at the first pause, which most requests do not reach, and again once as much
    time has passed as was left.
    """

    __slots__ = ("_cpu_until_s", "_until_s")

    def __init__(self) -> None:
        self.final = False
        self._until_s = 0.0
        self._cpu_until_s = 0.0

    def pause(self) -> None:
        """Raise TurnsError if the time is over."""
        if self.final or time.perf_counter() < self._until_s:
            return
        now_s = time.thread_time()
        if not self._cpu_until_s:
            self._cpu_until_s = now_s + DIRECT_S
        elif now_s > self._cpu_until_s:
            raise TurnsError
        self._until_s = time.perf_counter() + self._cpu_until_s - now_s

    def need_slices(self) -> None:
        """Raise TurnsError: only work in slices can pause once it is final."""
        if not self.final:
            raise TurnsError


class _Sliced(Pace, Generic[_Result]):
    """One piece of work on a thread, which alternates with the loop by two locks."""

    __slots__ = ("_loop_side", "_result", "_slice_end_s", "_work_side", "aborted", "done", "error")

    def __init__(self) -> None:
        super().__init__()
        self._loop_side = threading.Lock()
        self._work_side = threading.Lock()
        self._loop_side.acquire()
        self._work_side.acquire()
        self._slice_end_s = 0.0
        self.aborted = False
        self.done = False
        self._result: _Result | None = None
        self.error: BaseException | None = None

    def pause(self) -> None:
        """Let the loop have a turn if the slice is over. Raise TurnsError if cancelled."""
        self._give_up()
        if self.aborted:
            return
        if time.perf_counter() < self._slice_end_s:
            return
        self._loop_side.release()
        self._work_side.acquire()
        self._give_up()

    def _give_up(self) -> None:
        if self.aborted and not self.final:
            raise TurnsError

    def take(self) -> _Result:
        """Return the result of the finished work, or raise its error; keep neither.

        Both refer to this pace: together they would stay until a collection, with all samples of
        the request.
        """
        assert self.done
        result, self._result = self._result, None
        error, self.error = self.error, None
        if error is None:
            return cast("_Result", result)
        try:
            raise error
        finally:
            del error

    def begin(self, work: Callable[..., _Result]) -> None:
        """Start the thread, which waits for its first slice."""
        threading.Thread(target=self._run, args=(work,), name="relay-slices", daemon=True).start()

    def slice(self) -> None:
        """Run one slice; the calling thread of the loop waits for its end."""
        self._slice_end_s = time.perf_counter() + SLICE_S
        self._work_side.release()
        self._loop_side.acquire()

    def _run(self, work: Callable[..., _Result]) -> None:
        self._work_side.acquire()
        try:
            self._result = work(pace=self)
        except BaseException as error:
            self.error = error
        self.done = True
        self._loop_side.release()


class Turns:
    """Serialise the work of the engine. Lives on one event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.entered = 0
        """Pieces of work that are active or wait: with any, the engine may be in a request."""
        self._closed = False
        self._waiting: set[asyncio.Task[None]] = set()

    async def run(
        self,
        work: Callable[..., _Result],
        after: Callable[[_Result], None],
        *,
        repeatable: bool = True,
    ) -> _Result:
        """Run ``work`` with its ``pace``, then at once ``after`` with its result.

        Repeatable work may be restarted as long as its pace is not final; other work is sliced from
        the start. Exceptions of the work are passed on. Work that is final when this is cancelled
        is finished, and its result passed to ``after``.
        """
        if repeatable and not self.entered:
            try:
                result = work(pace=DirectPace())
            except TurnsError:
                pass
            else:
                after(result)
                return result
        async with self.between():
            return await self._sliced(work, after)

    @asynccontextmanager
    async def between(self) -> AsyncIterator[None]:
        """Keep the engine between two requests for the time of the block."""
        self.entered += 1
        try:
            async with self._lock:
                yield
        finally:
            self.entered -= 1

    async def settled(self) -> None:
        """Return between two requests; the next one starts when the caller next suspends."""
        if self.entered:
            async with self.between():
                pass

    def soon(self, action: Callable[[], None]) -> None:
        """Run ``action`` now or after the current request; never after :meth:`close`."""
        if not self.entered:
            action()
            return

        async def wait() -> None:
            async with self.between():
                if not self._closed:
                    action()

        task = asyncio.get_running_loop().create_task(wait())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    def close(self) -> None:
        """Cancel all actions that :meth:`soon` has deferred."""
        self._closed = True

    async def _sliced(
        self, work: Callable[..., _Result], after: Callable[[_Result], None]
    ) -> _Result:
        sliced: _Sliced[_Result] = _Sliced()
        sliced.begin(work)
        try:
            sliced.slice()
            while not sliced.done:
                # A request suspends that often: its bytes, its handler, its response.
                for _ in range(LOOP_TURNS):
                    await asyncio.sleep(0)
                sliced.slice()
        except asyncio.CancelledError:
            sliced.aborted = True
            while not sliced.done:
                sliced.slice()
            if sliced.error is None:
                after(sliced.take())
            sliced.error = None
            raise
        result = sliced.take()
        after(result)
        return result

    def __repr__(self) -> str:
        return f"<Turns, {self.entered} under way or waiting>"
