"""Keep a store of one resource in step with a control plane, and give its changes in slices.

Rules:

* First a streaming list (``sendInitialEvents``), which goes on as a watch. Where the server refuses
  it or never ends it, pages of a list and then a watch.
* A list that breaks off changes nothing: the store is replaced only by a complete one. A watch
  continues from the last resource version; 410, in the answer or in the stream, asks for a list,
  and so does 504 for a version that the server has not reached: it was restored.
* An unusable object is counted and named in :attr:`Reflector.trouble`; its last good version stays.
* A failure is retried after a pause that doubles, with jitter, or that the server asks for; no
  failure ends the reflector, however long it lasts.
* Until the first list is complete nothing is given, unless that takes longer than the grace: then
  what the cache on disk holds is given, and later its difference to the list.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, Literal

from relay.control.kubernetes.cache_file import CacheWriter, ObjectCache
from relay.control.kubernetes.client import ApiClient, WatchStream, WatchTarget
from relay.control.kubernetes.errors import (
    AnswerError,
    ExpiredError,
    KubernetesError,
    MalformedAnswerError,
    PageTooLargeError,
    UnreachableError,
)
from relay.control.kubernetes.object_store import ObjectChange, ObjectStore, ObjectStoreStatistics
from relay.control.kubernetes.objects import (
    ApiObject,
    Bookmark,
    ListPage,
    ObjectEvent,
    ObjectKey,
    Unusable,
    WatchEvent,
    read_object,
)
from relay.control.kubernetes.slots import Use
from relay.runtime.event_loop import WorkSlice
from relay.sink.retry.backoff import next_delay_s

SLICE_OBJECTS: Final = 200
"""Most changes that are given at once."""
TROUBLE_MAX: Final = 100
"""Most unusable objects that are remembered by name."""
STREAMING_FAILURES_MAX: Final = 3
"""Failures in a row after which the first list is tried the other way."""
_NO_MATTER_OF_STREAMING: Final = frozenset((401, 403, 404, 410, 429, 503))
"""Answers after which a list in pages fares no better. Servers without streaming lists answer 422,
or 500 within the stream if their etcd (seen with 3.4.23) is too old for them."""

Freshness = Literal["starting", "cached", "synced", "stale"]
"""starting: nothing is known; cached: known from disk; synced: a watch is open; stale: none is."""


@dataclass(frozen=True, slots=True)
class ReflectorLimits:
    """Pauses and limits; s.

    ``grace_s``: longest wait for the first list before the cache is used. ``initial_silence_s``:
    longest pause within a streaming list. ``watch_min_s``: a watch that ends sooner without an
    event counts as a failure. ``steady_s``: after a watch of this length the next failure is the
    first of its row. ``save_soon_s``: from a change to the writing of the cache, in which others
    join; ``save_s``: from a new resource version or status alone. ``page_objects``: of a list.
    """

    grace_s: float = 5.0
    backoff_s: float = 1.0
    initial_silence_s: float = 30.0
    watch_min_s: float = 1.0
    steady_s: float = 10.0
    save_soon_s: float = 1.0
    save_s: float = 30.0
    page_objects: int = 500


@dataclass(frozen=True, slots=True)
class ReflectorStatistics:
    """State of a reflector. Times are monotonic, s; ``last_error`` is "" after a success.

    ``events`` and ``unusable`` are counts since the start; ``lists`` counts complete lists;
    ``stale_since`` is None while a watch is open.
    """

    freshness: Freshness
    store: ObjectStoreStatistics
    lists: int
    watches: int
    events: int
    unusable: int
    failures: int
    last_error: str
    stale_since: float | None


class Reflector:
    """One resource of one control plane. Lives on the event loop; :meth:`run` does the work.

    ``clock`` is monotonic, s. ``on_failure`` hears of each failure that costs a pause.
    """

    def __init__(
        self,
        client: ApiClient,
        target: WatchTarget,
        *,
        cache: ObjectCache | None = None,
        store: ObjectStore | None = None,
        limits: ReflectorLimits | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_failure: Callable[[KubernetesError], None] = lambda _: None,
    ) -> None:
        self.target = target
        self.store = store or ObjectStore()
        self.trouble: dict[ObjectKey | None, str] = {}
        """Reasons for which objects are not used as they are now, by key; None: of unknown name."""
        self._client = client
        self._limits = limits or ReflectorLimits()
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._clock = clock
        self._on_failure = on_failure
        self._version = ""
        self._streaming = True  # until a server refuses it
        self._freshness: Freshness = "starting"
        self._changed = asyncio.Event()
        self._published = asyncio.Event()
        self._saved = CacheWriter(
            cache,
            lambda: tuple(self.store.objects.values()),
            soon_s=self._limits.save_soon_s,
            later_s=self._limits.save_s,
            clock=clock,
        )
        self._lists = self._watches = self._events = self._unusable = self._failures = 0
        self._row = 0  # failures in a row
        self._unreachable = False  # the last one was no answer
        self._last_error = ""
        self._stale_since: float | None = clock()
        self._touched_at = clock()

    @property
    def freshness(self) -> Freshness:
        """Tell how current the objects are."""
        return self._freshness

    @property
    def cache_problem(self) -> str:
        """Reason for which the cache was not read or written; "" if it was."""
        return self._saved.problem

    async def ready(self) -> None:
        """Wait until the objects are known, from the API or from the cache."""
        await self._published.wait()

    async def changes(self) -> AsyncGenerator[tuple[ObjectChange, ...], None]:
        """Yield changes as they come, at most some hundred at once, without end."""
        await self._published.wait()
        while True:
            await self._changed.wait()
            taken = self.store.take(SLICE_OBJECTS)
            if not self.store.has_changes:
                self._changed.clear()
            if taken:
                yield taken

    def statistics(self) -> ReflectorStatistics:
        """Return a snapshot."""
        return ReflectorStatistics(
            self._freshness,
            self.store.statistics(),
            self._lists,
            self._watches,
            self._events,
            self._unusable,
            self._failures,
            self._last_error,
            self._stale_since,
        )

    async def run(self) -> None:
        """Keep the store in step until cancelled; write the cache once more at the end."""
        if await self._saved.load(self.store.restore):
            self._freshness = "cached"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publish_cache(), name="publish cache")
                group.create_task(self._saved.run(), name="save cache")
                group.create_task(self._follow(), name=f"watch {self.target.resource.plural}")
        finally:
            await self._saved.save()

    async def _follow(self) -> None:
        while True:
            started, events = self._clock(), self._events
            try:
                given_way = await self._round()
            except ExpiredError as error:
                self._version = ""
                await self._pause(error, free=1)
            except KubernetesError as error:
                await self._pause(error)
            else:
                if self.store.is_incomplete:
                    self._version = ""  # a new list may have room for what was refused
                quick = self._clock() - started < self._limits.watch_min_s
                if quick and self._events == events and not given_way:
                    await self._pause(MalformedAnswerError("the server ends every watch at once"))
            self._lose_touch()

    async def _round(self) -> bool:
        """List if needed, then watch to its end; return whether the watch was preempted."""
        # A spare watch may be preempted within a streaming list, again and again.
        if not self._version and (not self._streaming or self.target.use is Use.SPARE_WATCH):
            await self._list()
        initial = not self._version
        try:
            async with self._client.watch(
                self.target, resource_version=self._version, initial_events=initial
            ) as stream:
                self._watches += 1
                return await self._consume(stream, initial=initial)
        except AnswerError as error:
            if initial and error.status not in _NO_MATTER_OF_STREAMING:
                self._streaming = False
                return True  # no pause: the next round lists
            raise

    async def _consume(self, stream: WatchStream, *, initial: bool) -> bool:
        staged: dict[ObjectKey, ApiObject] | None = {} if initial else None
        unusable: dict[ObjectKey | None, None] = {}
        if staged is None:
            self._in_touch()
        async with aclosing(stream.parts()) as parts:
            loop = asyncio.get_running_loop()
            news_at = loop.time()
            while True:
                # A server that ignores the parameter sends everything, and then bookmarks at most.
                silent_at = news_at + self._limits.initial_silence_s
                try:
                    async with asyncio.timeout_at(None if staged is None else silent_at):
                        events = await anext(parts, None)
                except TimeoutError:
                    self._streaming = False
                    return True
                if events is None:
                    break
                if not all(isinstance(event, Bookmark) for event in events):
                    news_at = loop.time()
                for event in events:
                    self._events += 1
                    if staged is not None and isinstance(event, Unusable) and event.key is None:
                        # Only pages tell which object it is, and so which others are gone.
                        self._streaming = False
                        return True
                    if staged is None:
                        self._take(event)
                    elif self._stage(event, staged, unusable):
                        assert isinstance(event, Bookmark)
                        await self._replace(staged.values(), unusable)
                        # Not before: if the watch ends within, the list must be repeated.
                        self._version = event.resource_version
                        staged = None
                if self.store.has_changes and self._published.is_set():
                    self._tell()
        if staged is not None and not stream.given_way:
            raise MalformedAnswerError("a streaming list ended before it was complete")
        return stream.given_way

    def _stage(
        self,
        event: WatchEvent,
        staged: dict[ObjectKey, ApiObject],
        unusable: dict[ObjectKey | None, None],
    ) -> bool:
        """Note one event of a streaming list; return True once the list is complete."""
        if isinstance(event, Bookmark):
            return event.initial_end
        if isinstance(event, ObjectEvent):
            unusable.pop(event.object.key, None)
            if event.verb == "DELETED":
                staged.pop(event.object.key, None)
            else:
                staged[event.object.key] = event.object
        elif isinstance(event, Unusable):
            self._note(event)
            unusable[event.key] = None
        else:
            raise event
        return False

    def _take(self, event: WatchEvent) -> None:
        """Apply one event of a watch."""
        if isinstance(event, ObjectEvent):
            self.trouble.pop(event.object.key, None)
            self.store.apply(event.verb, event.object)
            self._version = event.object.resource_version
            self._saved.note()
        elif isinstance(event, Bookmark):
            self._version = event.resource_version
        elif isinstance(event, Unusable):
            self._note(event)
            if event.relist:
                raise ExpiredError(event.why, status=410, reason="Unusable")
        else:
            raise event

    async def _list(self) -> None:
        """Replace the store by all pages of a list."""
        listed: list[ApiObject] = []
        unusable: dict[ObjectKey | None, None] = {}
        token, limit = "", self._limits.page_objects
        while True:
            try:
                page = await self._client.list_page(self.target, limit=limit, continue_token=token)
            except PageTooLargeError:
                if limit > 1:
                    limit = max(1, limit // 4)
                    continue
                page = await self._skip_one(token, unusable)
            part = WorkSlice()
            for item in page.items:
                found = read_object(item, self.target.resource)
                if isinstance(found, ApiObject):
                    listed.append(found)
                else:
                    self._note(found)
                    unusable[found.key] = None
                if part.is_over:
                    await part.rest()
            token = page.continue_token
            if not token:
                if None in unusable:
                    await self._name_unusable({one.key for one in listed}, unusable)
                await self._replace(listed, unusable)
                self._version = page.resource_version
                return
            limit = min(self._limits.page_objects, limit * 2)

    async def _skip_one(self, token: str, unusable: dict[ObjectKey | None, None]) -> ListPage:
        """Return the page of an object that is too long without it; its metadata names it."""
        target = replace(self.target, metadata_only=True)
        page = await self._client.list_page(target, limit=1, continue_token=token)
        for item in page.items:
            found = read_object(item, self.target.resource)
            key = found.key
            self._note(Unusable("is too long to be read", key))
            unusable[key] = None
        return ListPage((), page.resource_version, page.continue_token)

    async def _name_unusable(
        self, listed: set[ObjectKey], unusable: dict[ObjectKey | None, None]
    ) -> None:
        """Find the names of unusable objects: those that are there and were not listed."""
        why = self.trouble.get(None, "")
        target = replace(self.target, metadata_only=True)
        token = ""
        while True:
            page = await self._client.list_page(target, continue_token=token)
            for item in page.items:
                key = read_object(item, self.target.resource).key
                if key is not None and key not in listed and key not in unusable:
                    unusable[key] = None
                    self.trouble[key] = why
            token = page.continue_token
            if not token:
                return

    async def _replace(
        self, listed: Iterable[ApiObject], unusable: dict[ObjectKey | None, None]
    ) -> None:
        keep = [key for key in unusable if key is not None]
        part = WorkSlice()
        for _ in self.store.replacing(listed, keep=keep):
            if part.is_over:
                await part.rest()
        self.trouble = {key: why for key, why in self.trouble.items() if key in unusable}
        self._lists += 1
        self._saved.note()
        self._in_touch()
        self._publish()

    def _publish(self) -> None:
        if not self._published.is_set():
            self.store.offer_all()
            self._published.set()
        if self.store.has_changes:
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._saved.hurry()

    def _note(self, found: Unusable) -> None:
        self._unusable += 1
        if len(self.trouble) < TROUBLE_MAX or found.key in self.trouble:
            self.trouble[found.key] = found.why

    def _in_touch(self) -> None:
        self._last_error = ""
        self._stale_since = None
        self._touched_at = self._clock()
        self._freshness = "synced"

    def _lose_touch(self) -> None:
        if self._stale_since is None:
            self._stale_since = self._clock()

    async def _pause(self, error: KubernetesError, *, free: int = 0) -> None:
        """Wait after a failure; the first ``free`` ones in a row cost no time."""
        in_touch = self._stale_since is None
        if in_touch and self._clock() - self._touched_at >= self._limits.steady_s:
            self._row = 0
        unreachable = isinstance(error, UnreachableError)
        if self._unreachable and not unreachable:
            self._row = 0  # the pauses of an outage end with the first answer
        self._unreachable = unreachable
        self._lose_touch()
        self._failures += 1
        self._row += 1
        self._last_error = str(error)
        if self._row <= free:
            return
        self._on_failure(error)
        if not self._version and self._row % STREAMING_FAILURES_MAX == 0:
            self._streaming = not self._streaming  # the other way may work
        if self._freshness == "synced":
            self._freshness = "stale"
        await asyncio.sleep(
            next_delay_s(
                self._row,
                backoff_s=self._limits.backoff_s,
                rng=self._rng,
                retry_after_s=error.retry_after_s,
            )
        )

    async def _publish_cache(self) -> None:
        """Give what the cache had, if the first list takes too long."""
        if self._freshness == "cached":
            await asyncio.sleep(self._limits.grace_s)
            self._publish()

    def __repr__(self) -> str:
        return f"<Reflector {self.target.resource.plural}, {self._freshness}, {self.store!r}>"
