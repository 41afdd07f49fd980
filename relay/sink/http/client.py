"""The HTTP client of the process: an asyncio.Protocol over a parser library, and a pool.

A request costs one head made before, one write and one future; a session's request and response
objects took two thirds of what a batch of 500 points costs a sink
(``python -m bench.micro.sink_cost``). The parts: :mod:`~relay.sink.http.request_head`,
:mod:`~relay.sink.http.connector`, :mod:`~relay.sink.http.connection`,
:mod:`~relay.sink.http.answer_parser`, :mod:`~relay.sink.http.pool`. The rules are those of
:mod:`relay.sink.http.interface`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from relay.config.settings.proxy import Proxy
from relay.sink.http.connection import Connection
from relay.sink.http.connector import Connector, ConnectStep, untraced
from relay.sink.http.dns_cache import DnsCache
from relay.sink.http.interface import Destination, HttpRequest
from relay.sink.http.pool import ConnectionPool
from relay.sink.http.request_head import Origin, build_head
from relay.sink.http.resolver import NameResolver, ThreadedResolver
from relay.sink.http.response import (
    RESPONSE_BYTES_MAX,
    HttpFailure,
    HttpResponse,
    RequestFailedError,
)
from relay.sink.http.tls import TlsContexts, TlsMaterial

__all__ = [
    "RESPONSE_BYTES_MAX",
    "Destination",
    "HttpRequest",
    "Transport",
    "TransportStatistics",
]

DNS_CACHE_S = 30


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """``requests`` since the start, ``in_flight`` now, ``contexts`` TLS contexts in use."""

    requests: int
    in_flight: int
    contexts: int


class _Prepared(NamedTuple):
    """A destination's origin and head, as this client sends them."""

    client: Transport
    origin: Origin
    head: bytes


class Transport:
    """Make it inside the running loop; close it, or use it as an asynchronous context manager."""

    def __init__(
        self,
        *,
        allow_private: bool,
        proxy: Proxy | None = None,
        resolver: NameResolver | None = None,
        trace: Callable[[ConnectStep], None] = untraced,
    ) -> None:
        """``resolver`` is closed with the transport; ``trace`` is told each connection's steps."""
        loop = self._loop = asyncio.get_running_loop()
        self._proxy = proxy
        self._resolver = resolver or ThreadedResolver()
        self._dns = DnsCache(self._resolver, ttl_s=DNS_CACHE_S)
        self._pool = ConnectionPool(loop)
        known: dict[bytes, HttpResponse] = {}
        self._connector = Connector(
            self._dns,
            lambda: Connection(loop, known, self._pool),
            allow_private=allow_private,
            proxy=proxy,
            trace=trace,
        )
        # A context lives as long as a sink that sends with it; sinks of equal material share one.
        self._contexts = TlsContexts()
        self._requests = 0
        self._in_flight = 0

    def context(self, material: TlsMaterial) -> ssl.SSLContext:
        """Return the TLS context for some material; keep it. Raises SecretError for faulty PEM."""
        return self._contexts.of(material)

    async def post(self, request: HttpRequest) -> HttpResponse | HttpFailure:
        """Send a request and read its whole answer. Raises ValueError for a faulty header field."""
        self._requests += 1
        self._in_flight += 1
        try:
            # In line: each coroutine more costs a frame and a step at every resumption.
            body, prepared = request.body, request.to.prepared
            if not isinstance(prepared, _Prepared) or prepared.client is not self:
                prepared = self._prepare(request.to)
            _, origin, head = prepared
            deadline = self._loop.time() + request.timeout_s
            connection = self._pool.take(origin)
            if connection is None:
                # Only here the task itself has to be interrupted, which costs more than a timer.
                async with asyncio.timeout_at(deadline):
                    connection = await self._connector.connect(origin)
            try:
                head_end = b"Content-Length: %d\r\n\r\n" % len(body)
                response = await connection.begin(head + head_end, body, deadline)
            except BaseException:
                connection.end()
                connection.abort()
                raise
            connection.end()
            if not connection.sent:  # answered before all of it was read
                connection.abort()
                if 200 <= response.status < 300:
                    text = f"HTTP {response.status} before all of the request was read"
                    return HttpFailure("unread_request", text)
            elif connection.reusable:
                self._pool.put(origin, connection)
            else:
                connection.close()
        except RequestFailedError as error:
            return error.failure
        except TimeoutError:
            return HttpFailure("timeout", f"no answer within {request.timeout_s:g} s")
        else:
            return response
        finally:
            self._in_flight -= 1

    async def close(self) -> None:
        """Close every connection; requests under way fail."""
        await self._pool.close()
        await self._dns.close()
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
        """Return a snapshot."""
        return TransportStatistics(self._requests, self._in_flight, self._contexts.count)

    def __repr__(self) -> str:
        return f"<Transport {self._in_flight} in flight of {self._requests}>"

    def _prepare(self, to: Destination) -> _Prepared:
        """Compute what all requests to a destination share. Raises as :func:`build_head`."""
        origin, head = build_head(to, self._proxy, lambda: self.context(TlsMaterial()))
        if origin.through_proxy:
            self._connector.check_literal(origin.host)
        prepared = to.prepared = _Prepared(self, origin, head)
        return prepared
