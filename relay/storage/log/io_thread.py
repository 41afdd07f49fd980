"""One thread for what may wait for a disk, one job at a time, in order.

A thread of a pool would do, at twice the price of a hand-over; and pools are joined when the
interpreter exits, which a disk that has died would then prevent.
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
    """Runs jobs for the event loop that submits them. It is a daemon: nobody waits for it."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True)
        self._thread.start()

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Do the job after those before it; its result or error arrives in the future."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((job, future))
        return future

    def stop(self) -> None:
        """End the thread when its jobs are done, and do not wait for that."""
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
            failure = error  # it belongs to whoever waits for the job
        loop = future.get_loop()
        if loop.is_closed():
            return
        loop.call_soon_threadsafe(_settle, future, result, failure)


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return  # nobody waits any more
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
