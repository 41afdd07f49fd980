"""A real ingest listener on loopback, what it would hand on, and clients for it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import aiohttp

from relay.config.settings.settings import Ingest, ListenAddress
from relay.pipeline.contract import IngestRequest, IngestResult
from relay.receiver.remote_write import IngestServer
from tests.kit.remote_write.raw import snappy
from tests.own_time import patience

LOOPBACK = ListenAddress("127.0.0.1", 0)
NOW = 1_700_000_000.25
VMAGENT = {"User-Agent": "vmagent", "X-VictoriaMetrics-Remote-Write-Version": "1"}
PROMETHEUS = {"User-Agent": "Prometheus/3.12.0", "X-Prometheus-Remote-Write-Version": "0.1.0"}

# One series, `up 1 @1`; the listener itself never looks into a body.
MESSAGE = bytes.fromhex("0a1d0a0e0a085f5f6e616d655f5f12027570120b09000000000000f03f1001")


_BODY = snappy(MESSAGE)


@dataclass
class Taker:
    """Stands for the pipeline: keeps what it is given, and answers or raises ``outcome``."""

    outcome: IngestResult | Exception = field(default_factory=lambda: IngestResult(samples=1))
    calls: list[IngestRequest] = field(default_factory=list)

    @property
    def is_free(self) -> bool:
        """True unless a subclass makes requests wait."""
        return type(self).accept is Taker.accept

    async def accept(self, request: IngestRequest) -> IngestResult:
        """See :class:`relay.pipeline.contract.IngestHandler`."""
        return self.accept_at_once(request)

    def accept_at_once(self, request: IngestRequest) -> IngestResult:
        """Do the same at once."""
        self.calls.append(request)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Reply(NamedTuple):
    """An answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Running:
    """A listener that runs, what it hands on, and a client's session."""

    server: IngestServer
    taker: Taker
    session: aiohttp.ClientSession
    scheme: str

    def url(self, path: str = "/api/v1/write") -> str:
        """Where a path is, on the port that was given."""
        return f"{self.scheme}://{self.server.address.host}:{self.server.address.port}{path}"

    async def send(
        self,
        data: object = _BODY,
        *,
        path: str = "/api/v1/write",
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request with exactly these headers and no others that mean something."""
        async with self.session.request(
            method,
            self.url(path),
            data=data,
            headers=headers,
            skip_auto_headers=("Content-Type", "User-Agent", "Accept-Encoding"),
        ) as response:
            return Reply(response.status, response.headers, await response.read())

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A bare connection, closed with the block."""
        address = self.server.address
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(ConnectionError):  # where the test has aborted it
                await writer.wait_closed()


@asynccontextmanager
async def running(
    settings: Ingest | None = None,
    *,
    taker: Taker | None = None,
    client_tls: ssl.SSLContext | None = None,
    bodies_bytes_max: int = 1 << 30,
) -> AsyncIterator[Running]:
    """Run a listener on a free loopback port for as long as the block lasts."""
    settings = settings or Ingest()
    taker = taker or Taker()
    server = IngestServer(LOOPBACK, settings, bodies_bytes_max=bodies_bytes_max, clock=lambda: NOW)
    await server.start(taker)
    connector = aiohttp.TCPConnector(ssl=client_tls) if client_tls else aiohttp.TCPConnector()
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Running(server, taker, session, "https" if settings.tls else "http")
    finally:
        await server.stop(timeout_s=0)


async def eventually(condition: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    """Wait until a condition holds, by asking again and again; fails after ``timeout_s``."""
    async with patience(timeout_s):
        while not condition():  # noqa: ASYNC110 - code under test has no event to wait for
            await asyncio.sleep(0.001)
