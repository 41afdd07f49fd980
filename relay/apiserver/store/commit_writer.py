"""Group commits: one thread that writes everything that waits as one transaction.

Changes are committed in the order in which they were handed over. If a transaction fails, every
change in it fails, none of it is stored, and the next one is tried as if nothing had happened.
Changes that can wait begin a transaction :data:`JOIN_S` later, or share that of one that cannot.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from relay.apiserver.lasting_failure import LastingFailure
from relay.apiserver.store.database import Change
from relay.apiserver.store.errors import StoreUnusableError

_log: Final = logging.getLogger("relay.api")
GROUP_CHANGES_MAX: Final = 250
"""Most changes in one transaction: showing them to readers takes some 10 ms of the loop."""

JOIN_S: Final = 0.05
"""Time for which changes that can wait are joined by others; s."""


class ChangeSink(Protocol):
    """The part of the database that the writer uses."""

    def write(self, changes: Sequence[Change]) -> None:
        """Make changes durable, all or none; raise StoreUnusableError."""
        ...


@dataclass(frozen=True, slots=True)
class CommitStatistics:
    """Changes and transactions since the start, and changes that wait."""

    changes: int
    transactions: int
    failed: int
    waiting: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    change: Change
    done: asyncio.Future[None]


class CommitWriter:
    """Writes changes in a thread; ``committed`` is called on the loop, in order, before waiters."""

    def __init__(self, sink: ChangeSink, committed: Callable[[Sequence[Change]], None]) -> None:
        self._sink = sink
        self._committed = committed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[_Waiting] = []
        self._ready = threading.Condition()
        self._is_due = False
        """True if what waits is to be written now."""
        self._joining: asyncio.TimerHandle | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="api-store", daemon=True)
        self._changes = self._transactions = self._failed = 0
        self._failure = LastingFailure(_log, "changes of objects", time.monotonic)

    def __repr__(self) -> str:
        return f"<CommitWriter {self.statistics()}>"

    def statistics(self) -> CommitStatistics:
        """Return a snapshot."""
        return CommitStatistics(self._changes, self._transactions, self._failed, len(self._waiting))

    def start(self) -> None:
        """Start the thread; called on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, change: Change, *, can_wait: bool = False) -> asyncio.Future[None]:
        """Hand over a change; the result is there when it is durable.

        The future raises StoreUnusableError if it is not stored.
        """
        assert self._loop is not None, "the writer was started"
        one = _Waiting(change, self._loop.create_future())
        with self._ready:
            assert not self._stopping, "nothing is written after stop()"
            self._waiting.append(one)
        if not can_wait:
            self.write_now()
        elif self._joining is None:
            self._joining = self._loop.call_later(JOIN_S, self.write_now)
        return one.done

    def write_now(self) -> None:
        """Have the thread write what waits."""
        if self._joining is not None:
            self._joining.cancel()
            self._joining = None
        with self._ready:
            self._is_due = True
            self._ready.notify()

    async def stop(self) -> None:
        """Write what waits, and end the thread."""
        with self._ready:
            self._stopping = True
        self.write_now()
        await asyncio.to_thread(self._thread.join)
        # Answers of the last transaction are callbacks of the loop.
        await asyncio.sleep(0)

    def _take(self) -> list[_Waiting]:
        """Wait for changes; return none to end."""
        with self._ready:
            while not (self._waiting and self._is_due) and not self._stopping:
                self._ready.wait()
            taken = self._waiting[:GROUP_CHANGES_MAX]
            del self._waiting[:GROUP_CHANGES_MAX]
            self._is_due = bool(self._waiting)
            return taken

    def _run(self) -> None:
        assert self._loop is not None, "start() sets it"
        while taken := self._take():
            error: Exception | None = None
            try:
                self._sink.write([one.change for one in taken])
            except Exception as caught:  # a bug, too, is raised where the change was handed over
                error = caught
            self._loop.call_soon_threadsafe(self._answer, taken, error)

    def _answer(self, taken: list[_Waiting], error: Exception | None) -> None:
        changes = [one.change for one in taken]
        self._transactions += 1
        if error is None:
            self._changes += len(changes)
            self._committed(changes)
            self._failure.succeeded()
        else:
            self._failed += len(changes)
            if isinstance(error, StoreUnusableError):
                self._failure.failed(error, len(changes))
        for one in taken:
            if one.done.cancelled():
                continue
            if error is None:
                one.done.set_result(None)
            else:
                one.done.set_exception(error)
