"""One sink's worker with all that it is given, against real endpoints and real files."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from relay.config.exporter.types import OtlpHttp, RetrySettings, SecretRef, Sink
from relay.runtime.errors import SecretError
from relay.sink.build import SinkDependencies, SinkEnvironment, build_worker
from relay.sink.encode_scheduler import SLICE_S, EncodeScheduler
from relay.sink.http.client import Transport
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.reporting.statistics import SinkStatistics
from relay.sink.retry.circuit_breaker import CircuitBreakers
from relay.sink.spill.owner import Owner
from relay.sink.spill.store import QueueStore
from relay.sink.worker import SinkWorker
from relay.storage.log.filesystem import Disk
from tests.kit.batches import sealed_batch
from tests.kit.holds import Holds
from tests.kit.processes import free_port
from tests.own_time import patience

BACKOFF_S = 0.01
OWNER = Owner("ns/name", "out")


def sink_config(url: str, **otlp: object) -> Sink:
    """A sink that sends everything to a URL, and tries again soon."""
    endpoint = OtlpHttp(url, timeout_s=2.0, **otlp)  # type: ignore[arg-type]
    return Sink("out", ("all",), endpoint, retry=RetrySettings(backoff_s=BACKOFF_S))


def unreachable() -> str:
    """An endpoint at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}/v1/metrics"


class SinkHarness:
    """A worker, what it holds, what its secrets are and, where it has one, its store.

    ``first`` is the last offset before its own.
    """

    def __init__(
        self,
        config: Sink,
        transport: Transport,
        *,
        store: QueueStore | None = None,
        first: int = 0,
    ) -> None:
        self.holds = Holds()
        self.memory = BufferedBytes()
        self.secrets: dict[str, str] = {"token": "sesame-one"}
        self.offsets = first
        self.encoding_s = 0.0
        # Without a store encoding takes no time but what :meth:`use_up_turn` says.
        self.encode_scheduler = (
            EncodeScheduler() if store else EncodeScheduler(lambda: self.encoding_s)
        )
        self._store = store
        rng = random.Random(3)
        environment = SinkEnvironment(
            transport,
            self.holds,
            rng,
            CircuitBreakers(rng),
            self.encode_scheduler,
            memory=self.memory,
        )
        claimed = store.claim(OWNER) if store else None
        dependencies = SinkDependencies(environment, self._secret, claimed)
        self.worker = build_worker(OWNER.sink, OWNER.exporter, config, dependencies)

    @property
    def store(self) -> QueueStore:
        """The store that it was given."""
        assert self._store is not None
        return self._store

    def _secret(self, reference: SecretRef, default_key: str) -> str:
        try:
            return self.secrets[reference.key or default_key]
        except KeyError:
            raise SecretError(f'secret "{reference.name}" has no key') from None

    def use_up_turn(self) -> None:
        """Use up the time that there is for encoding in this turn of the loop."""

        def job() -> None:
            self.encoding_s += 2 * SLICE_S

        self.encode_scheduler.submit(job)

    def offer(self, *values: float, shard: int = 0) -> None:
        """Offer a batch with these points, of a request of its own."""
        self.offsets += 1
        self.holds.hold(self.offsets)
        batch = sealed_batch(values, position=self.offsets, opened_at=time.time())
        self.worker.offer(batch, shard)

    async def until(self, done: Callable[[SinkStatistics], bool]) -> SinkStatistics:
        """Poll, with a deadline, until the statistics satisfy a condition."""
        await until_all(done, self.worker)
        return self.worker.statistics()

    async def saved(self) -> SinkStatistics:
        """Save everything; wait until nothing is in memory only."""
        self.worker.save(at_once=True)
        statistics = await self.until(lambda _: self.holds.total == 0)
        assert statistics.queue.stored_bytes or not statistics.queue.payloads
        return statistics

    async def finished(self) -> SinkStatistics:
        """Wait until nothing is left in memory or on disk, and check that nothing is held."""
        statistics = await self.until(lambda s: not s.ledger.queued)
        assert self.holds.total == 0
        assert statistics.queue.payloads == statistics.queue.bytes == 0
        assert self.memory.used == 0
        return statistics


async def until_all(done: Callable[[SinkStatistics], bool], *workers: SinkWorker) -> None:
    """Poll, with a deadline, until the statistics of all workers satisfy a condition."""
    async with patience(5.0):
        # Statistics have no event to wait for.
        while not all(done(one.statistics()) for one in workers):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running_sink(config: Sink, *, allow_private: bool = True) -> AsyncIterator[SinkHarness]:
    """A sink with its queue in memory."""
    async with Transport(allow_private=allow_private) as transport:
        harness = SinkHarness(config, transport)
        harness.worker.start()
        try:
            yield harness
        finally:
            await harness.worker.close()


@asynccontextmanager
async def stored_sink(
    root: Path, config: Sink, *, disk: Disk | None = None, first: int = 0, leave: bool = False
) -> AsyncIterator[SinkHarness]:
    """A sink with a store in one process's life, which ends as a crash does, unless the test
    drains its worker."""
    async with Transport(allow_private=True) as transport:
        store = QueueStore(root, bytes_max=64 << 20, sync=False, disk=disk)
        store.open()
        harness = SinkHarness(config, transport, store=store, first=first)
        harness.worker.start()
        try:
            yield harness
        finally:
            if not leave:
                await harness.worker.close()
            await store.close()
