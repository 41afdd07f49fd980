"""What a lane's task waits for between two requests: to be rung, or for some time to pass."""

from __future__ import annotations

import asyncio


class WakeupEvent:
    """One task waits, anybody rings; ringing is remembered until :meth:`hush`.

    An :class:`asyncio.Event` inside :func:`asyncio.timeout` does the same at five times the price
    (10 µs), for every request of every sink.
    """

    __slots__ = ("_rung", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wake whoever waits, or spare them the next wait."""
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def hush(self) -> None:
        """Forget that it was rung."""
        self._rung = False

    async def wait(self, delay_s: float | None) -> None:
        """Until it is rung, or ``delay_s`` have passed (None: for ever)."""
        if self._rung:
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
        return f"<WakeupEvent {'rung' if self._rung else 'silent'}>"
