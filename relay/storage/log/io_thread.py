"""A thread that runs blocking disk jobs one at a time, in order.

Not a ThreadPoolExecutor: its hand-over costs twice as much, and the interpreter joins its threads
at exit, which would hang on a dead disk.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple[Callable[[], Any], asyncio.Future[Any]]


class IoThread:
    """Runs jobs for the event loop that submits them. A daemon thread: exit does not join it."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True)
        self._thread.start()

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Queue a job; the future gets its result or exception."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((job, future))
        return future

    def stop(self) -> None:
        """End the thread after its queued jobs, without waiting for it."""
        self._jobs.put(None)

    def __repr__(self) -> str:
        return f"<IoThread {self._thread.name}, {self._jobs.qsize()} jobs wait>"


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (item := jobs.get()) is not None:
        job, future = item
        result, failure = None, None
        try:
            result = job()
        except Exception as error:
            failure = error  # raised where the future is awaited
        loop = future.get_loop()
        if loop.is_closed():
            return
        loop.call_soon_threadsafe(_settle, future, result, failure)


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return  # cancelled meanwhile
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
