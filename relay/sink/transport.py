"""The one HTTP client of the process: a request in, a response or a failure out.

Rules:

* Every foreign exception is translated here, once, into a :class:`Failure`. Anything else is a bug.
* An answer costs at most :data:`RESPONSE_BYTES_MAX` of memory and the request's timeout, whatever
  the endpoint sends. No decompression, no redirects, no cookies, no proxy from the environment.
* No limit on connections here: each sink has at most ``concurrency`` requests under way, and a
  common limit would let endpoints that never answer starve the others.
* Every socket is checked by :mod:`relay.sink.guard` at the moment it is made, for the very address
  that it will be connected to: literals, names and names that change their mind alike.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import importlib.metadata
import io
import os
import socket
import ssl
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from relay import __version__
from relay.errors import ForbiddenAddressError
from relay.sink.exchange import Failure, HttpResponse
from relay.sink.guard import check_address
from relay.sink.resolver import ThreadedResolver
from relay.sink.tls import TlsMaterial, build_context

RESPONSE_BYTES_MAX = 4 * 1024 * 1024
"""OTLP 1.11, "OTLP/HTTP Response": clients should accept no more; above it is not retryable."""

KEEPALIVE_S = 30.0
"""Longer than the default batch timeout, shorter than gateways' usual idle timeout (60 s)."""

DNS_CACHE_S = 30

FRAMING_BYTES_MAX = 512 * 1024
"""What an endpoint may send for one request that is no body: heads, chunk sizes and extensions, and
what is received but not taken apart yet. The parser's time grows with the square of an
extension."""

HEADS_MAX = 16
"""Heads of one answer: the final one, and interim ones before it."""

_READ_BYTES = 64 * 1024
_WRITE_AT_ONCE_BYTES_MAX = 1024 * 1024
"""Larger bodies go to the socket piece by piece, so that the loop can serve others between."""


def user_agent() -> str:
    """OTLP exporter specification, "User Agent": our product before the exporter's identifier."""
    version = importlib.metadata.version("opentelemetry-proto")
    return f"relay/{__version__} OTel-OTLP-Exporter-Python/{version}"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One POST. ``timeout_s`` bounds all of it: name resolution, connection, sending and answer.

    ``tls`` comes from :meth:`Transport.context`; None only for plain ``http``. ``server_name`` is
    checked in the certificate instead of the URL's host, where it is set.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float
    tls: ssl.SSLContext | None = None
    server_name: str = ""

    def __repr__(self) -> str:
        # Not the headers: they hold credentials.
        return f"<HttpRequest POST {self.url} {len(self.body)} bytes>"


class ForbiddenSocketError(ForbiddenAddressError, OSError):
    """The guard's refusal in the one shape that connection code passes on: an OSError.

    The text is always the same: several refusals for one host then stay one error of this type.
    """

    def __init__(self) -> None:
        OSError.__init__(self, errno.EACCES, "the endpoint's address is not allowed here")


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """``requests`` since the start, ``in_flight`` now, ``contexts`` TLS contexts in use."""

    requests: int
    in_flight: int
    contexts: int


class Transport:
    """Make it inside the running loop; close it, or use it as an asynchronous context manager."""

    def __init__(self, *, allow_private: bool, resolver: AbstractResolver | None = None) -> None:
        """``resolver`` is closed with the transport."""
        self._allow_private = allow_private
        self._resolver = resolver or ThreadedResolver()
        self._session = aiohttp.ClientSession(
            connector=_Connector(
                limit=0,
                keepalive_timeout=KEEPALIVE_S,
                ttl_dns_cache=DNS_CACHE_S,
                resolver=self._resolver,
                socket_factory=self._make_socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": user_agent(), "Accept-Encoding": "identity"},
        )
        # A context lives as long as a sink that sends with it; sinks of equal material share one.
        self._contexts: weakref.WeakValueDictionary[TlsMaterial, ssl.SSLContext]
        self._contexts = weakref.WeakValueDictionary()
        self._requests = 0
        self._in_flight = 0

    def context(self, material: TlsMaterial) -> ssl.SSLContext:
        """The TLS context for some material; keep it. Raises SecretError for faulty PEM texts."""
        context = self._contexts.get(material)
        if context is None:
            context = self._contexts[material] = build_context(material)
        return context

    async def post(self, request: HttpRequest) -> HttpResponse | Failure:
        """Send a request and read its whole answer."""
        body = request.body
        self._requests += 1
        self._in_flight += 1
        try:
            async with self._session.post(
                # As the customer wrote it: a path that is signed or routed by its bytes stays so.
                URL(request.url, encoded=True),
                # The client warns about large bytes objects: see _WRITE_AT_ONCE_BYTES_MAX.
                data=body if len(body) <= _WRITE_AT_ONCE_BYTES_MAX else io.BytesIO(body),
                headers=request.headers,
                timeout=aiohttp.ClientTimeout(total=request.timeout_s),
                ssl=request.tls or True,
                server_hostname=request.server_name or None,
                allow_redirects=False,
            ) as response:
                return await _read(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            return _translate(error, request)
        finally:
            self._in_flight -= 1

    async def close(self) -> None:
        """Close every connection; requests under way fail."""
        await self._session.close()
        await self._resolver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def statistics(self) -> TransportStatistics:
        """A snapshot."""
        return TransportStatistics(self._requests, self._in_flight, len(self._contexts))

    def __repr__(self) -> str:
        return f"<Transport {self._in_flight} in flight of {self._requests}>"

    def _make_socket(self, info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        try:
            check_address(str(address[0]), allow_private=self._allow_private)
        except ForbiddenAddressError as error:
            raise ForbiddenSocketError from error
        return socket.socket(family, kind, protocol)


class _Connector(aiohttp.TCPConnector):
    """Makes connections of :class:`_BoundedHandler`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # One factory of handlers is as good as another; mypy compares the classes' exact types.
        factory: Any = functools.partial(_BoundedHandler, loop=self._loop)
        self._factory = factory


class _BoundedHandler(ResponseHandler):
    """A connection that is cut when its endpoint sends heads instead of an answer.

    HTTP allows any number of interim answers (1xx) before the final one (RFC 9110 15.2), and
    aiohttp reads them all: an endpoint that sends nothing else would cost a processor for the whole
    timeout.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._heads = 0
        self._received_bytes = 0

    def set_response_params(self, **parameters: Any) -> None:
        """Called once for each request, before its answer is read."""
        self._heads = 0
        self._received_bytes = 0
        super().set_response_params(**parameters)

    def data_received(self, data: bytes) -> None:
        """Called for whatever arrives, body or not."""
        self._received_bytes += len(data)
        body_bytes = self._payload.total_bytes if self._payload is not None else 0
        if self._received_bytes - body_bytes <= FRAMING_BYTES_MAX:
            super().data_received(data)
        else:
            self._cut("more framing than an answer needs")

    def feed_data(self, *message: Any) -> None:
        """Called once for each head."""
        self._heads += 1
        if self._heads <= HEADS_MAX:
            super().feed_data(*message)
        elif self._heads == HEADS_MAX + 1:
            self._cut("only interim answers")

    def _cut(self, why: str) -> None:
        """Close, and tell whoever waits for a head or for more of a body."""
        payload = self._payload
        self.close()
        error = aiohttp.ClientPayloadError(why)
        self.set_exception(error)
        if payload is not None:
            payload.set_exception(error)


async def _read(response: aiohttp.ClientResponse) -> HttpResponse | Failure:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_READ_BYTES):
        body += chunk
        if len(body) > RESPONSE_BYTES_MAX:
            response.close()  # not merely released: the rest must not be read
            limit = f"{RESPONSE_BYTES_MAX // 1024**2} MiB"
            message = f"HTTP {response.status} with a body of more than {limit}"
            return Failure("response_too_large", message)
    headers = {name.lower(): value for name, value in response.headers.items()}
    return HttpResponse(response.status, headers, bytes(body))


def _translate(error: aiohttp.ClientError | TimeoutError, request: HttpRequest) -> Failure:
    """Name a foreign exception. Most specific first: aiohttp's errors derive from one another."""
    match error:
        case TimeoutError():
            return Failure("timeout", f"no answer within {request.timeout_s:g} s")
        case aiohttp.ClientSSLError():
            return Failure("tls_failed", _tls_reason(error.os_error))
        case aiohttp.ClientConnectorError(os_error=ForbiddenSocketError() as refusal):
            return Failure("forbidden_address", str(refusal.strerror))
        case aiohttp.ClientConnectorDNSError():
            return Failure("connect_failed", f"cannot resolve the host: {error.os_error.strerror}")
        case aiohttp.ClientConnectorError():
            return Failure("connect_failed", f"cannot connect: {_os_reason(error.os_error)}")
        case aiohttp.InvalidURL():
            return Failure("connect_failed", "the endpoint's URL cannot be requested")
        case aiohttp.ClientOSError() if isinstance(error.__cause__, ssl.SSLError):
            # TLS 1.3: a refused client certificate shows only after the handshake.
            return Failure("tls_failed", _tls_reason(error.__cause__))
        case aiohttp.ClientResponseError():
            return Failure("invalid_http", "the answer is not HTTP")
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError():
            return Failure("disconnected", "the connection ended before a whole answer")
        case _:
            return Failure("invalid_http", f"the answer cannot be read: {type(error).__name__}")


def _os_reason(error: OSError) -> str:
    """The error's standard text. Its own text would name the address that the host resolved to."""
    return os.strerror(error.errno) if error.errno else "no address accepts connections"


def _tls_reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS failed: {error.verify_message}"
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return f"TLS failed: {(reason or 'handshake').replace('_', ' ').lower()}"
