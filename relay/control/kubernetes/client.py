"""Send requests to one control plane: lists, watches, and writes.

Rules:

* At most :data:`CONNECTIONS_MAX` connections (:mod:`relay.control.kubernetes.slots`); every body
  and every wait is bounded; redirects are not followed, since a token would go along.
* Errors are translated here, once (:mod:`relay.control.kubernetes.errors`). Nothing is retried
  here: the callers know what they have lost.
* A watch whose server or network has gone without a word is noticed by TCP keepalive, and by the
  end that the watch itself asks for.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
import msgspec
from aiohttp.client_reqrep import ClientResponse
from yarl import URL

from relay import __version__
from relay.control.kubernetes.access import Credentials
from relay.control.kubernetes.errors import (
    AnswerError,
    KubernetesError,
    MalformedAnswerError,
    PageTooLargeError,
    UnreachableError,
)
from relay.control.kubernetes.kubeconfig import ClusterAccess
from relay.control.kubernetes.objects import (
    UNREADABLE,
    ApiResource,
    ListPage,
    WatchDecoder,
    WatchEvent,
    read_page,
    read_status,
    status_error,
)
from relay.control.kubernetes.slots import ConnectionSlot, ConnectionSlots, Use
from relay.runtime.errors import SecretError
from relay.sink.http.tls import TlsContexts

CONNECTIONS_MAX: Final = 3
"""Most connections to one control plane."""
PAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Longest page of a list, and answer to any request; B."""
ERROR_BYTES_MAX: Final = 64 * 1024
METADATA: Final = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
APPLY: Final = "application/apply-patch+yaml"

_KEEPALIVE = (
    ("TCP_KEEPIDLE", 30),  # s
    ("TCP_KEEPINTVL", 10),  # s
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 60_000),  # ms
)


@dataclass(frozen=True, slots=True)
class ClientTimings:
    """Limits of waiting; s. A watch asks for an end within ``watch_s`` (least, most)."""

    connect_s: float = 10.0
    answer_s: float = 30.0
    watch_s: tuple[float, float] = (300.0, 600.0)
    watch_grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class WatchTarget:
    """The objects of a list or watch: those of one namespace, or (``""``) of all.

    ``metadata_only``: they come without spec, data and status. ``use`` ranks the watch among those
    of its control plane.
    """

    resource: ApiResource
    namespace: str = ""
    metadata_only: bool = False
    use: Use = Use.MAIN_WATCH


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """Requests by outcome (HTTP status, or ``unreachable``), and the connections in use."""

    requests: Mapping[str, int]
    connections: int


_Document = TypeVar("_Document")


class WatchStream:
    """The events of one watch, in the order of the server. Ends when the server ends it."""

    def __init__(
        self, response: ClientResponse | None, decoder: WatchDecoder, slot: ConnectionSlot
    ) -> None:
        self._response = response
        self._decoder = decoder
        self._slot = slot

    @property
    def given_way(self) -> bool:
        """True if the watch was preempted: its connection is needed for another use."""
        return self._slot.given_way

    async def parts(self) -> AsyncGenerator[tuple[WatchEvent, ...], None]:
        """Yield the events of each part of the body as it comes. Raises UnreachableError."""
        response = self._response
        if response is None:
            return
        try:
            async for chunk in response.content.iter_any():
                events = tuple(self._decoder.feed(chunk))
                if events:
                    yield events
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not response.closed:
                raise  # aiohttp reports a connection that we closed by this type
            if not self._slot.given_way:
                raise UnreachableError(f"the watch broke: {_why(error)}") from error


class ApiClient:
    """One control plane. Lives on the event loop; :meth:`close` ends it.

    ``rng`` spreads the ends of watches; ``clock`` is monotonic, s.
    """

    def __init__(
        self,
        access: ClusterAccess,
        *,
        contexts: TlsContexts | None = None,
        connections_max: int = CONNECTIONS_MAX,
        timings: ClientTimings | None = None,
        page_bytes_max: int = PAGE_BYTES_MAX,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.access = access
        self.slots = ConnectionSlots(connections_max)
        self._contexts = contexts or TlsContexts()
        self._clock = clock
        self.credentials = Credentials(access, self._contexts, clock)
        self._timings = timings or ClientTimings()
        self._page_bytes_max = page_bytes_max
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._session: aiohttp.ClientSession | None = None
        self._requests: dict[str, int] = {}
        self._watches: dict[ClientResponse, None] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; watches end with an UnreachableError."""
        for response in tuple(self._watches):
            response.close()  # the session alone would leave their readers waiting
        # First, so that nobody uses a session that is being closed.
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def replace_access(self, access: ClusterAccess) -> None:
        """Send what comes next to another address or with other credentials; watches go on."""
        self.access = access
        self.credentials = Credentials(access, self._contexts, self._clock)

    def statistics(self) -> ClientStatistics:
        """Return a snapshot."""
        return ClientStatistics(dict(self._requests), self.slots.in_use)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        document: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        """Send one request and return the body of its answer. Raises KubernetesError.

        ``document`` is sent as JSON, which is YAML too. :class:`PageTooLargeError`: the answer is
        longer than the client reads.
        """
        body = None if document is None else msgspec.json.encode(document)
        headers = {"Accept": accept} | ({"Content-Type": content_type} if body is not None else {})
        slot = await self.slots.acquire(Use.REQUEST)
        try:
            async with asyncio.timeout(self._timings.answer_s):
                response = await self._send(method, path, query or {}, headers, body)
                try:
                    return await self._body(response)
                finally:
                    response.release()
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise self._unreachable(error) from error
        finally:
            slot.release()

    async def list_page(
        self,
        target: WatchTarget,
        *,
        limit: int = 500,
        continue_token: str = "",
    ) -> ListPage:
        """Return one page of a consistent list. Raises KubernetesError."""
        query = {"limit": str(limit)} | ({"continue": continue_token} if continue_token else {})
        accept = METADATA_LIST if target.metadata_only else "application/json"
        path = target.resource.path(target.namespace)
        body = await self.request("GET", path, query=query, accept=accept)
        return read_page(body)

    @asynccontextmanager
    async def watch(
        self,
        target: WatchTarget,
        *,
        resource_version: str = "",
        initial_events: bool = False,
    ) -> AsyncIterator[WatchStream]:
        """Watch from a resource version on, or with ``initial_events`` from everything there is.

        Gives the stream once the server has agreed, or an empty one if the watch is preempted
        before that. Raises KubernetesError, within the block too.
        """
        timeout_s = self._rng.uniform(*self._timings.watch_s)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, round(timeout_s))),
        }
        if initial_events:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        if resource_version:
            query["resourceVersion"] = resource_version
        accept = METADATA if target.metadata_only else "application/json"
        path = target.resource.path(target.namespace)
        slot = await self.slots.acquire(target.use)
        response: ClientResponse | None = None
        try:
            async with asyncio.timeout(timeout_s + self._timings.watch_grace_s):
                response = await self._open(slot, path, query, accept)
                if response is not None:
                    self._watches[response] = None
                    slot.give_way = response.close
                yield WatchStream(response, WatchDecoder(target.resource), slot)
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error
        finally:
            slot.give_way = None
            if response is not None:
                self._watches.pop(response, None)
                response.release()  # keeps the connection if the body has ended
            slot.release()

    async def _open(
        self, slot: ConnectionSlot, path: str, query: Mapping[str, str], accept: str
    ) -> ClientResponse | None:
        """Return the answer to a watch; None if its connection is wanted for something else."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timings.answer_s) as waiting:
                slot.give_way = lambda: waiting.reschedule(loop.time())
                if slot.given_way:
                    return None
                response = await self._send("GET", path, query, {"Accept": accept}, None)
                if response.status == 200 and not slot.given_way:
                    return response
                try:
                    if response.status != 200:
                        await self._body(response)  # raises
                        raise MalformedAnswerError(f"a watch was answered with {response.status}")
                finally:
                    response.release()
        except TimeoutError:
            if not slot.given_way:
                raise
        return None

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: dict[str, str],
        body: bytes | None,
    ) -> ClientResponse:
        try:
            authorization, context = self.credentials.current()
        except SecretError as error:
            self._count("unreachable")
            raise UnreachableError(str(error)) from error
        if self._session is None:
            self._session = _session(self.slots.connections_max)
        tls: dict[str, Any] = {}
        if context is not None:
            tls["ssl"] = context
            if self.access.server_name:
                tls["server_hostname"] = self.access.server_name
        response = await self._session.request(
            method,
            URL(self.access.server + path).with_query(query),
            headers=headers | authorization,
            data=body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timings.connect_s),
            **tls,
        )
        self._count(str(response.status))
        if response.status == 401:
            self.credentials.expire()
        return response

    async def _body(self, response: ClientResponse) -> bytes:
        """Return the body of a success. Raises AnswerError for anything else."""
        succeeded = 200 <= response.status < 300
        bytes_max = self._page_bytes_max if succeeded else ERROR_BYTES_MAX
        parts: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            parts.append(chunk)
            size += len(chunk)
            if size > bytes_max:
                response.close()
                if succeeded:
                    raise PageTooLargeError(f"an answer is longer than {bytes_max} bytes")
                break
        body = b"".join(parts)
        if not succeeded:
            raise _error_of(response, body)
        return body

    def _unreachable(self, error: Exception) -> KubernetesError:
        self._count("unreachable")
        return UnreachableError(_why(error))

    def _count(self, outcome: str) -> None:
        self._requests[outcome] = self._requests.get(outcome, 0) + 1

    def __repr__(self) -> str:
        return f"<ApiClient {self.access.server}, {self.slots.in_use} connections in use>"


def decoded(body: bytes, kind: type[_Document]) -> _Document:
    """Return an answer's body as a struct. Raises MalformedAnswerError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise MalformedAnswerError(f"an answer is no {kind.__name__}") from error


def _session(connections_max: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=connections_max, ttl_dns_cache=30, socket_factory=_kept_alive_socket
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"telemetry-relay/{__version__}", "Accept-Encoding": "identity"},
        trust_env=False,
    )


def _kept_alive_socket(address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family=address[0], type=address[1], proto=address[2])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        number = getattr(socket, option, None)
        if number is not None:
            made.setsockopt(socket.IPPROTO_TCP, number, value)
    return made


def _error_of(response: ClientResponse, body: bytes) -> AnswerError:
    retry_after_s = None
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():  # the API sends seconds, never a date
        retry_after_s = float(text[:9])
    return status_error(read_status(body), http_status=response.status, retry_after_s=retry_after_s)


def _why(error: Exception) -> str:
    """Describe a failure of connection, TLS or time."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        reason = getattr(cause, "verify_message", "") or str(cause)
        return f"the server's certificate is refused: {reason}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or error.os_error}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    return f"the connection broke: {str(error) or type(error).__name__}"
