"""One HTTP service on one address: what all listeners share.

Usual requests are served as :mod:`relay.receiver.http.usual_requests` reads them, others by
:mod:`relay.receiver.http.aiohttp_server`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from relay.config.settings.settings import ListenAddress
from relay.receiver.http.connection_limit import (
    CUT_AFTER_S,
    Connections,
    ConnectionStatistics,
    ListenerRole,
    ServedConnection,
    connections_max,
)
from relay.receiver.http.handshakes import TlsServer
from relay.receiver.http.usual_requests import AtOnce, UsualRequests
from relay.runtime.errors import ConfigError, Fault
from relay.runtime.event_loop import run_in_thread

if TYPE_CHECKING:
    from relay.receiver.http.aiohttp_server import AiohttpServer, Service
    from relay.receiver.http.usual_head import UsualHead

IDLE_TIMEOUT_S = 330.0
"""Time that a connection may stay without a whole request head, s.

Prometheus closes its own after five minutes, and closing first would cost it a failed request.
"""
HANDSHAKES_PART, HANDSHAKES_LEAST = 4, 8
"""Handshakes of TLS in progress, as a part of the connections, beside them."""
BACKLOG = 512
"""Connections that may wait to be accepted; one Prometheus opens up to 50 at once."""
ACCEPT_TURNS = 3
"""Turns of the loop from accepting a connection until its protocol knows of it."""


class ListenerStatistics(NamedTuple):
    """Connections of a listener, and TLS ``handshakes`` in progress beside them."""

    connections: ConnectionStatistics
    handshakes: int


class UsualService(NamedTuple):
    """The answers of a service about usual requests.

    ``is_usual`` is asked first, for method and path: False gives a request to aiohttp. ``at_once``
    may answer before the service. ``at_cut`` gets the head and the address of a request whose
    connection ended before its body was there.
    """

    is_usual: Callable[[str, str], bool]
    at_once: AtOnce | None = None
    at_cut: Callable[[UsualHead, str], None] | None = None


class Listener:
    """Starts and stops one ``service`` for every request.

    ``setting`` names the address in faults; ``on_malformed`` is called for every request that is
    not valid HTTP; ``role`` selects the number of connections. Without ``usual`` all requests are
    aiohttp's.
    """

    def __init__(
        self,
        service: Service,
        address: ListenAddress,
        *,
        setting: str,
        tls: ssl.SSLContext | None = None,
        on_malformed: Callable[[], None] = lambda: None,
        role: ListenerRole = "ingest",
        usual: UsualService | None = None,
    ) -> None:
        self._setting = setting
        self._wanted = address
        self._tls = tls
        self._server: asyncio.Server | TlsServer | None = None
        self._bound: ListenAddress | None = None
        self._service = service
        self._role: ListenerRole = role
        self._usual_service = usual
        self.usual: UsualRequests | None = None
        """Connections that aiohttp has not."""
        self._connections: Connections[ServedConnection] | None = None
        self._tls_server: TlsServer | None = None
        self._on_malformed = on_malformed
        self._aiohttp: AiohttpServer | None = None
        self._importing = asyncio.Lock()

    async def start(self) -> None:
        """Listen. Raises ConfigError if the address cannot be used."""
        self._connections = Connections(connections_max(self._role))
        try:
            self._server = await self._listen(await self._protocols(self._connections))
        except OSError as error:
            if self._aiohttp is not None:
                await self._aiohttp.stop()
            where = f"{self._wanted.host}:{self._wanted.port}"
            message = f"cannot listen on {where}: {error.strerror or error}"
            raise ConfigError([Fault(self._setting, message)]) from error
        host, port = self._server.sockets[0].getsockname()[:2]
        self._bound = ListenAddress(host, port)

    async def _protocols(
        self, connections: Connections[ServedConnection]
    ) -> Callable[[], asyncio.Protocol]:
        """Return what makes the protocol of a new connection."""
        usual = self._usual_service
        if usual is None:
            return await self._server_of_aiohttp()
        self.usual = UsualRequests(
            self._server_of_aiohttp,
            self._service,
            connections,
            is_usual=usual.is_usual,
            idle_s=IDLE_TIMEOUT_S,
            at_once=usual.at_once,
            at_cut=usual.at_cut,
        )
        return self.usual

    async def _server_of_aiohttp(self) -> AiohttpServer:
        """Return the server of requests that are not usual; imported for the first one."""
        assert self._connections is not None, "started"
        if self._aiohttp is None:
            async with self._importing:
                if self._aiohttp is None:
                    make = await run_in_thread(_import_server)
                    made = make(
                        self._service,
                        self._connections,
                        on_malformed=self._on_malformed,
                        idle_s=IDLE_TIMEOUT_S,
                    )
                    await made.start()
                    self._aiohttp = made
        return self._aiohttp

    async def _listen(self, server: Callable[[], asyncio.Protocol]) -> asyncio.Server | TlsServer:
        host, port = self._wanted.host, self._wanted.port
        if self._tls is not None:
            most = max(HANDSHAKES_LEAST, connections_max(self._role) // HANDSHAKES_PART)
            made = self._tls_server = TlsServer(server, self._tls, handshakes_max=most)
            await made.start(host, port, BACKLOG)
            return made
        return await asyncio.get_running_loop().create_server(
            server,
            _encoded(host),
            port,
            backlog=BACKLOG,
            reuse_address=True,
        )

    async def refuse_connections(self) -> None:
        """Stop listening; open connections continue."""
        if self._server is not None:
            if not isinstance(self._server, TlsServer):
                await _settle_accepted(self._server)
            self._server.close()
            self._server = None
        if self.usual is not None:
            await self.usual.give_up_partial()

    async def stop(self) -> None:
        """Stop listening and close every connection, idle ones at once."""
        await self.refuse_connections()
        if self._tls_server is not None:
            await self._tls_server.stop()
        if self.usual is not None:
            await self.usual.stop(CUT_AFTER_S)
        if self._aiohttp is not None:
            await self._aiohttp.stop()

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


async def _settle_accepted(server: asyncio.Server) -> None:
    """Accept no more, and let the protocols of accepted connections know of them.

    Otherwise nobody closes a connection that was accepted a moment ago: asyncio's own loop loses
    its socket, and that of uvloop tells of it after all others were closed.
    """
    loop = asyncio.get_running_loop()
    for one in server.sockets:
        loop.remove_reader(one.fileno())
    for _ in range(ACCEPT_TURNS):
        await asyncio.sleep(0)


def _encoded(host: str) -> Any:
    """Return a host as a server of asyncio takes it; as aiohttp has it, none is every interface.

    Encoded, where that is possible: a str goes through the codec ``idna``, which takes 1 MiB.
    """
    return [host.encode("ascii")] if host and host.isascii() else host or None


def _import_server() -> type[AiohttpServer]:
    """Import aiohttp, which takes 10 MiB and a third of a second."""
    from relay.receiver.http.aiohttp_server import (  # noqa: PLC0415 - most relays never need it
        AiohttpServer,
    )

    return AiohttpServer
