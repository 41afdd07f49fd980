"""The one HTTP client of the process: a request in, a response or a failure out.

Rules:

* Every foreign exception is translated here, once, into a :class:`Failure`. Anything else is a bug.
* An answer costs at most :data:`~relay.sink.http.connection.RESPONSE_BYTES_MAX` of memory and the
  request's timeout, whatever the endpoint sends. No decompression, no redirects, no cookies, no
  proxy from the environment.
* The operator's proxy, where there is one, is another's matter to protect: it resolves names, and
  only literal addresses of endpoints can be checked here.
* No limit on connections here: each sink has at most ``concurrency`` requests under way, and a
  common limit would let endpoints that never answer starve the others.
* Every socket is checked by :mod:`relay.sink.http.address_guard` at the moment it is made, for the
  very address that it will be connected to: literals, names and names that change their mind alike.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import ipaddress
import os
import re
import socket
import ssl
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from relay import __version__
from relay.config.settings.proxy import Proxy
from relay.runtime.errors import ForbiddenAddressError
from relay.sink.http.address_guard import check_address
from relay.sink.http.connection import (
    RESPONSE_BYTES_MAX,
    Connector,
    Http2AnswerError,
    TooLargeAnswerError,
    UnreadRequestError,
)
from relay.sink.http.resolver import ThreadedResolver
from relay.sink.http.response import Failure, HttpResponse
from relay.sink.http.tls import TlsMaterial, build_context

KEEPALIVE_S = 30.0
"""Longer than the default batch timeout, shorter than gateways' usual idle timeout (60 s)."""

DNS_CACHE_S = 30

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def user_agent() -> str:
    """OTLP exporter specification, "User Agent": our product before the exporter's identifier."""
    version = importlib.metadata.version("opentelemetry-proto")
    return f"relay/{__version__} OTel-OTLP-Exporter-Python/{version}"


class Destination:
    """Where POSTs go, and what all of them say besides their body; keep it for many requests.

    ``tls`` comes from :meth:`Transport.context`; None only for plain ``http``. ``server_name`` is
    checked in the certificate instead of the URL's host, where it is set.
    """

    __slots__ = ("head", "headers", "peer", "server_name", "tls", "url")

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
    ) -> None:
        self.url = url
        self.headers = headers
        self.tls = tls
        self.server_name = server_name
        self.head = b""
        """Up to the length of the body; the transport's."""
        self.peer: aiohttp.ClientRequest | None = None
        """What the connector needs to connect; the transport's."""

    def __repr__(self) -> str:
        # Not the headers: they hold credentials.
        return f"<Destination {self.url}>"


class HttpRequest(NamedTuple):
    """One POST. ``timeout_s`` bounds all of it: name resolution, connection, sending and answer."""

    to: Destination
    body: bytes
    timeout_s: float

    def __repr__(self) -> str:
        return f"<HttpRequest POST {self.to.url} {len(self.body)} bytes>"


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

    def __init__(
        self,
        *,
        allow_private: bool,
        proxy: Proxy | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """``resolver`` is closed with the transport."""
        self._allow_private = allow_private
        self._proxy = proxy
        self._resolver = resolver or ThreadedResolver()
        self._direct = self._make_connector(self._make_socket)
        self._through_proxy = self._make_connector(_make_any_socket)
        self._headers = {"User-Agent": user_agent(), "Accept-Encoding": "identity"}
        # A context lives as long as a sink that sends with it; sinks of equal material share one.
        self._contexts: weakref.WeakValueDictionary[TlsMaterial, ssl.SSLContext]
        self._contexts = weakref.WeakValueDictionary()
        self._requests = 0
        self._in_flight = 0
        self._last: tuple[RawResponseMessage, HttpResponse] | None = None
        """The last answer without a body."""

    def context(self, material: TlsMaterial) -> ssl.SSLContext:
        """The TLS context for some material; keep it. Raises SecretError for faulty PEM texts."""
        context = self._contexts.get(material)
        if context is None:
            context = self._contexts[material] = build_context(material)
        return context

    async def post(self, request: HttpRequest) -> HttpResponse | Failure:
        """Send a request and read its whole answer."""
        self._requests += 1
        self._in_flight += 1
        body = request.body
        try:
            peer = self._prepared(request.to)
            head = b"%bContent-Length: %d\r\n\r\n" % (request.to.head, len(body))
            connector = self._through_proxy if peer.proxy else self._direct
            message, content = await connector.exchange(
                peer, head, body, timeout_s=request.timeout_s
            )
        except TooLargeAnswerError as error:
            limit = f"{RESPONSE_BYTES_MAX // 1024**2} MiB"
            text = f"HTTP {error.status} with a body of more than {limit}"
            return Failure("response_too_large", text)
        except Http2AnswerError:
            text = "the answer is HTTP/2; is this a gRPC port (4317)? OTLP/HTTP is usually 4318"
            return Failure("invalid_http", text)
        except ForbiddenSocketError as error:
            return Failure("forbidden_address", str(error.strerror))
        except UnreadRequestError as error:
            return Failure(
                "unread_request", f"HTTP {error.status} before all of the request was read"
            )
        except (aiohttp.ClientError, HttpProcessingError, TimeoutError) as error:
            return _translate(error, request)
        finally:
            self._in_flight -= 1
        if content:
            return _response(message, content)
        last = self._last
        if last is None or last[0] is not message:
            # Of answers that say nothing but that all was taken, most are one and the same object.
            last = self._last = message, _response(message, content)
        return last[1]

    async def close(self) -> None:
        """Close every connection; requests under way fail."""
        await self._direct.close()
        await self._through_proxy.close()
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

    def _prepared(self, to: Destination) -> aiohttp.ClientRequest:
        """What leads the connector there; makes it, and the head, once. Raises InvalidURL."""
        if to.peer is not None:
            return to.peer
        # As the customer wrote it: a path that is signed or routed by its bytes stays so.
        try:
            url = URL(to.url, encoded=True)
        except ValueError as error:
            raise aiohttp.InvalidURL(to.url) from error
        if url.scheme not in ("http", "https") or _CONTROL.search(to.url):
            raise aiohttp.InvalidURL(to.url)
        given = {name.lower() for name in to.headers}
        ours = {name: value for name, value in self._headers.items() if name.lower() not in given}
        peer = aiohttp.ClientRequest(
            "POST",
            url,
            headers={**ours, **to.headers},
            loop=asyncio.get_running_loop(),
            ssl=to.tls or True,
            server_hostname=to.server_name or None,
            **self._proxy_options(url),
        )
        peer.headers.popall("Content-Length", None)  # of no body: each request has its own
        fields = [f"{name}: {value}" for name, value in peer.headers.items()]
        target = url.raw_path_qs
        if peer.proxy and url.scheme == "http":
            # RFC 9112 3.2.2; inside a tunnel there is no proxy to tell.
            target = str(url)
            assert self._proxy is not None
            fields += [f"{name}: {value}" for name, value in self._proxy.headers.items()]
        lines = [f"POST {target} HTTP/1.1", *fields]
        if any(_CONTROL.search(line) for line in lines):
            raise ValueError("a header holds a control character")
        to.head = "".join(f"{line}\r\n" for line in lines).encode()
        to.peer = peer
        return peer

    def _proxy_options(self, url: URL) -> dict[str, Any]:
        """Return what leads a request through the proxy; nothing where it goes there directly.

        Raises ForbiddenSocketError for a literal address that endpoints may not have.
        """
        proxy, host = self._proxy, url.host or ""
        if proxy is None or not proxy.serves(host):
            return {}
        if _is_address(host):
            self._check(host)
        # The connector would add Host, and ever after look for idle connections without it.
        headers = {**proxy.headers, "Host": url.host_port_subcomponent or host}
        return {"proxy": URL(proxy.url), "proxy_headers": headers}

    def _make_connector(self, socket_factory: Callable[[AddrInfoType], socket.socket]) -> Connector:
        return Connector(
            limit=0,
            keepalive_timeout=KEEPALIVE_S,
            ttl_dns_cache=DNS_CACHE_S,
            resolver=self._resolver,
            socket_factory=socket_factory,
        )

    def _make_socket(self, info: AddrInfoType) -> socket.socket:
        self._check(str(info[4][0]))
        return _make_any_socket(info)

    def _check(self, address: str) -> None:
        try:
            check_address(address, allow_private=self._allow_private)
        except ForbiddenAddressError as error:
            raise ForbiddenSocketError from error


def _make_any_socket(info: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = info
    return socket.socket(family, kind, protocol)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _response(message: RawResponseMessage, content: bytes) -> HttpResponse:
    headers = {name.lower(): value for name, value in message.headers.items()}
    return HttpResponse(message.code, headers, content)


def _translate(
    error: aiohttp.ClientError | HttpProcessingError | TimeoutError, request: HttpRequest
) -> Failure:
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
        case aiohttp.ClientProxyConnectionError():
            return Failure("connect_failed", f"no way to the proxy: {_os_reason(error.os_error)}")
        case aiohttp.ClientHttpProxyError():
            return Failure("connect_failed", f"the proxy refuses: HTTP {error.status}")
        case aiohttp.ClientConnectorError():
            return Failure("connect_failed", f"cannot connect: {_os_reason(error.os_error)}")
        case aiohttp.InvalidURL():
            return Failure("connect_failed", "the endpoint's URL cannot be requested")
        case aiohttp.ClientOSError() if isinstance(error.__cause__, ssl.SSLError):
            # TLS 1.3: a refused client certificate shows only after the handshake.
            return Failure("tls_failed", _tls_reason(error.__cause__))
        case HttpProcessingError():
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
