"""Hold the Secrets of one control plane that exporters refer to, and no others.

Rules:

* A Secret is asked for by name when an exporter begins to refer to it, and again when a watch that
  gives versions only shows another one. Very many at once are read from a list, of which only those
  that are referred to are kept; where the list fails, one by one.
* An answer that was under way when a watch showed another version may be older: it is used, and the
  Secret is asked for again.
* Where watching Secrets is refused, each is asked for every :data:`POLL_S`, one that is not there
  every :data:`POLL_ABSENT_S`, at most :data:`POLLS_PER_S` a second.
* A failure leaves what is known in effect; the request is repeated after a pause, and after those
  for other Secrets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from relay.control.cluster.resources import SECRETS
from relay.control.kubernetes.cache_file import CacheWriter, ObjectCache
from relay.control.kubernetes.client import ApiClient, WatchTarget
from relay.control.kubernetes.errors import (
    AbsentError,
    KubernetesError,
    RequestRefusedError,
    UnreachableError,
)
from relay.control.kubernetes.object_store import ObjectChange
from relay.control.kubernetes.objects import ApiObject, ObjectKey, Unusable, read_object
from relay.runtime.event_loop import WorkSlice
from relay.sink.retry.backoff import doubled_s

POLL_S: Final = 60.0
POLL_ABSENT_S: Final = 5.0
POLLS_PER_S: Final = 10
LIST_MIN: Final = 100
"""Secrets that are due at once, from which on a list costs less than single requests."""
RETRY_S: Final = 1.0
RETRY_S_MAX: Final = 30.0
SAVE_S: Final = 1.0
"""Time between a change and the writing of the cache; s."""
SAVE_AGAIN_S: Final = 30.0
"""Longest pause after the writing of the cache, and that after a failure; s."""


@dataclass(slots=True)
class _Entry:
    """One Secret that is referred to. ``is_known``: it was asked for, or the cache had it."""

    object: ApiObject | None = None
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class PlaneSecretsStatistics:
    """Secrets referred to, those of them that are there, and those to be asked for."""

    referred: int
    held: int
    due: int
    polling: bool
    last_error: str


class PlaneSecrets:
    """The Secrets of one control plane. Lives on the event loop; :meth:`run` does the work.

    ``on_change`` is called when one that is referred to has come, changed or gone. ``clock`` is
    monotonic, s.
    """

    def __init__(
        self,
        *,
        namespace: str = "",
        cache: ObjectCache | None = None,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._namespace = namespace
        self._saved = CacheWriter(
            cache, self._held, soon_s=SAVE_S, later_s=SAVE_AGAIN_S, clock=clock
        )
        self._on_change = on_change
        self._clock = clock
        self._entries: dict[ObjectKey, _Entry] = {}
        self._due: dict[ObjectKey, str] = {}
        """Secrets to be asked for, with the version that a watch has shown; "" for any."""
        self._later: dict[ObjectKey, float] = {}
        self._cached: dict[ObjectKey, ApiObject] = {}
        self._polling = False
        self._row = 0  # failures in a row
        self._last_error = ""
        self._restored = False
        self._work = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._changed: dict[ObjectKey, None] = {}

    @property
    def has_changes(self) -> bool:
        """True if a change is to be taken."""
        return bool(self._changed)

    def take(self) -> dict[ObjectKey, ApiObject | None]:
        """Return the Secrets that have changed since the last call; None: gone, or not needed."""
        changed, self._changed = self._changed, {}
        return {key: self._entries[key].object if key in self._entries else None for key in changed}

    @property
    def due(self) -> int:
        """Number of Secrets that are to be asked for."""
        return len(self._due)

    def statistics(self) -> PlaneSecretsStatistics:
        """Return a snapshot."""
        held = sum(one.object is not None for one in self._entries.values())
        return PlaneSecretsStatistics(
            len(self._entries), held, len(self._due), self._polling, self._last_error
        )

    def refer_to(self, keys: Iterable[ObjectKey]) -> None:
        """Hold these Secrets, and forget all others."""
        wanted = dict.fromkeys(keys)
        for key in [key for key in self._entries if key not in wanted]:
            del self._entries[key]
            self._due.pop(key, None)
            self._later.pop(key, None)
            self._note_unsaved()
            self._changed[key] = None
        for key in wanted:
            if key not in self._entries:
                cached = self._cached.get(key)
                self._entries[key] = _Entry(cached, is_known=cached is not None)
                if cached is not None:
                    self._changed[key] = None
                self._ask(key)
        self._look_settled()

    def observe(self, changes: Iterable[ObjectChange]) -> None:
        """Take what a watch of versions shows."""
        for change in changes:
            one = change.after or change.before
            assert one is not None, "a change has one of the two"
            entry = self._entries.get(one.key)
            if entry is None:
                continue
            if change.after is None:
                self._due.pop(one.key, None)
                self._set(one.key, None)
            elif entry.object is None or entry.object.resource_version != one.resource_version:
                self._ask(one.key, one.resource_version)
        self._look_settled()

    def poll(self, *, polling: bool) -> None:
        """Ask for each from time to time: they cannot be watched. Or no longer."""
        if polling and not self._polling:
            now = self._clock()
            for key, entry in self._entries.items():
                self._later.setdefault(key, now + self._interval_of(entry))
        elif not polling and self._polling:
            self._later.clear()
        self._polling = polling
        self._work.set()

    async def settle(self, timeout_s: float) -> None:
        """Wait until each Secret was asked for, or asking fails; at most ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            return  # they count as absent until they come

    async def restore(self) -> None:
        """Read the cache, once."""
        if not self._restored:
            self._restored = True
            await self._saved.load(self._restore)

    async def run(self, client: ApiClient) -> None:
        """Ask for what is due until cancelled; write the cache once more at the end."""
        self._row = 0
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._saved.run(), name="save secrets")
                group.create_task(self._ask_for_all(client), name="ask for secrets")
        finally:
            await self._saved.save()

    async def _ask_for_all(self, client: ApiClient) -> None:
        while True:
            await self._wait()
            try:
                await self._ask_for_due(client)
            except KubernetesError as error:
                self._row += 1
                self._last_error = str(error)
                self._settled.set()
                await asyncio.sleep(doubled_s(RETRY_S, self._row, RETRY_S_MAX))
            else:
                self._row = 0
                self._last_error = ""

    async def _wait(self) -> None:
        """Wait until a Secret is due."""
        while not self._due:
            self._work.clear()
            timeout_s = 1.0 if self._later else None
            try:
                async with asyncio.timeout(timeout_s):
                    await self._work.wait()
            except TimeoutError:
                now = self._clock()
                rested = sorted((at, key) for key, at in self._later.items() if at <= now)
                for _, key in rested[:POLLS_PER_S]:
                    self._due[key] = ""

    async def _ask_for_due(self, client: ApiClient) -> None:
        if len(self._due) >= LIST_MIN:
            try:
                await self._ask_for_list(client)
            except UnreachableError:
                raise
            except KubernetesError as error:
                # Without the right to list there may be one to get; a page may be too long, or one
                # Secret that nobody refers to unreadable for the server.
                self._last_error = str(error)
            else:
                return
        while self._due:
            key, asked = next(iter(self._due.items()))
            namespace, name = key
            found: ApiObject | None = None
            try:
                body = await client.request("GET", SECRETS.path(namespace, name))
            except AbsentError:
                pass
            except RequestRefusedError as error:
                self._last_error = str(error)
                self._due.pop(key, None)
                self._later[key] = self._clock() + POLL_S
                self._look_settled()
                continue
            except KubernetesError:
                if key in self._due:
                    self._due[key] = self._due.pop(key)  # the others come first
                raise
            else:
                read = read_object(body, SECRETS)
                found = read if isinstance(read, ApiObject) else None
            self._answer(key, asked, found)
            self._look_settled()

    async def _ask_for_list(self, client: ApiClient) -> None:
        """Read all pages of a list; keep those that are due."""
        wanted = dict(self._due)
        target = WatchTarget(SECRETS, self._namespace)
        token = ""
        while True:
            page = await client.list_page(target, continue_token=token)
            part = WorkSlice()
            for item in page.items:
                read = read_object(item, SECRETS)
                if not isinstance(read, Unusable) and read.key in wanted:
                    self._answer(read.key, wanted.pop(read.key), read)
                if part.is_over:
                    await part.rest()
            token = page.continue_token
            if not token:
                break
        for key, asked in wanted.items():
            self._answer(key, asked, None)
        self._look_settled()

    def _answer(self, key: ObjectKey, asked: str, found: ApiObject | None) -> None:
        """Note the answer for a Secret that was due with version ``asked`` when it was asked for.

        It stays due if a watch has shown another version since, which the answer does not have.
        """
        due = self._due.get(key)
        if due is None:
            return  # gone since, or nothing refers to it any more
        if due == asked or (found is not None and found.resource_version == due):
            del self._due[key]
        self._set(key, found)

    def _ask(self, key: ObjectKey, version: str = "") -> None:
        self._due[key] = version
        self._settled.clear()
        self._work.set()

    def _set(self, key: ObjectKey, found: ApiObject | None) -> None:
        """Note the answer for a Secret."""
        entry = self._entries.get(key)
        if entry is None:
            return  # nothing refers to it any more
        before, entry.object = entry.object, found
        entry.is_known = True
        self._later.pop(key, None)
        if self._polling:
            self._later[key] = self._clock() + self._interval_of(entry)
        if before is not found:
            self._note_unsaved()
        if (before and before.content) != (found and found.content):
            self._changed[key] = None
            self._on_change()

    def _interval_of(self, entry: _Entry) -> float:
        return POLL_S if entry.object is not None else POLL_ABSENT_S

    def _look_settled(self) -> None:
        if not any(not self._entries[key].is_known for key in self._due if key in self._entries):
            self._settled.set()

    def _restore(self, cached: Iterable[ApiObject]) -> None:
        self._cached = {one.key: one for one in cached}

    def _held(self) -> tuple[ApiObject, ...]:
        found = (one.object for one in self._entries.values())
        return tuple(one for one in found if one is not None)

    def _note_unsaved(self) -> None:
        self._saved.note()
        self._saved.hurry()

    def __repr__(self) -> str:
        found = self.statistics()
        return f"<PlaneSecrets {found.held} of {found.referred}, {found.due} due>"
