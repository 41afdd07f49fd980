"""The tasks of a sink's shards, and their waits between two requests.

A task takes 1.4 KiB, and of thousands of sinks most have nothing to do: a shard has a task only
while it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec


class WakeupEvent:
    """One task waits, any code sets; a call is kept until :meth:`clear`.

    An :class:`asyncio.Event` inside :func:`asyncio.timeout` does the same at five times the price
    (10 us), for every request of every sink.
    """

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wake the task that waits, or let its next wait end at once."""
        self._is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Forget earlier calls."""
        self._is_set = False

    async def wait(self, delay_s: float | None) -> None:
        """Wait until it is set or ``delay_s`` have passed (None: no limit)."""
        if self._is_set:
            return
        assert self._waiter is None, "one task waits"
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = None if delay_s is None else loop.call_later(delay_s, self.set)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def __repr__(self) -> str:
        return f"<WakeupEvent {'set' if self._is_set else 'clear'}>"


Serve = Callable[[int, int, WakeupEvent], Coroutine[Any, Any, None]]
"""Work of a shard's task, by its number and the configuration's; a wake-up call ends its waits."""


class _AtWork(msgspec.Struct, frozen=True):
    task: asyncio.Task[None]
    wakeup: WakeupEvent


class ShardTasks:
    """The tasks of one sink.

    ``generation`` is incremented with each configuration; a task whose number is another one must
    end. ``running``: shards that are woken get a task.
    """

    __slots__ = ("_at_work", "earlier", "generation", "running")

    def __init__(self) -> None:
        self.generation = 0
        self.running = False
        self._at_work: list[_AtWork | None] = []
        self.earlier: Sequence[asyncio.Task[None]] = ()
        """Tasks of earlier configurations, or that were told to stop."""

    def begin(self, shards: int) -> None:
        """Use another configuration, with so many shards; tasks with the last one are to end."""
        self.generation += 1
        self._retire(shards)
        self.running = True

    def wake(self, shard: int, serve: Serve, name: str) -> None:
        """Wake a shard's task; make it if there is none. Needs a running loop."""
        if not self.running:
            return
        at_work = self._at_work[shard]
        if at_work is not None:
            at_work.wakeup.set()
            return
        wakeup = WakeupEvent()
        loop = asyncio.get_running_loop()
        task = loop.create_task(serve(shard, self.generation, wakeup), name=name)
        self._at_work[shard] = _AtWork(task, wakeup)

    def rest(self, shard: int, generation: int) -> None:
        """Note that a shard's task ends: nothing is to be done until the shard is woken."""
        if self.running and generation == self.generation:
            self._at_work[shard] = None

    async def earlier_ended(self, generation: int) -> None:
        """Wait until all tasks with earlier configurations have ended."""
        # One that has not begun when there is another configuration is itself among them.
        if self.earlier and generation == self.generation:
            await asyncio.wait(self.earlier)
            if generation == self.generation and self.running:
                self.earlier = ()

    async def stop(self) -> None:
        """Cancel all tasks and wait for them."""
        self._retire(len(self._at_work))
        self.running = False
        for task in self.earlier:
            task.cancel()
        await asyncio.gather(*self.earlier, return_exceptions=True)
        self.earlier = ()

    def _retire(self, shards: int) -> None:
        tasks = self._unfinished()
        for at_work in self._at_work:
            if at_work is not None:
                at_work.wakeup.set()
        self._at_work = [None] * shards
        self.earlier = tasks

    def _unfinished(self) -> list[asyncio.Task[None]]:
        tasks = [*self.earlier, *(one.task for one in self._at_work if one is not None)]
        return [task for task in tasks if not task.done()]

    def __len__(self) -> int:
        """Return the number of tasks that have not ended."""
        return len(self._unfinished())

    def __repr__(self) -> str:
        return f"<ShardTasks {len(self)} of {len(self._at_work)} shards>"
