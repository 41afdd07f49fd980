"""Measure a sink's cost per request: compress, queue, send, read the response, account.

``python -m bench.micro.sink_cost``. CPU time of this process alone; the endpoint is another process
on loopback. Batches are real ones (13 labels per series), encoded in advance: *compress* is only
that, *request* is everything from :meth:`~relay.sink.worker.SinkWorker.offer` to the settled
ledger, on the given number of sinks with one request in flight each. The best of several rounds,
because the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass

import uvloop

from bench.micro.journal_cost import requests
from relay.codec.compression import compress
from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.codec.otlp.point_buffer import PointBuffer
from relay.config.exporter.types import Batch, OtlpHttp, Queue, RetrySettings, Sink
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.selector.matchers import Selector
from relay.sink.build import SinkDependencies, SinkEnvironment, build_worker
from relay.sink.http.client import Transport
from relay.sink.retry.circuit_breaker import CircuitBreakers
from relay.sink.worker import SinkWorker

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
)


class Receiver(asyncio.Protocol):
    """Answer each request as soon as its body is complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._head = b""
        self._left = 0

    def data_received(self, data: bytes) -> None:
        """Count bytes only."""
        if not self._left:
            head, mark, rest = (self._head + data).partition(b"\r\n\r\n")
            if not mark:
                self._head = head
                return
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self._head, self._left, data = b"", int(length), rest
        self._left -= len(data)
        if not self._left:
            self._transport.write(ANSWER)


async def receive() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Receiver, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


class EncodedBuffer(PointBuffer):
    """A buffer whose points are encoded already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def encode(self) -> bytes:
        """Return what they were encoded to."""
        return self._data


@dataclass(frozen=True)
class Encoded:
    """A batch, encoded in advance."""

    data: bytes
    count: int

    def seal(self) -> SealedBatch:
        """Return it as a sealed batch."""
        return SealedBatch(EncodedBuffer(self.data), self.count, 0, time.time())


def encoded_batch(points: int) -> Encoded:
    """Encode real points made by the pipeline."""
    engine = MetricsPipeline()
    batch = OpenBatch(None, limit=points)
    engine.add_exporter(
        "x", "", [("all", Selector(()), [SinkOutputSpec(SinkCounter("x", "y"), [batch])])]
    )
    sealed: list[SealedBatch] = []
    for body, _ in requests(-(-points // 5000)):
        sealed += [one for _, one in engine.ingest(body, now=1e9, tick=0.0).sealed]
    return Encoded(sealed[0].point_buffer.encode(), sealed[0].count)


class Holds:
    """Sets ``done`` when the only request of a sink is settled."""

    def __init__(self, done: asyncio.Event) -> None:
        self._done = done

    def hold(self, position: int) -> None:
        """Ignore it: nothing is journaled."""

    def release(self, position: int) -> None:
        """End the wait for the request."""
        self._done.set()


def worker_of(
    port: int, transport: Transport, number: int, compression: str, done: asyncio.Event
) -> SinkWorker:
    """Build a sink with one shard; ``done`` is set when its only request is settled."""
    config = Sink(
        name="sink",
        sources=(),
        endpoint=OtlpHttp(
            url=f"http://127.0.0.1:{port}/v1/metrics",
            compression=compression,  # type: ignore[arg-type]
            concurrency=1,
            headers={"X-Scope-OrgID": "tenant"},
        ),
        batch=Batch(),
        retry=RetrySettings(),
        queue=Queue(),
    )
    rng = random.Random(1)
    environment = SinkEnvironment(transport, Holds(done), rng, CircuitBreakers(rng))
    dependencies = SinkDependencies(environment, secrets=lambda reference, key: "")
    return build_worker("sink", f"project/namespace/exporter-{number}", config, dependencies)


async def measure(port: int, batch: Encoded, sinks: int, turns: int, compression: str) -> float:
    """Return the CPU seconds of one request."""
    async with Transport(allow_private=True) as transport:
        events = [asyncio.Event() for _ in range(sinks)]
        made = [
            (worker_of(port, transport, number, compression, done), done)
            for number, done in enumerate(events)
        ]
        for worker, _ in made:
            worker.start()
        under_way = min(sinks, 8)

        async def feed(part: list[tuple[SinkWorker, asyncio.Event]], times: int) -> None:
            for _ in range(times):
                for worker, done in part:
                    done.clear()
                    worker.offer(batch.seal(), 0)
                    await done.wait()

        parts = [made[number::under_way] for number in range(under_way)]
        await asyncio.gather(*(feed(part, 1) for part in parts))
        before = time.process_time()
        await asyncio.gather(*(feed(part, turns) for part in parts))
        cost = (time.process_time() - before) / sinks / turns
        for worker, _ in made:
            ledger = worker.statistics().ledger
            assert ledger.delivered == batch.count * (turns + 1), worker.statistics()
        await asyncio.gather(*(worker.close() for worker, _ in made))
    return cost


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receiver", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compression", default="gzip", choices=("gzip", "zstd", "none"))
    parser.add_argument("--many", type=int, default=2000, help="sinks on one endpoint")
    arguments = parser.parse_args()
    if arguments.receiver:
        uvloop.run(receive())
        return
    command = [sys.executable, "-m", "bench.micro.sink_cost", "--receiver"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as receiver:
        assert receiver.stdin is not None
        assert receiver.stdout is not None
        port = int(receiver.stdout.readline())
        print(
            f"{'':28} {'bytes':>9} {'sent':>8} {'compress µs':>12} {'request µs':>11} {'rest':>6}"
        )
        for points, sinks, turns in ((500, 1, 400), (500, arguments.many, 1), (10_000, 1, 40)):
            batch = encoded_batch(points)
            best = packing = 1e9
            for _ in range(arguments.rounds):
                before = time.process_time()
                for _ in range(turns):
                    packed = compress(batch.data, arguments.compression)
                packing = min(packing, (time.process_time() - before) / turns)
                cost = uvloop.run(measure(port, batch, sinks, turns, arguments.compression))
                best = min(best, cost)
            print(
                f"{points:6} points, {sinks:6} sinks    {len(batch.data):9} {len(packed):8} "
                f"{packing * 1e6:12.0f} {best * 1e6:11.0f} {(best - packing) * 1e6:6.0f}"
            )
        receiver.stdin.close()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
