"""Sinks that stand in one packing line: what one of them does is nothing to the others."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import SecretRef, Sink
from relay.runtime.errors import SecretError
from relay.sink.build import SinkDependencies, SinkEnvironment, build_worker
from relay.sink.encode_scheduler import SLICE_S, EncodeScheduler
from relay.sink.http.client import Transport
from relay.sink.otlp_http import OtlpEncoder
from relay.sink.queue.fair_share import BufferedBytes
from relay.sink.reporting.statistics import SinkStatistics
from relay.sink.retry.circuit_breaker import CircuitBreakers
from relay.sink.spill.owner import Owner
from relay.sink.spill.store import QueueStore
from relay.sink.worker import SinkWorker
from tests.kit.batches import sealed_batch
from tests.kit.holds import Holds
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.sink_harness import sink_config, unreachable, until_all


def no_secret(reference: SecretRef, _default_key: str) -> str:
    raise SecretError(f'secret "{reference.name}" has no key')


class Line:
    """Some sinks, the line that they share, by a clock that only jobs move, and what they hold."""

    def __init__(self, transport: Transport, store: QueueStore | None = None) -> None:
        self.now = 0.0
        self.encode_scheduler = EncodeScheduler(lambda: self.now)
        self.memory = BufferedBytes()
        self.holds = Holds()
        self.workers: list[SinkWorker] = []
        self.offsets = 0
        self._transport = transport
        self._store = store

    def add(self, config: Sink) -> SinkWorker:
        """A sink more."""
        number = len(self.workers)
        rng = random.Random(number)
        environment = SinkEnvironment(
            self._transport,
            self.holds,
            rng,
            CircuitBreakers(rng),
            self.encode_scheduler,
            self.memory,
        )
        owner = Owner("ns/name", f"out-{number}")
        store = self._store.claim(owner) if self._store else None
        dependencies = SinkDependencies(environment, no_secret, store)
        worker = build_worker(f"out-{number}", "ns/name", config, dependencies)
        worker.start()
        self.workers.append(worker)
        return worker

    def busy(self) -> None:
        """Use up the time that there is in this turn of the loop: who asks now stands in line."""

        def job() -> None:
            self.now += 2 * SLICE_S

        self.encode_scheduler.submit(job)

    def offer(self, *values: float) -> None:
        """Give all sinks the same points."""
        self.offsets += 1
        points = sealed_batch(values, position=self.offsets, opened_at=time.time())
        for worker in self.workers:
            self.holds.hold(self.offsets)
            worker.offer(points, 0)

    async def until(self, done: Callable[[SinkStatistics], bool], *workers: SinkWorker) -> None:
        """Poll, with a deadline, until the statistics of some, or all, satisfy a condition."""
        await until_all(done, *(workers or self.workers))

    async def finished(self, *workers: SinkWorker) -> None:
        """Wait until nothing of some sinks, or all, is left."""
        await self.until(lambda statistics: not statistics.ledger.queued, *workers)


@asynccontextmanager
async def standing(root: Path | None = None) -> AsyncIterator[Line]:
    """A line without sinks; those that it gets end as in a crash, unless the test ends them."""
    async with Transport(allow_private=True) as transport:
        store = QueueStore(root, bytes_max=64 << 20, sync=False) if root else None
        if store is not None:
            store.open()
        line = Line(transport, store)
        try:
            yield line
        finally:
            for worker in line.workers:
                await worker.close()
            if store is not None:
                await store.close()


async def test_the_same_points_are_packed_once_and_everybody_gets_them() -> None:
    refusals = [503, 429]

    def moody(_: Received) -> Reply:
        return Reply(refusals.pop()) if refusals else Reply()

    async with OtlpServer() as good, OtlpServer(moody) as bad, standing() as line:
        for url in (good.url, bad.url, good.url):
            line.add(sink_config(url, headers={"X-Sink": str(len(line.workers))}))
        for value in range(5):
            line.offer(value, value + 0.5)
        await line.finished()
        bodies = line.encode_scheduler.bodies
        assert (bodies.made, bodies.shared) == (5, 10)
        assert line.holds.total == 0
        assert line.memory.used == 0
    wanted = [value / 2 for value in range(10)]
    assert bad.values == wanted
    assert sorted(good.values) == sorted(wanted * 2)
    assert [one.statistics().ledger.delivered for one in line.workers] == [10, 10, 10]
    assert line.workers[1].statistics().requests == {"delivered": 5, "retry": 2}
    heads = [received.headers["X-Sink"] for received in (*good.received, *bad.received)]
    assert {head: heads.count(head) for head in sorted(heads)} == {"0": 5, "1": 7, "2": 5}


async def test_who_splits_a_shared_request_splits_its_own() -> None:
    def small(received: Received) -> Reply:
        return Reply() if len(received.values()) == 1 else Reply(413)

    async with OtlpServer() as large, OtlpServer(small) as tiny, standing() as line:
        line.add(sink_config(tiny.url))
        line.add(sink_config(large.url))
        line.offer(1, 2, 3, 4)
        await line.finished()
        assert line.encode_scheduler.bodies.shared == 1
    assert [received.values() for received in large.received] == [[1, 2, 3, 4]]
    taken = [received.values() for received in tiny.received if len(received.values()) == 1]
    assert taken == [[1], [2], [3], [4]]
    assert [one.statistics().splits for one in line.workers] == [3, 0]


@pytest.mark.parametrize("end", ["close", "leave", "reconfigure"])
async def test_one_that_packs_out_of_turn_takes_nobody_elses_place(end: str) -> None:
    async with OtlpServer() as first, OtlpServer() as second, standing() as line:
        one, other = line.add(sink_config(first.url)), line.add(sink_config(second.url))
        line.busy()
        line.offer(1)
        line.offer(2)
        assert line.encode_scheduler.waiting == 4
        if end == "close":
            await one.close("removed")
        elif end == "leave":
            await one.remove(5.0)
        else:
            one.reconfigure(sink_config(first.url, compression="none"))
            assert one.statistics().queue.payloads == 2
            assert other.statistics().queue.payloads == 0, "it waits for its turn"
        await line.finished()
        assert line.encode_scheduler.waiting == 0
        assert line.holds.total == 0
    assert second.values == [1, 2]
    ledger = one.statistics().ledger
    assert ledger.delivered + sum(ledger.dropped.values()) == 2
    if end != "close":
        assert first.values == [1, 2]


async def test_a_bug_in_one_batch_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: OtlpEncoder, sealed: SealedBatch) -> bytes:
        raise ZeroDivisionError

    async with OtlpServer() as server, standing() as line:
        line.add(sink_config(server.url))
        line.add(sink_config(server.url))
        with monkeypatch.context() as patch:
            patch.setattr(OtlpEncoder, "encode", broken)
            line.offer(1)
        line.offer(2)
        await line.finished()
        assert line.holds.total == 0
    for worker in line.workers:
        ledger = worker.statistics().ledger
        assert (ledger.delivered, ledger.dropped) == (1, {"internal_error": 1})
    assert server.values == [2, 2]


async def test_the_line_keeps_nothing_when_it_is_done() -> None:
    async with OtlpServer() as server, standing() as line:
        line.add(sink_config(server.url))
        line.add(sink_config(server.url))
        points = sealed_batch([1], opened_at=time.time())
        for made in (1, 2):
            for worker in line.workers:
                line.holds.hold(0)
                worker.offer(points, 0)
            await line.finished()
            # The same again, but long after.
            assert (line.encode_scheduler.bodies.made, line.encode_scheduler.bodies.shared) == (
                made,
                made,
            )
    assert server.values == [1, 1, 1, 1]


async def test_saving_takes_what_stands_in_line_along(tmp_path: Path) -> None:
    async with standing(tmp_path) as line:
        one, other = line.add(sink_config(unreachable())), line.add(sink_config(unreachable()))
        line.busy()
        line.offer(1)
        line.offer(2)
        assert one.oldest_positions(77) == other.oldest_positions(77) == (1,)
        one.save(at_once=True)
        assert one.statistics().queue.payloads == 2, "packed out of turn"
        await line.until(lambda statistics: bool(statistics.queue.stored_bytes), one)
        assert one.oldest_positions(77) == (77,)
        assert other.oldest_positions(77) == (1,)
        assert line.holds.held == {1: 1, 2: 1}, "the other's"


async def test_a_drain_stores_what_stands_in_line_in_order(tmp_path: Path) -> None:
    async with standing(tmp_path) as line:
        worker = line.add(sink_config(unreachable()))
        line.offer(0)
        await line.until(lambda statistics: statistics.state == "failing")
        line.busy()
        for value in range(1, 5):
            line.offer(value)
        await worker.drain(30.0)
        assert worker.statistics().ledger.queued == 5
        assert line.holds.total == 0
    async with OtlpServer() as server, standing(tmp_path) as line:
        assert line.add(sink_config(server.url)).restored_points == 5
        await line.finished()
        assert server.values == list(range(5))
