"""Requests that a part of the relay makes of the API for a user whom it knows, without a socket.

They take the way of every request: access, limits, validation, audit. The answer is collected in
memory, also one that is sent in parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from relay.apiserver.access.principals import Principal
from relay.apiserver.access.tokens import UserAuthentication
from relay.apiserver.objects.failures import unauthorized


class CollectedAnswer(AbstractStreamWriter):
    """Keeps the body of an answer that is written in parts."""

    def __init__(self) -> None:
        self.body = bytearray()

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Keep a part."""
        self.body += chunk

    async def write_eof(self, chunk: bytes = b"") -> None:
        """Keep the last part."""
        self.body += chunk

    async def drain(self) -> None:
        """Do nothing: everything is kept."""

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        """Do nothing: the parts are kept as they are."""
        del encoding, strategy

    def enable_chunking(self) -> None:
        """Do nothing: there are no chunks."""

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """Do nothing: the caller has the answer's status and headers."""
        del status_line, headers

    def __repr__(self) -> str:
        return f"<CollectedAnswer: {len(self.body)} bytes>"


class InProcessRequest(web.BaseRequest):
    """A request for ``user`` on the occasion of another one, from whose client it comes.

    ``target`` is the path with its query; ``found_again`` returns the user as it is later, None for
    one that is not admitted any more.
    """

    def __init__(
        self,
        cause: web.BaseRequest,
        user: Principal,
        method: str,
        target: URL,
        found_again: Callable[[], Awaitable[Principal | None]],
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        kept = {
            name: value
            for name in ("Host", "Origin", "User-Agent")
            if (value := cause.headers.get(name)) is not None
        }
        sent = CIMultiDict({**kept, **(headers or {}), "Content-Length": str(len(body))})
        raw = tuple((name.encode(), value.encode()) for name, value in sent.items())
        message = RawRequestMessage(
            method,
            str(target),
            cause.version,
            CIMultiDictProxy(sent),
            raw,
            should_close=False,
            compression=None,
            upgrade=False,
            chunked=False,
            url=target,
        )
        loop = asyncio.get_running_loop()
        # The limit is the body's size, so that it never pauses the client's connection.
        content = StreamReader(cause.protocol, max(len(body), 1), loop=loop)
        content.feed_data(body)
        content.feed_eof()
        self.user = user
        self.found_again = found_again
        self.collected = CollectedAnswer()
        super().__init__(message, content, cause.protocol, self.collected, cause.task, loop)

    def __repr__(self) -> str:
        return f"<InProcessRequest {self.method} {self.path} of {self.user.user}>"


async def user_of(request: web.BaseRequest, authentication: UserAuthentication) -> Principal:
    """Return the user of a request, known where it was made in process; raise ApiRefusalError."""
    if isinstance(request, InProcessRequest):
        return request.user
    user = await authentication.principal(request.headers.get("Authorization"))
    if user is None:
        raise unauthorized()
    return user


def body_of(request: InProcessRequest, response: web.StreamResponse) -> bytes:
    """Return the body of the answer to a request."""
    if not isinstance(response, web.Response) or response.prepared:
        return bytes(request.collected.body)
    return response.body if isinstance(response.body, bytes) else b""
