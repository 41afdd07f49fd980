"""New connections to endpoints: resolve, check, connect, tunnel, TLS.

Rules:

* Every socket is checked by :mod:`relay.sink.http.address_guard` at the moment it is made, for the
  very address that it will be connected to: literals, names, and names whose addresses change.
* The operator's proxy resolves names itself and guards its own network; only literal addresses of
  endpoints behind it are checked here.
* Every foreign exception ends here as a :class:`~relay.sink.http.response.HttpFailure`, without the
  addresses that a name resolved to.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Callable
from typing import Literal

import aiohappyeyeballs

from relay.config.settings.proxy import Proxy
from relay.runtime.errors import ForbiddenAddressError
from relay.sink.http.address_guard import check_address
from relay.sink.http.connection import Connection, tls_reason
from relay.sink.http.dns_cache import DnsCache, ResolvedAddress
from relay.sink.http.request_head import Origin, encode_head, user_agent
from relay.sink.http.response import HttpFailure, RequestFailedError

HAPPY_EYEBALLS_DELAY_S = 0.25
"""RFC 8305 5: how long one address has before the next is tried beside it."""

TUNNEL_HEAD_BYTES_MAX = 64 * 1024
"""Maximum size of a proxy's answer before a tunnel is open, bytes."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")


class ForbiddenSocketError(ForbiddenAddressError, OSError):
    """The guard's refusal in the one shape that connection code passes on: an OSError.

    The text is always the same: several refusals for one host then stay one error of this type.
    """

    def __init__(self) -> None:
        OSError.__init__(self, errno.EACCES, "the endpoint's address is not allowed here")


ConnectStep = Literal["name", "address", "connection", "tunnel", "tls"]
"""A step of making a connection: the host's name is resolved (the proxy's, where there is one), an
address is allowed, a socket is connected, the proxy has opened a tunnel, TLS is established."""


def untraced(_step: ConnectStep) -> None:
    """Ignore a step."""


class Connector:
    """``make`` makes the protocol of a new connection; ``trace`` is told each step that is done."""

    def __init__(
        self,
        dns: DnsCache,
        make: Callable[[], Connection],
        *,
        allow_private: bool,
        proxy: Proxy | None,
        trace: Callable[[ConnectStep], None] = untraced,
    ) -> None:
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self._dns = dns
        self._make = make
        self._allow_private = allow_private
        self._proxy = proxy

    async def connect(self, origin: Origin) -> Connection:
        """Connect to an origin, through the proxy where it says so. Raises RequestFailedError.

        The caller bounds the time.
        """
        if origin.through_proxy:
            return await self._connect_through_proxy(origin)
        try:
            addresses = await self._addresses(origin.host, origin.port)
        except OSError as error:
            text = f"cannot resolve the host: {error.strerror}"
            raise RequestFailedError(HttpFailure("connect_failed", text)) from error
        self._trace("name")
        while True:
            opened, peer = await self._open(addresses, self._make_socket, "cannot connect")
            try:
                return await self._start(origin, opened)
            except RequestFailedError:
                # Behind another address may stand a server whose TLS works.
                others = [each for each in addresses if each.host != peer]
                if not others or len(others) == len(addresses):
                    raise
                addresses = others

    def check_literal(self, host: str) -> None:
        """Refuse a host that is an address which endpoints may not have; let names pass.

        Raises RequestFailedError.
        """
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return
        try:
            self._check(host)
        except ForbiddenSocketError as error:
            raise RequestFailedError(_forbidden(error)) from error

    async def _connect_through_proxy(self, origin: Origin) -> Connection:
        assert self._proxy is not None
        from yarl import URL  # noqa: PLC0415 - 2 MiB, for proxies alone

        url = URL(self._proxy.url)
        no_way = "cannot connect to the proxy"
        try:
            addresses = await self._addresses(url.raw_host or "", url.port or 0)
        except OSError as error:
            text = f"{no_way}: cannot resolve its name: {error.strerror}"
            raise RequestFailedError(HttpFailure("connect_failed", text)) from error
        self._trace("name")
        opened, _ = await self._open(addresses, _make_any_socket, no_way)
        if origin.tls is not None:
            try:
                await self._open_tunnel(origin, opened, self._proxy)
            except BaseException:
                opened.close()
                raise
            self._trace("tunnel")
        return await self._start(origin, opened)

    async def _addresses(self, host: str, port: int) -> list[ResolvedAddress]:
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            return await self._dns.lookup(host, port)
        if isinstance(literal, ipaddress.IPv6Address) and literal.scope_id:
            return await self._dns.lookup(host, port)
        family = socket.AF_INET6 if literal.version == 6 else socket.AF_INET
        return [ResolvedAddress(family, host, port)]

    async def _open(
        self,
        addresses: list[ResolvedAddress],
        make_socket: Callable[[aiohappyeyeballs.AddrInfoType], socket.socket],
        failed: str,
    ) -> tuple[socket.socket, str]:
        """Connect a socket to one of some addresses; return it and the one.

        ``failed`` begins the failure's text.
        """
        opened: socket.socket | None = None
        try:
            opened = await aiohappyeyeballs.start_connection(
                [_address_info(each) for each in addresses],
                happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S,
                interleave=1,
                loop=self._loop,
                socket_factory=make_socket,
            )
            # Both fail where the endpoint has reset the connection meanwhile.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._trace("connection")
            return opened, str(opened.getpeername()[0])
        except ForbiddenSocketError as error:
            raise RequestFailedError(_forbidden(error)) from error
        except (OSError, RuntimeError) as error:  # RuntimeError: uvloop's, for some addresses
            if opened is not None:
                opened.close()
            text = f"{failed}: {_os_reason(error)}"
            raise RequestFailedError(HttpFailure("connect_failed", text)) from error

    async def _start(self, origin: Origin, opened: socket.socket) -> Connection:
        """Hand a connected socket to the loop, with TLS where the origin has it."""
        connection = self._make()
        try:
            await self._loop.create_connection(
                lambda: connection,
                sock=opened,
                ssl=origin.tls,
                server_hostname=origin.server_name if origin.tls else None,
            )
        except BaseException as error:
            opened.close()
            connection.give_up()
            if isinstance(error, ssl.SSLError | ValueError):
                # ValueError: a server name that TLS cannot send.
                failure = HttpFailure("tls_failed", tls_reason(error))
            elif isinstance(error, OSError):
                failure = HttpFailure("connect_failed", f"cannot connect: {_os_reason(error)}")
            else:
                raise
            raise RequestFailedError(failure) from error
        if origin.tls is not None:
            self._trace("tls")
        return connection

    async def _open_tunnel(self, origin: Origin, opened: socket.socket, proxy: Proxy) -> None:
        """Ask the proxy for a tunnel (RFC 9110 9.3.6); the endpoint's headers are not for it."""
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        authority = f"{host}:{origin.port}"
        fields = [("Host", authority), ("User-Agent", user_agent()), *proxy.headers.items()]
        head = encode_head(f"CONNECT {authority} HTTP/1.1", fields) + b"\r\n"
        try:
            await self._loop.sock_sendall(opened, head)
            status = await self._read_tunnel_answer(opened)
        except OSError as error:
            text = f"the proxy ended the connection: {_os_reason(error)}"
            raise RequestFailedError(HttpFailure("connect_failed", text)) from error
        if not 200 <= status < 300:
            text = f"the proxy refuses: HTTP {status}"
            raise RequestFailedError(HttpFailure("connect_failed", text))

    async def _read_tunnel_answer(self, opened: socket.socket) -> int:
        """Return the status of a proxy's final head. Raises OSError and RequestFailedError."""
        received = b""
        while len(received) <= TUNNEL_HEAD_BYTES_MAX:
            data = await self._loop.sock_recv(opened, 8192)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the proxy closed the connection")
            received += data
            while b"\r\n\r\n" in received:
                found = _STATUS_LINE.match(received)
                if found is None:
                    break
                status = int(found[1])
                received = received.partition(b"\r\n\r\n")[2]
                if status >= 200:
                    # The endpoint speaks only after us (TLS): the proxy must not have more to say.
                    if received and status < 300:
                        break
                    return status
            else:
                continue
            break
        text = "the proxy's answer is not HTTP"
        raise RequestFailedError(HttpFailure("connect_failed", text))

    def _make_socket(self, info: aiohappyeyeballs.AddrInfoType) -> socket.socket:
        self._check(str(info[4][0]))
        self._trace("address")
        return _make_any_socket(info)

    def _check(self, address: str) -> None:
        try:
            check_address(address, allow_private=self._allow_private)
        except ForbiddenAddressError as error:
            raise ForbiddenSocketError from error


def _make_any_socket(info: aiohappyeyeballs.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = info
    return socket.socket(family, kind, protocol)


def _address_info(address: ResolvedAddress) -> aiohappyeyeballs.AddrInfoType:
    """Return an address in the form of ``getaddrinfo``."""
    family, host, port = address
    where = (host, port, 0, 0) if family == socket.AF_INET6 else (host, port)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where


def _forbidden(error: ForbiddenSocketError) -> HttpFailure:
    return HttpFailure("forbidden_address", str(error.strerror))


def _os_reason(error: OSError | RuntimeError) -> str:
    """Return the error's standard text: its own may name the address of the host."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else "no address accepts connections"
