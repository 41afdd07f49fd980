"""Send parts of a page as they change: server-sent events (HTML standard, section 9.2).

* Ticks are the same for all pages, so that a line that several pages show is rendered once.
* A part is sent where its HTML differs from what was sent, or from what the page has already.
* Streams are limited in all and by user. A page that does not read loses its stream.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from relay.ui.rendering import HEADERS

TICK_S: Final = 5.0
STREAMS_MAX: Final = 500
STREAMS_OF_USER_MAX: Final = 30
WRITE_TIMEOUT_S: Final = 30.0
DIGEST_CHARS: Final = 6
_RETRY_MS: Final = 2000


class Part(NamedTuple):
    """An element of a page by its id."""

    id: str
    html: str


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


class LiveStreams:
    """The open streams; ``clock`` is the wall clock, s."""

    def __init__(self, clock: Callable[[], float], tick_s: float = TICK_S) -> None:
        self._clock = clock
        self._tick_s = tick_s
        self._closing = asyncio.Event()
        self._users: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<LiveStreams: {self._users.total()}>"

    def close(self) -> None:
        """End every stream."""
        self._closing.set()

    def is_full(self, user: str) -> bool:
        """Return True if a user may open no further stream."""
        return self._users.total() >= STREAMS_MAX or self._users[user] >= STREAMS_OF_USER_MAX

    async def ticks(self) -> AsyncIterator[int]:
        """Yield the number of each tick, the present one first, until the streams end."""
        while not self._closing.is_set():
            number = int(self._clock() // self._tick_s)
            yield number
            pause = (number + 1) * self._tick_s - self._clock()
            try:
                async with asyncio.timeout(max(0.05, pause)):
                    await self._closing.wait()
            except TimeoutError:
                continue

    async def send(
        self,
        request: web.BaseRequest,
        user: str,
        parts: AsyncIterator[list[Part]],
        known: Mapping[str, str],
        is_valid: Callable[[], Awaitable[bool]],
    ) -> web.StreamResponse:
        """Answer with a stream of parts, until they end or the client is gone.

        ``known`` are the digests of the parts that the page has, by id. It ends, too, when the
        session is not valid any more.
        """
        if self.is_full(user):
            return web.Response(status=429, headers={**HEADERS, "Retry-After": "10"})
        headers = {**HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        self._users[user] += 1
        try:
            await response.prepare(request)
            await _write(response, f"retry: {_RETRY_MS}\n\n".encode())
            await self._follow(request, response, parts, dict(known), is_valid)
        except (ConnectionError, TimeoutError):
            request.protocol.force_close()
        finally:
            self._users[user] -= 1
            if not self._users[user]:
                del self._users[user]
        return response

    async def _follow(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        parts: AsyncIterator[list[Part]],
        sent: dict[str, str],
        is_valid: Callable[[], Awaitable[bool]],
    ) -> None:
        async for found in parts:
            transport = request.transport
            if transport is None or transport.is_closing() or not await is_valid():
                return
            events = []
            for part in found:
                digest = digest_of(part.html)
                if sent.get(part.id) != digest:
                    sent[part.id] = digest
                    events.append(_event(part))
            # A comment keeps proxies from ending what is quiet, and notices a client that is gone.
            await _write(response, b"".join(events) or b":\n\n")


def _event(part: Part) -> bytes:
    return b"event: part\ndata: " + msgspec.json.encode(part._asdict()) + b"\n\n"


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(data)
