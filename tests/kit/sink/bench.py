"""A worker of any sink kind, an endpoint by a script, and a store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import (
    Compression,
    RetrySettings,
    Sink,
)
from relay.runtime.errors import SecretError
from relay.sink.build import SinkDependencies, SinkEnvironment, build_worker
from relay.sink.http.client import Transport
from relay.sink.reporting.statistics import SinkStatistics
from relay.sink.retry.circuit_breaker import CircuitBreakers
from relay.sink.spill.owner import Owner
from relay.sink.spill.store import QueueStore, SinkStore
from relay.sink.worker import SinkWorker
from tests.kit.batches import sealed_batch
from tests.kit.holds import Holds
from tests.kit.http.closing import clean_up
from tests.kit.sink.kinds import WRITE_2, Case, values_of_remote_write_2
from tests.own_time import patience

OWNER = Owner("ns/name", "out")


@dataclass
class Server:
    """Answers by a script of statuses and headers, then 200; keeps what it was sent."""

    url: str = ""
    script: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    received: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Content-Type, Content-Encoding and body of each request that was answered 200."""
    versions: list[str] = field(default_factory=list)
    """The versions of remote write of those that name one."""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        status, headers = self.script.pop(0) if self.script else (200, {})
        if status == 200:
            encoding = request.headers.get("Content-Encoding", "none")
            if request.headers["Content-Type"] == WRITE_2.kind.encoder.content_type:
                count = len(
                    values_of_remote_write_2(WRITE_2.kind.encoder.decompress(body, "snappy"))
                )
                headers["X-Prometheus-Remote-Write-Samples-Written"] = str(count)
            self.received.append((request.headers["Content-Type"], encoding, body))
            if version := request.headers.get("X-Prometheus-Remote-Write-Version"):
                self.versions.append(version)
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def serving(*script: int | tuple[int, dict[str, str]]) -> AsyncIterator[Server]:
    endpoint = Server()
    endpoint.script = [one if isinstance(one, tuple) else (one, {}) for one in script]
    # The relay compresses as its sink is told; a server that undoes that would hide the body.
    app = web.Application(handler_args={"auto_decompress": False})
    app.router.add_post("/write", endpoint.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/write"
    try:
        yield endpoint
    finally:
        await clean_up(runner)


@asynccontextmanager
async def stored(path: Path) -> AsyncIterator[SinkStore]:
    store = QueueStore(path, bytes_max=1 << 24, sync=False)
    store.open()
    try:
        yield store.claim(OWNER)
    finally:
        await store.close()


def no_secret(_reference: object, _key: str) -> str:
    raise SecretError("no secrets here")


def sink_of(case: Case, url: str, compression: Compression | None = None) -> Sink:
    compression = compression or case.compressions[-1]
    endpoint = case.endpoint(url, compression=compression, timeout_s=2.0)
    return Sink("out", ("all",), endpoint, retry=RetrySettings(backoff_s=0.01))


class Bench:
    """A worker, and the positions that it holds."""

    def __init__(
        self,
        config: Sink,
        transport: Transport,
        store: SinkStore | None = None,
        batch: Callable[..., SealedBatch] = sealed_batch,
    ) -> None:
        self.batch = batch
        rng = random.Random(3)
        self.holds = Holds()
        self.offered = 0
        environment = SinkEnvironment(transport, self.holds, rng, CircuitBreakers(rng))
        dependencies = SinkDependencies(environment, no_secret, store)
        self.worker: SinkWorker = build_worker("out", "ns/name", config, dependencies)

    def offer(self, *values: float) -> None:
        self.offered += 1
        self.holds.hold(self.offered)
        self.worker.offer(self.batch(values, position=self.offered, opened_at=4e9), 0)

    async def until(self, done: Callable[[SinkStatistics], bool]) -> SinkStatistics:
        """Poll, with a deadline, until the statistics satisfy a condition."""
        async with patience(5.0):
            # Statistics have no event to wait for.
            while not done(self.worker.statistics()):  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.002)
        return self.worker.statistics()

    async def finished(self) -> SinkStatistics:
        statistics = await self.until(lambda one: not one.ledger.queued)
        assert not self.holds.total
        return statistics


@asynccontextmanager
async def running(case: Case, config: Sink, store: SinkStore | None = None) -> AsyncIterator[Bench]:
    async with Transport(allow_private=True) as transport:
        bench = Bench(config, transport, store, case.batch)
        bench.worker.start()
        try:
            yield bench
        finally:
            await bench.worker.close()


def sent(case: Case, endpoint: Server, compression: Compression) -> Iterator[float]:
    """The points that arrived, in order; every request says what it is."""
    for content_type, encoding, body in endpoint.received:
        assert content_type == case.kind.encoder.content_type
        assert encoding == compression
        yield from case.values(case.kind.encoder.decompress(body, compression))
