"""Write the statuses that are due, by server-side apply; the schedule decides which and when."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic
from weakref import WeakKeyDictionary

from relay.control.kubernetes.client import APPLY, ApiClient
from relay.control.kubernetes.errors import (
    AbsentError,
    KubernetesError,
    ThrottledError,
)
from relay.control.kubernetes.objects import ApiObject, ApiResource
from relay.control.kubernetes.status_body import FIELD_MANAGER, apply_body, parts_of
from relay.control.kubernetes.status_schedule import Key, ScheduleStatistics, StatusSchedule
from relay.sink.retry.backoff import RETRY_AFTER_S_MAX

_log = logging.getLogger("relay.control.cluster")

IN_FLIGHT_MAX: Final = 8
"""Most writes at once, to all control planes together."""


@dataclass(frozen=True, slots=True)
class StatusWrite:
    """One status to write: the object it is of, and the value of ``status``."""

    client: ApiClient
    resource: ApiResource
    target: ApiObject
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """Writes since the start, those that failed, and the last failure's reason or ""."""

    schedule: ScheduleStatistics
    written: int
    failed: int
    last_error: str


class StatusWriter(Generic[Key]):
    """Writes statuses while :meth:`run` runs. Lives on the event loop.

    ``render`` returns the present status of an object, None if it is gone. ``clock`` is monotonic,
    s. Offer to :attr:`schedule` what has changed, then call :meth:`wake`. A bug is logged and costs
    one object's write, which is tried again.
    """

    def __init__(
        self,
        schedule: StatusSchedule[Key],
        render: Callable[[Key], StatusWrite | None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.schedule = schedule
        self._render = render
        self._clock = clock
        self._woken = asyncio.Event()
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._held_until: WeakKeyDictionary[ApiClient, float] = WeakKeyDictionary()
        """Time before which a control plane has asked for no more writes; monotonic, s."""
        self._written = self._failed = 0
        self._last_error = ""

    def wake(self) -> None:
        """Look again for what is due."""
        self._woken.set()

    def statistics(self) -> WriterStatistics:
        """Return a snapshot."""
        return WriterStatistics(
            self.schedule.statistics(), self._written, self._failed, self._last_error
        )

    async def run(self) -> None:
        """Write what is due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._room.acquire()
                key = await self._next()
                group.create_task(self._write(key), name="write status")

    async def _next(self) -> Key:
        while True:
            self._woken.clear()
            now = self._clock()
            key = self.schedule.take(now)
            if key is not None:
                return key
            at = self.schedule.next_at(now)
            # At least a moment, so that no rounding of the clock makes this a busy loop.
            wait_s = None if at is None else max(at - now, 0.001)
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _write(self, key: Key) -> None:
        try:
            write = self._render(key)
            if write is None:
                self.schedule.forget(key)
                return
            now = self._clock()
            held_until = self._held_until.get(write.client, now)
            if held_until > now:
                self.schedule.put_off(key, held_until, now)
                return
            parts = parts_of(write.document)
            target = write.target
            try:
                await write.client.request(
                    "PATCH",
                    write.resource.path(target.namespace, target.name, "status"),
                    query={"fieldManager": FIELD_MANAGER, "force": "true"},
                    document=apply_body(write.resource, target, write.document),
                    content_type=APPLY,
                )
            except KubernetesError as error:
                self._note_failure(key, write, error)
            else:
                self._written += 1
                self.schedule.written(key, parts, self._clock())
        except Exception:
            self._failed += 1
            self._last_error = "a bug in the relay, see its log"
            _log.exception("bug in the relay: a status was not written")
            self.schedule.failed(key, self._clock())
        finally:
            self._room.release()
            self._woken.set()

    def _note_failure(self, key: Key, write: StatusWrite, error: KubernetesError) -> None:
        self._failed += 1
        self._last_error = f"{'/'.join(filter(None, write.target.key))}: {error}"
        now = self._clock()
        if isinstance(error, AbsentError):
            self.schedule.forget(key)  # the watch will say so, too
            return
        retry_after_s = min(error.retry_after_s or 0.0, RETRY_AFTER_S_MAX)
        if isinstance(error, ThrottledError) and retry_after_s:
            self._held_until[write.client] = now + retry_after_s  # of no other control plane
        self.schedule.failed(key, now, retry_after_s=retry_after_s)

    def __repr__(self) -> str:
        return f"<StatusWriter {self._written} written, {self._failed} failed, {self.schedule!r}>"
