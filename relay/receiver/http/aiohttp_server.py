"""aiohttp's server of a listener: for every request that is not a usual one.

Imported when the first such request comes: it takes 10 MiB, which most relays never need.
aiohttp's defaults that do not fit a receiver of remote write are set here, with the reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from aiohttp import ClientConnectionResetError, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpProcessingError

from relay.receiver.http.connection_limit import CUT_AFTER_S, Connections, ServedConnection, cut
from relay.receiver.http.whole_answer import WholeAnswer

LINGER_S = 5.0
"""Time for which an unwanted body is read and discarded, s.

Its sender shall see the answer, not a reset.
"""

_log = logging.getLogger("relay.receiver")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Service = Callable[[web.BaseRequest], Awaitable[WholeAnswer | web.StreamResponse]]


class AiohttpServer:
    """Serves ``service`` on connections that it is given; makes their protocols when called.

    ``connections`` counts them, ``on_malformed`` is called for every request that is not valid
    HTTP; ``idle_s`` is how long a connection may be without a request.
    """

    def __init__(
        self,
        service: Service,
        connections: Connections[ServedConnection],
        *,
        on_malformed: Callable[[], None],
        idle_s: float,
    ) -> None:
        self._service = service
        self._connections = connections
        self._runner = web.ServerRunner(
            web.Server(
                self._serve,
                access_log=None,  # a line per request is what counters are for
                # Otherwise aiohttp unpacks zstd and gzip bodies itself, by the label, before we can
                # bound it.
                auto_decompress=False,
                keepalive_timeout=idle_s,
                lingering_time=LINGER_S,
                logger=_ProtocolLog(_log, on_malformed),
            ),
            shutdown_timeout=CUT_AFTER_S,
        )

    async def start(self) -> None:
        """Be ready for connections."""
        await self._runner.setup()
        assert self._runner.server is not None
        _watch(self._runner.server, self._connections)

    async def stop(self) -> None:
        """Close every connection, idle ones at once."""
        await self._runner.cleanup()

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a connection."""
        assert self._runner.server is not None, "not started"
        return self._runner.server()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle a request; its connection is not idle meanwhile."""
        connections, connection = self._connections, request.protocol
        connections.begin(connection)
        try:
            answer = await self._service(request)
        finally:
            connections.end(connection)
        response = _response(answer, request) if isinstance(answer, WholeAnswer) else answer
        if hdrs.UPGRADE in request.headers:
            # Not accepted (RFC 9110, 7.8), but the parser loses the bytes directly behind such a
            # request: the client is told that nothing behind it was read.
            response.force_close()
        return response

    def __repr__(self) -> str:
        return f"<AiohttpServer of {self._connections!r}>"


def _response(answer: WholeAnswer, request: web.BaseRequest) -> web.StreamResponse:
    if (
        not answer.body
        and request.version == HttpVersion11
        and request.keep_alive
        and request.method != hdrs.METH_HEAD
        and hdrs.UPGRADE not in request.headers
    ):
        return _OneWrite(answer)
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body or None)


class _OneWrite(web.StreamResponse):
    """The most frequent answers, without content: one write.

    aiohttp makes headers and a writer for each of its own; beside a body of 2,000 samples that is a
    noticeable part of what the request costs.
    """

    def __init__(self, answer: WholeAnswer) -> None:
        super().__init__(status=answer.status, headers=answer.headers)
        self._answer = answer

    @property
    def keep_alive(self) -> bool:
        """True: that is when it is used."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the whole answer, and wait while the sender reads none of its answers."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("cannot answer: the sender has closed the connection")
        transport.write(self._answer.encode())
        await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is written."""
        assert not data


def _watch(server: web.Server, connections: Connections[ServedConnection]) -> None:
    """Count every connection of a server, and close some if there are too many."""
    made, lost = server.connection_made, server.connection_lost

    def connection_made(handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        made(handler, transport)
        name = transport.get_extra_info("peername")
        victim = connections.opened(handler, name[0] if isinstance(name, tuple) else "")
        if victim is handler:
            transport.abort()
        elif victim is not None:
            cut(victim)

    def connection_lost(handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        connections.closed(handler)
        lost(handler, exc)

    # The attribute that servers are named by, documented; there is no setting for it.
    setattr(server, "connection_made", connection_made)  # noqa: B010 - mypy knows methods only
    setattr(server, "connection_lost", connection_lost)  # noqa: B010 - mypy knows methods only


class _ProtocolLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log. Malformed HTTP can be sent by anyone: counted, not logged."""

    def __init__(self, logger: logging.Logger, on_malformed: Callable[[], None]) -> None:
        super().__init__(logger)
        self._on_malformed = on_malformed

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        if not self._is_malformed(kwargs):
            super().debug(msg, *args, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        if not self._is_malformed(kwargs):
            super().exception(msg, *args, **kwargs)

    def _is_malformed(self, kwargs: MutableMapping[str, Any]) -> bool:
        malformed = isinstance(kwargs.get("exc_info"), HttpProcessingError)
        if malformed:
            self._on_malformed()
        return malformed
