"""One aiohttp application on one address: what both listeners share.

aiohttp's defaults that do not fit a receiver of remote write are set here, with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler as AppHandler
from aiohttp.typedefs import Middleware

from relay.config.settings.settings import ListenAddress
from relay.receiver.http.connection_limit import (
    Connections,
    ConnectionStatistics,
    ListenerRole,
    ServedConnection,
    connections_max,
)
from relay.receiver.http.handshakes import TlsServer
from relay.receiver.http.usual_requests import UsualRequests
from relay.runtime.errors import ConfigError, Fault

SERVER_HEADER = {"Server": "relay"}
"""Instead of aiohttp's own, which tells strangers the versions of aiohttp and Python."""
IDLE_TIMEOUT_S = 330.0
"""Time that a connection may stay without a whole request head, s.

Prometheus closes its own after five minutes, and closing first would cost it a failed request.
"""
LINGER_S = 5.0
"""Time for which an unwanted body is read and discarded, s.

Its sender shall see the answer, not a reset.
"""
CUT_AFTER_S = 0.5
"""Time that :meth:`Listener.stop` waits for handlers, s; aiohttp reads nothing more by then."""
HANDSHAKES_PART, HANDSHAKES_LEAST = 4, 8
"""Handshakes of TLS in progress, as a part of the connections, beside them."""
BACKLOG = 512
"""Connections that may wait to be accepted; one Prometheus opens up to 50 at once."""

_log = logging.getLogger("relay.receiver")


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ListenerStatistics(NamedTuple):
    """Connections of a listener, and TLS ``handshakes`` in progress beside them."""

    connections: ConnectionStatistics
    handshakes: int


class Listener:
    """Starts and stops one aiohttp application, or one ``service`` for every request.

    A service costs less: an application finds a route, and a handler behind it, for each request.
    ``setting`` names the address in faults; ``on_malformed`` is called for every request that is
    not valid HTTP; ``role`` selects the number of connections. ``serves_usual``: the service gets
    usual requests as :mod:`relay.receiver.http.usual_requests` reads them.
    """

    def __init__(
        self,
        service: web.Application | Handler,
        address: ListenAddress,
        *,
        setting: str,
        tls: ssl.SSLContext | None = None,
        on_malformed: Callable[[], None] = lambda: None,
        role: ListenerRole = "ingest",
        serves_usual: bool = False,
    ) -> None:
        self._setting = setting
        self._wanted = address
        self._tls = tls
        self._server: asyncio.Server | TlsServer | None = None
        self._bound: ListenAddress | None = None
        self._service = service
        self._role: ListenerRole = role
        self._serves_usual = serves_usual
        self.usual: UsualRequests | None = None
        """Connections that aiohttp has not."""
        self._connections: Connections[ServedConnection] | None = None
        self._tls_server: TlsServer | None = None
        self._log = _ProtocolLog(_log, on_malformed)
        self._runner: web.BaseRunner | None = None

    def _make_runner(self) -> web.BaseRunner:
        options: dict[str, Any] = {
            "access_log": None,  # a line per request is what counters are for
            # Otherwise aiohttp unpacks zstd and gzip bodies itself, by the label, before we can
            # bound it.
            "auto_decompress": False,
            "keepalive_timeout": IDLE_TIMEOUT_S,
            "lingering_time": LINGER_S,
            "logger": self._log,
        }
        if isinstance(self._service, web.Application):
            self._service.middlewares.insert(0, self._middleware())
            return web.AppRunner(self._service, shutdown_timeout=CUT_AFTER_S, **options)
        service = self._service

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            return await self._serve(request, service)

        return web.ServerRunner(web.Server(serve, **options), shutdown_timeout=CUT_AFTER_S)

    def _middleware(self) -> Middleware:
        @web.middleware
        async def serve(request: web.Request, handler: AppHandler) -> web.StreamResponse:
            return await self._serve(request, cast("Handler", handler))

        return serve

    async def _serve(self, request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        """Handle a request; its connection is not idle meanwhile."""
        connections, connection = self._connections, request.protocol
        assert connections is not None
        connections.begin(connection)
        try:
            response = await handler(request)
        finally:
            connections.end(connection)
        if hdrs.UPGRADE in request.headers:
            # Not accepted (RFC 9110, 7.8), but the parser loses the bytes directly behind such a
            # request: the client is told that nothing behind it was read.
            response.force_close()
        return response

    async def start(self) -> None:
        """Listen. Raises ConfigError if the address cannot be used."""
        self._connections = Connections(connections_max(self._role))
        runner = self._runner = self._make_runner()
        await runner.setup()
        assert runner.server is not None
        _watch(runner.server, self._connections)
        try:
            self._server = await self._listen(self._protocols(runner.server))
        except OSError as error:
            await runner.cleanup()
            where = f"{self._wanted.host}:{self._wanted.port}"
            message = f"cannot listen on {where}: {error.strerror or error}"
            raise ConfigError([Fault(self._setting, message)]) from error
        host, port = self._server.sockets[0].getsockname()[:2]
        self._bound = ListenAddress(host, port)

    def _protocols(self, server: web.Server) -> Callable[[], asyncio.Protocol]:
        """Return what makes the protocol of a new connection."""
        if not self._serves_usual:
            return server
        assert not isinstance(self._service, web.Application)
        assert self._connections is not None
        self.usual = UsualRequests(server, self._service, self._connections, idle_s=IDLE_TIMEOUT_S)
        return self.usual

    async def _listen(self, server: Callable[[], asyncio.Protocol]) -> asyncio.Server | TlsServer:
        host, port = self._wanted.host, self._wanted.port
        if self._tls is not None:
            most = max(HANDSHAKES_LEAST, connections_max(self._role) // HANDSHAKES_PART)
            made = self._tls_server = TlsServer(server, self._tls, handshakes_max=most)
            await made.start(host, port, BACKLOG)
            return made
        return await asyncio.get_running_loop().create_server(
            server,
            # As aiohttp has it, no host is every interface.
            host or None,
            port,
            backlog=BACKLOG,
            reuse_address=True,
        )

    async def refuse_connections(self) -> None:
        """Stop listening; open connections continue."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self.usual is not None:
            self.usual.give_up_partial()

    async def stop(self) -> None:
        """Stop listening and close every connection, idle ones at once."""
        await self.refuse_connections()
        if self._tls_server is not None:
            await self._tls_server.stop()
        if self.usual is not None:
            await self.usual.stop(CUT_AFTER_S)
        if self._runner is not None:
            await self._runner.cleanup()

    def statistics(self) -> ListenerStatistics:
        """Return a snapshot."""
        assert self._connections is not None, "started"
        handshakes = self._tls_server.handshakes if self._tls_server else 0
        return ListenerStatistics(self._connections.statistics(), handshakes)

    @property
    def address(self) -> ListenAddress:
        """Its address, with the port that was assigned for 0; only after :meth:`start`."""
        assert self._bound is not None
        return self._bound

    def __repr__(self) -> str:
        where = self._bound or self._wanted
        return f"<Listener {self._setting} {where.host}:{where.port}>"


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
            victim.force_close()

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
