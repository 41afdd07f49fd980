"""Share the turns of the event loop among pieces of work that come at once.

A hundred requests that arrive in one turn of the loop, a millisecond of CPU each, would hold it for
a tenth of a second. Each waits here for a turn of its own, in the order of the calls; what else the
loop has to do runs in between. Work that comes alone does not wait. Work in the background has one
turn in :data:`BACKGROUND_EACH` while others wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

BACKGROUND_EACH: Final = 4


class TurnQueue:
    """Lets one piece of work begin in each turn of the event loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._background: deque[asyncio.Future[None]] = deque()
        self._number = 0
        self._is_taken = False

    async def turn(self, *, in_background: bool = False) -> None:
        """Wait for a turn; what follows, up to the next ``await``, should take a millisecond."""
        loop = asyncio.get_running_loop()
        if not self._is_taken:
            self._is_taken = True
            loop.call_soon(self._next)
            return
        mine = loop.create_future()
        (self._background if in_background else self._waiting).append(mine)
        await mine

    def _next(self) -> None:
        """Begin a turn: the next that waits has it, or whatever comes first."""
        self._number += 1
        first, second = self._waiting, self._background
        if not self._number % BACKGROUND_EACH:
            first, second = second, first
        while queue := first or second:
            one = queue.popleft()
            if not one.done():  # else it was cancelled
                one.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._is_taken = False

    def __repr__(self) -> str:
        return f"<TurnQueue: {len(self._waiting)} wait, {len(self._background)} in the background>"
