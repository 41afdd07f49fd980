"""Accept connections of TLS: how many handshakes may be in progress, and for how long.

A server of asyncio with TLS tells of a connection once its handshake is over: until then nobody
counts it, and connections that never say a word take every descriptor of the process. Here a
connection is counted when it is accepted. Where one is too many, the one that has waited for
longest goes, as with connections (:mod:`relay.receiver.http.connection_limit`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from relay.receiver.http.connection_limit import Connections

HANDSHAKE_TIMEOUT_S: Final = 10.0
ACCEPT_PAUSE_S: Final = 1.0
"""Pause after a connection could not be accepted, for want of descriptors."""
_log: Final = logging.getLogger("relay.receiver")


class TlsServer:
    """Accepts connections; ``make`` returns the protocol of one whose handshake is over."""

    def __init__(
        self, make: Callable[[], asyncio.Protocol], context: ssl.SSLContext, *, handshakes_max: int
    ) -> None:
        self._make = make
        self._context = context
        self._waiting: Connections[socket.socket] = Connections(handshakes_max)
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepting: list[asyncio.Task[None]] = []
        self.sockets: list[socket.socket] = []

    def __repr__(self) -> str:
        return f"<TlsServer: {self._waiting!r}>"

    @property
    def handshakes(self) -> int:
        """Handshakes in progress."""
        return self._waiting.statistics().open

    async def start(self, host: str, port: int, backlog: int) -> None:
        """Listen, on every interface without a host; raise OSError."""
        try:
            await self._bind(host, port, backlog)
        except OSError:
            self.close()
            raise
        loop = asyncio.get_running_loop()
        self._accepting = [loop.create_task(self._accept(one)) for one in self.sockets]

    async def _bind(self, host: str, port: int, backlog: int) -> None:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                made = socket.socket(family, kind, protocol)
            except OSError:
                if len(found) == 1:
                    raise
                continue  # a kind of address that this machine does not have
            self.sockets.append(made)
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(address)
            made.listen(backlog)

    def close(self) -> None:
        """Stop listening; connections and handshakes continue."""
        for task in self._accepting:
            task.cancel()
        for one in self.sockets:
            one.close()
        self.sockets = []

    async def stop(self) -> None:
        """Stop listening, and end the handshakes in progress."""
        self.close()
        tasks = [*self._accepting, *self._handshakes]
        self._accepting = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except ConnectionError:
                continue  # gone before it was accepted
            except OSError as error:
                _log.warning("a connection cannot be accepted: %s", error.strerror)
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            victim = self._waiting.opened(accepted, address[0])
            if victim is accepted:
                accepted.close()
                continue
            if victim is not None:
                _cut(victim)
            self._begin(self._secure(accepted))

    def _begin(self, handshake: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(handshake)
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _secure(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            )
        except OSError:
            # What is no TLS, or no certificate that is accepted: the client's affair.
            accepted.close()
        except BaseException:
            _cut(accepted)
            accepted.close()
            raise
        finally:
            self._waiting.closed(accepted)


def _cut(accepted: socket.socket) -> None:
    """End a connection whose handshake is in progress; its transport closes the socket."""
    with suppress(OSError):  # it is gone already
        accepted.shutdown(socket.SHUT_RDWR)
