"""Share the turns of the event loop among pieces of work that come at once.

A hundred requests that arrive in one turn of the loop, a millisecond of CPU each, would hold it for
a tenth of a second. Each waits here for a turn of its own, in the order of the calls; what else the
loop has to do runs in between. Work that comes alone does not wait. Owners of work, such as
projects, have turns by turns, so that a flood of one costs another one turn. Work in the background
has one turn in :data:`BACKGROUND_EACH` while others wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

BACKGROUND_EACH: Final = 4


class _Owners:
    """Work that waits, by its owner; those that have waited longest for a turn come first."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, owner: str, one: asyncio.Future[None]) -> None:
        self._queues.setdefault(owner, deque()).append(one)
        self._count += 1

    def pop(self) -> asyncio.Future[None]:
        """Return the next; its owner comes again when all others have had a turn."""
        owner = next(iter(self._queues))
        queue = self._queues.pop(owner)
        one = queue.popleft()
        if queue:
            self._queues[owner] = queue
        self._count -= 1
        return one


class TurnQueue:
    """Lets one piece of work begin in each turn of the event loop."""

    def __init__(self) -> None:
        self._waiting = _Owners()
        self._background = _Owners()
        self._number = 0
        self._is_taken = False

    async def turn(self, owner: str = "", *, in_background: bool = False) -> None:
        """Wait for a turn; what follows, up to the next ``await``, should take a millisecond."""
        loop = asyncio.get_running_loop()
        if not self._is_taken:
            self._is_taken = True
            loop.call_soon(self._next)
            return
        mine = loop.create_future()
        (self._background if in_background else self._waiting).append(owner, mine)
        await mine

    def _next(self) -> None:
        """Begin a turn: the next that waits has it, or whatever comes first."""
        self._number += 1
        first, second = self._waiting, self._background
        if not self._number % BACKGROUND_EACH:
            first, second = second, first
        while queue := first or second:
            one = queue.pop()
            if not one.done():  # else it was cancelled
                one.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._is_taken = False

    def __repr__(self) -> str:
        return f"<TurnQueue: {len(self._waiting)} wait, {len(self._background)} in the background>"
