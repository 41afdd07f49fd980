"""A second implementation of the HTTP client's interface: aiohttp's session, plain and slow.

It is what the contract is measured by: a test that only the relay's own client can pass would be a
test of that client, not of the interface.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from asyncio import timeout
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver
from aiohttp.http import HttpProcessingError
from yarl import URL

from relay.config.settings.proxy import Proxy
from relay.runtime.errors import ForbiddenAddressError
from relay.sink.http.address_guard import check_address
from relay.sink.http.interface import HttpRequest
from relay.sink.http.resolver import ThreadedResolver
from relay.sink.http.response import RESPONSE_BYTES_MAX, HttpFailure, HttpResponse
from relay.sink.http.tls import TlsMaterial, build_context

PIECE_BYTES = 65536


class RefusedError(OSError):
    """An address that endpoints may not have."""


class Body:
    """A request's body in pieces; ``left`` is what was not asked for yet."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = len(data)

    async def pieces(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), PIECE_BYTES):
            piece = self.data[start : start + PIECE_BYTES]
            yield piece
            self.left -= len(piece)


class SessionClient:
    """``aiohttp.ClientSession`` as a :class:`relay.sink.http.interface.HttpClient`."""

    def __init__(
        self,
        *,
        allow_private: bool,
        proxy: Proxy | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._proxy = proxy
        self._resolver = resolver or ThreadedResolver()
        self._direct = self._make_session(guarded=True)
        self._through_proxy = self._make_session(guarded=False)

    def context(self, material: TlsMaterial) -> ssl.SSLContext:
        return build_context(material)

    async def post(self, request: HttpRequest) -> HttpResponse | HttpFailure:
        body = Body(request.body)
        try:
            async with timeout(request.timeout_s):
                response = await self._exchange(request, body)
        except (aiohttp.ClientError, HttpProcessingError, TimeoutError, RefusedError) as error:
            return translate(error)
        if isinstance(response, HttpResponse) and body.left and 200 <= response.status < 300:
            return HttpFailure("unread_request", "a success before all of the request was read")
        return response

    async def close(self) -> None:
        await self._direct.close()
        await self._through_proxy.close()
        await self._resolver.close()

    async def _exchange(self, request: HttpRequest, body: Body) -> HttpResponse | HttpFailure:
        to = request.to
        try:
            url = URL(to.url, encoded=True)
            port = url.port
        except ValueError as error:
            raise aiohttp.InvalidURL(to.url) from error
        if url.scheme not in ("http", "https") or not port:
            raise aiohttp.InvalidURL(to.url)
        options: dict[str, object] = {}
        headers = {**to.headers, "Content-Length": str(len(request.body))}
        session = self._direct
        proxy = self._proxy
        if proxy is not None and proxy.serves(url.host or ""):
            session = self._through_proxy
            self._check_literal(url.host or "")
            options = {"proxy": proxy.url, "proxy_headers": proxy.headers}
            if url.scheme == "http":  # a session tells them to the proxy for tunnels only
                headers |= proxy.headers
        async with session.post(
            url,
            data=body.pieces() if request.body else None,
            headers=headers,
            ssl=to.tls or True,
            server_hostname=to.server_name or None,
            allow_redirects=False,
            **options,
        ) as answer:
            if answer.status < 100:
                return HttpFailure("invalid_http", "no status of HTTP")
            content = bytearray()
            async for piece in answer.content.iter_any():
                content += piece
                if len(content) > RESPONSE_BYTES_MAX:
                    answer.close()
                    return HttpFailure("response_too_large", "too much")
            # aiohttp 3.12 leaves blanks behind a value, which are no part of it (RFC 9110).
            found = {name.lower(): value.rstrip(" \t") for name, value in answer.headers.items()}
            if body.left:
                answer.close()
            return HttpResponse(answer.status, found, bytes(content))

    def _make_session(self, *, guarded: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,
            # Its idle connections take what comes unasked for the next request's answer.
            force_close=True,
            resolver=self._resolver,
            socket_factory=self._make_socket if guarded else make_any_socket,
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers={"Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(),
        )

    def _make_socket(self, info: AddrInfoType) -> socket.socket:
        self._check(str(info[4][0]))
        return make_any_socket(info)

    def _check_literal(self, host: str) -> None:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        self._check(host)

    def _check(self, address: str) -> None:
        try:
            check_address(address, allow_private=self._allow_private)
        except ForbiddenAddressError as error:
            raise RefusedError(13, "not allowed") from error


def make_any_socket(info: AddrInfoType) -> socket.socket:
    return socket.socket(*info[:3])


def translate(error: Exception) -> HttpFailure:
    """The failure that an exception of aiohttp stands for."""
    match error:
        case RefusedError() | aiohttp.ClientConnectorError(os_error=RefusedError()):
            return HttpFailure("forbidden_address", "not allowed")
        case TimeoutError():
            return HttpFailure("timeout", "no answer in time")
        case aiohttp.ClientSSLError():
            return HttpFailure("tls_failed", "TLS failed")
        case aiohttp.ClientConnectorError() | aiohttp.ClientHttpProxyError() | aiohttp.InvalidURL():
            return HttpFailure("connect_failed", "no connection")
        case aiohttp.ClientOSError() if isinstance(error.__cause__, ssl.SSLError):
            return HttpFailure("tls_failed", "TLS failed")
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError():
            return HttpFailure("disconnected", "the connection ended")
        case _:
            return HttpFailure("invalid_http", "no HTTP")
