"""An HTTP server on 127.0.0.1, for endpoints and proxies of tests."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from aiohttp import web

from tests.kit.http.closing import clean_up

BODY_BYTES_MAX = 1 << 30


class LoopbackServer(ABC):
    """Answers requests from :meth:`open` to :meth:`close`, or within ``async with``.

    ``port`` 0 takes a free one, which is kept when the server is opened again. ``path`` is a
    pattern of aiohttp's router, ``method`` a method or ``*``. Bodies come as they were sent,
    compressed or not.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        path: str = "/{path:.*}",
        method: str = "POST",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._port = port
        self._path = path
        self._method = method
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @abstractmethod
    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""

    @property
    def origin(self) -> str:
        """Scheme, host and port; the port is known once the server is open."""
        scheme, host = ("https", "localhost") if self._tls else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self._port}"

    async def open(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route(self._method, self._path, self.handle)
        self._runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self._port, ssl_context=self._tls, reuse_address=True
        )
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Close every connection, and listen no more."""
        if self._runner is not None:
            await clean_up(self._runner)
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
