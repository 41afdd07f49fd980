"""Lets the task of a shard wait between two requests, for a wake-up call or a delay."""

from __future__ import annotations

import asyncio


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
