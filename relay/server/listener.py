"""One aiohttp application on one address: what both listeners share.

aiohttp's defaults that do not fit a receiver of remote write are set here, with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

from relay.errors import ConfigError, Fault
from relay.settings import Address

SERVER_HEADER = {"Server": "relay"}
"""Instead of aiohttp's own, which tells strangers the versions of aiohttp and Python."""
IDLE_TIMEOUT_S = 330.0
"""How long a connection may stay without a whole request head. Prometheus closes its own after five
minutes, and closing first would cost it a failed request."""
LINGER_S = 5.0
"""How long an unwanted body is read and thrown away: its sender shall see the answer, not a
reset."""
CUT_AFTER_S = 0.5
"""How long :meth:`Listener.stop` waits for handlers; aiohttp reads nothing more by then."""
CONNECTIONS_MAX = 1024
"""Connections that are open at the same time; one more is closed at once. A connection without a
request costs only its descriptor, but descriptors are what sinks need, too."""
BACKLOG = 512
"""Connections that may wait to be accepted; one Prometheus opens up to 50 at once."""

_log = logging.getLogger("relay.server")


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener:
    """Starts and stops one application, or one ``service`` that handles every request itself, which
    costs less: an application finds a route, and a handler behind it, for each.

    ``setting`` names the address in faults; ``on_malformed`` is told of every request that is no
    HTTP.
    """

    def __init__(
        self,
        service: web.Application | Handler,
        address: Address,
        *,
        setting: str,
        tls: ssl.SSLContext | None = None,
        on_malformed: Callable[[], None] = lambda: None,
    ) -> None:
        self._setting = setting
        self._wanted = address
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._bound: Address | None = None
        self._service = service
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
            return web.AppRunner(self._service, shutdown_timeout=CUT_AFTER_S, **options)
        return web.ServerRunner(web.Server(self._service, **options), shutdown_timeout=CUT_AFTER_S)

    async def start(self) -> None:
        """Listen. Raises ConfigError where the address cannot be had."""
        runner = self._runner = self._make_runner()
        await runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._connection,
                # As aiohttp has it, no host is every interface.
                self._wanted.host or None,
                self._wanted.port,
                ssl=self._tls,
                backlog=BACKLOG,
                reuse_address=True,
            )
        except OSError as error:
            await runner.cleanup()
            where = f"{self._wanted.host}:{self._wanted.port}"
            message = f"cannot listen on {where}: {error.strerror or error}"
            raise ConfigError([Fault(self._setting, message)]) from error
        host, port = self._server.sockets[0].getsockname()[:2]
        self._bound = Address(host, port)

    def _connection(self) -> asyncio.Protocol:
        assert self._runner is not None
        server = self._runner.server
        assert server is not None
        return server() if len(server.connections) < CONNECTIONS_MAX else _TurnedAway()

    async def refuse_connections(self) -> None:
        """Stop listening; connections that are open go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def stop(self) -> None:
        """Stop listening and close every connection, idle ones at once."""
        await self.refuse_connections()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def address(self) -> Address:
        """Where it listens, with the port that was given for 0; only after :meth:`start`."""
        assert self._bound is not None
        return self._bound

    def __repr__(self) -> str:
        where = self._bound or self._wanted
        return f"<Listener {self._setting} {where.host}:{where.port}>"


class _TurnedAway(asyncio.Protocol):
    """Closes a connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by type.
        cast("asyncio.Transport", transport).abort()


class _ProtocolLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log. Malformed HTTP is whatever strangers send: counted, not logged."""

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
