"""Long work of the engine in slices, with turns of the event loop between them.

Rules:

* Short work runs where it is asked for. What turns out to take long is taken back after
  :data:`DIRECT_S` and begun once more in slices of :data:`SLICE_S`, so a request may be of any size
  and shape: the loop is held for milliseconds.
* Slices run on a thread of their own while the loop waits for them. Only one of the two runs at any
  moment, and they change places at :meth:`Pace.pause` alone, so the engine needs no locks.
* One piece of work is under way at a time; others wait in the order in which they came, also those
  that only want the engine to be between two requests (:meth:`Turns.settled`).
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
"""CPU time that work may take before it is sliced: a usual request takes a tenth of it."""
SLICE_S: Final = 0.004
"""How long a slice takes."""

LOOP_TURNS: Final = 3
"""Iterations of the loop between two slices."""

_Result = TypeVar("_Result")


class TurnsError(Exception):
    """Control flow of this module; the engine takes the work back and hands it on."""


class _Direct(Pace):
    """Raises TurnsError once the work has taken :data:`DIRECT_S`."""

    __slots__ = ("_until_s",)

    def __init__(self) -> None:
        super().__init__()
        # CPU time: a busy machine is no reason to begin anew.
        self._until_s = time.thread_time() + DIRECT_S

    def pause(self) -> None:
        if not self.final and time.thread_time() > self._until_s:
            raise TurnsError


class _Sliced(Pace, Generic[_Result]):
    """One piece of work on the thread; its halves of the baton are two locks."""

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
        """Let the loop have a turn, if it is time. Raises TurnsError where nobody waits for the
        work any more."""
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

    @property
    def value(self) -> _Result:
        """What the work returned."""
        assert self.done
        return cast("_Result", self._result)

    def begin(self, work: Callable[..., _Result]) -> None:
        """Start the thread, which waits for its first slice."""
        threading.Thread(target=self._run, args=(work,), name="relay-slices", daemon=True).start()

    def slice(self) -> None:
        """Let the work go on; on the loop's thread, which waits meanwhile."""
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
    """Whose turn it is at the engine. Lives on one event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._entered = 0
        self._closed = False
        self._waiting: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether work is under way or waits: the engine may be in the middle of a request."""
        return self._entered > 0

    async def run(
        self,
        work: Callable[..., _Result],
        after: Callable[[_Result], None],
        *,
        repeatable: bool = True,
    ) -> _Result:
        """Do ``work``, which is given its ``pace``, then hand its result to ``after``.

        Nothing else has a turn between the two.

        Repeatable work may be begun once more as long as its pace is not final; other work is
        sliced from the start. Raises what it raises. Work that is final when this is cancelled is
        finished, and its result handed on.
        """
        if repeatable and not self._entered:
            try:
                result = work(pace=_Direct())
            except TurnsError:
                pass
            else:
                after(result)
                return result
        async with self.between():
            return await self._sliced(work, after)

    @asynccontextmanager
    async def between(self) -> AsyncIterator[None]:
        """The engine is between two requests, and stays there, for the time of the block."""
        self._entered += 1
        try:
            async with self._lock:
                yield
        finally:
            self._entered -= 1

    async def settled(self) -> None:
        """Return between two requests; the next one begins when the caller next waits."""
        if self._entered:
            async with self.between():
                pass

    def soon(self, action: Callable[[], None]) -> None:
        """Do it now or, in the middle of a request, when that is done; then not after
        :meth:`close`."""
        if not self._entered:
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
        """Do nothing more of what :meth:`soon` put off."""
        self._closed = True

    async def _sliced(
        self, work: Callable[..., _Result], after: Callable[[_Result], None]
    ) -> _Result:
        sliced: _Sliced[_Result] = _Sliced()
        sliced.begin(work)
        try:
            sliced.slice()
            while not sliced.done:
                # A request takes the loop that often: its bytes, its handler, its answer.
                for _ in range(LOOP_TURNS):
                    await asyncio.sleep(0)
                sliced.slice()
        except asyncio.CancelledError:
            sliced.aborted = True
            while not sliced.done:
                sliced.slice()
            if sliced.error is None:
                after(sliced.value)
            raise
        if sliced.error is not None:
            raise sliced.error
        result = sliced.value
        after(result)
        return result

    def __repr__(self) -> str:
        return f"<Turns, {self._entered} under way or waiting>"
