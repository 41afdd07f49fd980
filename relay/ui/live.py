"""Send parts of a page as they change: server-sent events (HTML standard, section 9.2).

* Ticks are the same for all pages, so that what several pages show is made once; each stream has a
  turn of its own in the event loop.
* A part is sent where its HTML differs from what was sent, or from what the page has already.
* Streams are limited in all, by project and by user. A page that does not read loses its stream.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
)
from contextlib import aclosing
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from relay.apiserver.access.principals import Principal
from relay.receiver.http.connection_limit import connections_max
from relay.runtime.turn_queue import TurnQueue
from relay.ui.api_calls import ApiProblemError
from relay.ui.rendering import HEADERS

_log: Final = logging.getLogger("relay.ui")
TICK_S: Final = 5.0
STREAMS_MAX: Final = 500
STREAMS_OF_USER_MAX: Final = 30
_PROJECT_PART: Final = 4
"""Part of all streams that one project may have, where there are projects."""
WRITE_TIMEOUT_S: Final = 30.0
DIGEST_CHARS: Final = 6
_RETRY_MS: Final = 2000
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Part(NamedTuple):
    """An element of a page by its id; ``holds`` are the parts within it."""

    id: str
    html: str
    holds: tuple[Part, ...] = ()


def digest_of(html: str) -> str:
    """Return a short digest by which a part is known to be the one that was sent."""
    return hashlib.blake2b(html.encode(), digest_size=DIGEST_CHARS // 2).hexdigest()


class RowCache:
    """HTML of one tick by key."""

    def __init__(self) -> None:
        self._tick = -1
        self._rows: dict[tuple[str, str], str] = {}

    def get(self, key: tuple[str, str], tick: int) -> str | None:
        """Return what was put in at this tick, None without."""
        return self._rows.get(key) if tick == self._tick else None

    def put(self, key: tuple[str, str], tick: int, html: str) -> None:
        """Keep HTML until the next tick."""
        if tick != self._tick:
            self._tick = tick
            self._rows.clear()
        self._rows[key] = html

    def __repr__(self) -> str:
        return f"<RowCache: {len(self._rows)} rows>"


class OncePerTick(Generic[_Value]):
    """Values that several streams need at one tick, each made for the first that asks."""

    def __init__(self) -> None:
        self._tick = -1
        self._made: dict[tuple[str, ...], asyncio.Task[_Value]] = {}

    async def get(
        self, key: tuple[str, ...], tick: int, make: Callable[[], Coroutine[Any, Any, _Value]]
    ) -> _Value:
        """Return the value of this tick, or raise what making it has raised."""
        if tick != self._tick:
            self._tick, self._made = tick, {}
        task = self._made.get(key)
        if task is None:
            task = self._made[key] = asyncio.get_running_loop().create_task(make())
        return await asyncio.shield(task)  # another stream that ends must not end it

    def __repr__(self) -> str:
        return f"<OncePerTick: {len(self._made)}>"


class LiveStreams:
    """The open streams; ``clock`` is the wall clock, s, ``turns`` are those of the API."""

    def __init__(
        self, clock: Callable[[], float], turns: TurnQueue | None = None, tick_s: float = TICK_S
    ) -> None:
        self._clock = clock
        self._turns = turns or TurnQueue()
        self._tick_s = tick_s
        self._closing = asyncio.Event()
        self._users: Counter[tuple[str, str, frozenset[str]]] = Counter()
        self._projects: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<LiveStreams: {self._users.total()}>"

    def close(self) -> None:
        """End every stream."""
        self._closing.set()

    def is_full(self, user: Principal, project: str) -> bool:
        """Return True if a user may open no further stream in a project.

        At most half of the connections are streams: these are never idle, and only idle ones are
        closed to make room for others.
        """
        most = min(STREAMS_MAX, connections_max("local_api") // 2)
        of_project = max(1, most // _PROJECT_PART) if project else most
        return (
            self._projects.total() >= most
            or self._projects[project] >= of_project
            or self._users[_owner(user, project)] >= STREAMS_OF_USER_MAX
        )

    async def ticks(self, project: str = "") -> AsyncGenerator[int, None]:
        """Yield the number of each tick, the present one first, until the streams end."""
        while not self._closing.is_set():
            number = int(self._clock() // self._tick_s)
            await self._turns.turn(project, in_background=True)
            yield number
            pause = (number + 1) * self._tick_s - self._clock()
            try:
                # A clock that is set back must not stop what moves.
                async with asyncio.timeout(min(max(0.05, pause), self._tick_s)):
                    await self._closing.wait()
            except TimeoutError:
                continue

    async def send(
        self,
        request: web.BaseRequest,
        user: Principal,
        project: str,
        parts: AsyncGenerator[list[Part], None],
        known: Mapping[str, str],
        is_valid: Callable[[], Awaitable[bool]],
    ) -> web.StreamResponse:
        """Answer with a stream of parts, until they end or the client is gone.

        ``known`` are the digests of the parts that the page has, by id. It ends, too, when the
        session is not valid any more, or the API refuses what the parts are made of.
        """
        if self.is_full(user, project):
            return web.Response(status=429, headers={"Retry-After": "10"})
        headers = {**HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        owner = _owner(user, project)
        self._users[owner] += 1
        self._projects[project] += 1
        try:
            await response.prepare(request)
            await _write(response, f"retry: {_RETRY_MS}\n\n".encode())
            async with aclosing(parts):
                await self._follow(request, response, parts, known, is_valid)
        except ApiProblemError:
            pass  # the page asks again, and is told why
        except (ConnectionError, TimeoutError):
            # What waits for a client that does not read is not kept until it does.
            if request.transport is not None:
                request.transport.abort()
        except Exception:
            # The answer has begun: another one must not follow within it.
            _log.exception("bug in the relay: a page cannot be kept up to date")
        finally:
            _count_off(self._users, owner)
            _count_off(self._projects, project)
        return response

    async def _follow(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        parts: AsyncIterator[list[Part]],
        sent: Mapping[str, str],
        is_valid: Callable[[], Awaitable[bool]],
    ) -> None:
        async for found in parts:
            transport = request.transport
            if transport is None or transport.is_closing() or not await is_valid():
                return
            events = []
            now: dict[str, str] = {}
            for part in found:
                digest = now[part.id] = digest_of(part.html)
                now.update((one.id, digest_of(one.html)) for one in part.holds)
                if sent.get(part.id) != digest:
                    events.append(_event(part))
            # Of what is not on the page any more nothing is known.
            sent = now
            # A comment keeps proxies from ending what is quiet, and notices a client that is gone.
            await _write(response, b"".join(events) or b":\n\n")


def _owner(user: Principal, project: str) -> tuple[str, str, frozenset[str]]:
    """Return what a user is counted by: those of other projects may have the same name."""
    return project, user.user, user.projects


def _count_off(counter: Counter[_Key], key: _Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _event(part: Part) -> bytes:
    content = msgspec.json.encode({"id": part.id, "html": part.html})
    return b"event: part\ndata: " + content + b"\n\n"


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(data)
