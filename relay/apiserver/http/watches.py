"""Answer watches: the events of a kind after a version, as lines of JSON.

A watch reads the ring of events at its own pace; one that falls behind its oldest event gets an
ERROR event with 410 and ends. Changes of other projects neither wake a watch nor leave it behind.
A watch without a version, or with 0, or that asks for initial events, begins with every object as
ADDED.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from aiohttp import web

from relay.apiserver.access.limits import Usage
from relay.apiserver.http.answers import HEADERS, AnswerForm, encode
from relay.apiserver.http.reads import Clock, Selection, version_of
from relay.apiserver.http.request_target import ReadParameters
from relay.apiserver.merging.managed_fields import JsonObject
from relay.apiserver.objects.failures import expired, too_many_requests, version_too_large
from relay.apiserver.objects.table import partial_metadata, table
from relay.apiserver.store.event_ring import (
    RingFollower,
    StoredObject,
    StoreEvent,
    VersionExpiredError,
)
from relay.apiserver.store.served_objects import ServedObjects

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
BOOKMARK_S: Final = 60.0
TIMEOUT_DEFAULT_S: Final = 1800
TIMEOUT_MAX_S: Final = 3600
WRITE_TIMEOUT_S: Final = 60.0
"""Time that a client may take to read what is sent."""
GONE_CHECK_S: Final = 5.0
"""Time until a client that is gone is noticed while nothing happens."""
_EVENTS: Final = 100
"""Events that are looked at before others run."""
_EVENTS_IN_TURN: Final = 20
"""Events that are rendered in one turn: a millisecond."""
_WRITE_BYTES: Final = 256 * 1024
"""Bytes that are rendered before they are sent; an event more at most."""


class Watcher:
    """Answers watches; ``closing`` ends them all."""

    def __init__(
        self, objects: ServedObjects, clock: Clock, closing: asyncio.Event, usage: Usage
    ) -> None:
        self._objects = objects
        self._usage = usage
        self._clock = clock
        self._closing = closing
        self._open: dict[RingFollower, _EventStream] = {}
        self._looking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Watcher of {self._objects!r}: {len(self._open)} watches>"

    async def _look_after(self) -> None:
        """Wake watches whose clients are gone, and at the end all, as long as any is open."""
        while self._open and not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(GONE_CHECK_S):
                    await self._closing.wait()
            for follower, stream in self._open.items():
                if stream.is_gone or self._closing.is_set():
                    follower.wake()

    async def watch(
        self,
        request: web.BaseRequest,
        wanted: Selection,
        parameters: ReadParameters,
        form: AnswerForm,
    ) -> web.StreamResponse:
        """Send events until the time is over, the client is gone, or the version expires."""
        if self._closing.is_set():
            # client-go waits and asks for the same version again; after an empty stream it would
            # list anew, and miss what lies between.
            raise too_many_requests("the API is stopping")
        version = version_of(parameters.version)
        if version > self._objects.version:
            raise version_too_large(version, self._objects.version)
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        stream = _EventStream(request, response, wanted, form, self._clock, self._usage)
        loop = asyncio.get_running_loop()
        asked = parameters.timeout_s or TIMEOUT_DEFAULT_S
        deadline = loop.time() + min(asked, TIMEOUT_MAX_S)
        ring = self._objects.ring(wanted.target.kind.storage_key, wanted.project)
        follower = RingFollower()
        ring.follow(wanted.project, follower)
        self._open[follower] = stream
        if self._looking is None or self._looking.done():
            self._looking = loop.create_task(self._look_after())
        try:
            with suppress(ConnectionError, TimeoutError):
                position = await self._initial(stream, wanted, parameters, version)
                await self._follow(stream, wanted, parameters, follower, position, deadline)
                await response.write_eof()
        finally:
            ring.leave(wanted.project, follower)
            del self._open[follower]
        return response

    async def _initial(
        self,
        stream: _EventStream,
        wanted: Selection,
        parameters: ReadParameters,
        version: int,
    ) -> int:
        """Send what the watch begins with; return the version after which events follow."""
        begins_with_state = parameters.initial_events
        if begins_with_state is None:
            begins_with_state = version == 0
        if not begins_with_state:
            return version or self._objects.version
        position = self._objects.version
        stored = [
            one
            for project in self._projects(wanted)
            for one in self._objects.listed(
                wanted.target.kind.storage_key, project, wanted.target.namespace
            )
        ]
        found = await wanted.selected(stored, self._objects.turns)
        for index in range(0, len(found), _EVENTS):
            await self._send(stream, [("ADDED", one) for one in found[index : index + _EVENTS]])
        if parameters.initial_events and parameters.bookmarks:
            await stream.bookmark(position, is_initial_end=True)
        return position

    def _projects(self, wanted: Selection) -> list[str]:
        names = self._objects.projects(wanted.target.kind.storage_key)
        return [name for name in names if wanted.includes(name)]

    async def _follow(
        self,
        stream: _EventStream,
        wanted: Selection,
        parameters: ReadParameters,
        follower: RingFollower,
        position: int,
        deadline: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        ring = self._objects.ring(wanted.target.kind.storage_key, wanted.project)
        bookmark_at = loop.time() + BOOKMARK_S
        while not self._closing.is_set():
            follower.begin()
            current = self._objects.version
            try:
                events = ring.after(position, _EVENTS)
            except VersionExpiredError:
                message = f"too old resource version: {position} ({ring.oldest})"
                await stream.error(expired(message).status())
                return
            if events:
                position = events[-1].version
                found = [one for event in events if (one := _event(wanted, event)) is not None]
                await self._send(stream, found)
                continue
            # Every event up to the visible version was sent.
            position = max(position, current)
            now = loop.time()
            if now >= deadline or stream.is_gone:
                return
            if now >= bookmark_at:
                bookmark_at = now + BOOKMARK_S
                if parameters.bookmarks:
                    await stream.bookmark(position)
                    continue
            first = await follower.wait(min(deadline, bookmark_at) - now)
            # What has changed before in other projects is passed over, and may be forgotten.
            position = max(position, first - 1 if first else self._objects.version)
        if parameters.bookmarks:
            # A stream that was empty is taken for a failure: the client would list anew.
            await stream.bookmark(position)

    async def _send(self, stream: _EventStream, events: list[tuple[str, StoredObject]]) -> None:
        """Send events, in turns with others."""
        for index in range(0, len(events), _EVENTS_IN_TURN):
            await self._objects.turns.turn(stream.project, in_background=True)
            await stream.send(events[index : index + _EVENTS_IN_TURN])


def _event(wanted: Selection, event: StoreEvent) -> tuple[str, StoredObject] | None:
    """Return type and object of a change as the selection sees it, None for nothing."""
    if not wanted.includes(event.last.project):
        return None
    was = event.before is not None and wanted.matches(event.before)
    is_now = event.after is not None and wanted.matches(event.after)
    if not was and not is_now:
        return None
    if is_now:
        return ("MODIFIED" if was else "ADDED"), event.last
    return "DELETED", event.last


class _EventStream:
    """Writes events in the form that the client asked for."""

    def __init__(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        wanted: Selection,
        form: AnswerForm,
        clock: Clock,
        usage: Usage,
    ) -> None:
        self._request = request
        self._usage = usage
        self._response = response
        self._wanted = wanted
        self._form = form
        self._clock = clock
        self._has_columns = False

    @property
    def project(self) -> str:
        """Project of the watch, "*" for all."""
        return self._wanted.project

    @property
    def is_gone(self) -> bool:
        """True if the client has closed its connection."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    async def send(self, events: list[tuple[str, StoredObject]]) -> None:
        """Send events, as few at once as are large."""
        lines: list[bytes] = []
        size = 0
        for kind, one in events:
            line = b'{"type":"%b","object":%b}\n' % (kind.encode(), self._body(one))
            lines.append(line)
            size += len(line)
            if size >= _WRITE_BYTES:
                await self._write(b"".join(lines))
                lines, size = [], 0
        await self._write(b"".join(lines))

    def _body(self, one: StoredObject) -> bytes:
        if not self._form.transform:
            return self._wanted.shown(one)
        return encode(self._formed(self._wanted.shown_value(one)))

    def _formed(self, value: JsonObject) -> JsonObject:
        if self._form.transform != "Table":
            return partial_metadata(value)
        metadata = {"resourceVersion": value["metadata"]["resourceVersion"]}
        with_columns, self._has_columns = not self._has_columns, True
        kind = self._wanted.target.kind
        return table(kind, [value], metadata, self._clock(), with_columns=with_columns)

    async def bookmark(self, version: int, *, is_initial_end: bool = False) -> None:
        """Send a version up to which the client has seen everything."""
        kind = self._wanted.target.kind
        metadata: JsonObject = {"resourceVersion": str(version)}
        if is_initial_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        value = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        formed = self._formed(value) if self._form.transform else value
        await self._write(encode({"type": "BOOKMARK", "object": formed}) + b"\n")

    async def error(self, status: JsonObject) -> None:
        """Send a Status, after which nothing follows."""
        await self._write(encode({"type": "ERROR", "object": status}) + b"\n")

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        with self._usage.sent(self._wanted.project, len(data)):
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._response.write(data)
