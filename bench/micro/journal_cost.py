"""Measure the journal's cost: the same requests with and without it.

``python -m bench.micro.journal_cost``. Samples per CPU-second of the whole process, threads
included, and per second; policies interleaved within each round, the best of several, because the
machine's speed drifts. 13 labels per series, 500 series per request in vmagent's order, snappy;
eight concurrent requests. Batches are discarded unencoded.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cramjam

from relay.codec.otlp.batch import OpenBatch
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.selector.matchers import Selector
from relay.storage.journal.checkpoint import Checkpoint
from relay.storage.journal.journal import FileJournal, Fsync
from relay.storage.journal.record import Record

SERIES = 5000
SERIES_PER_REQUEST = 500
AT_ONCE = 8
POLICIES: tuple[Fsync | None, ...] = (None, "never", "interval", "always")
"""None is memory only."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Samples per CPU-second and per second."""

    per_cpu_second: float
    per_second: float


def varint(value: int) -> bytes:
    """Encode a protobuf varint."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def field(number: int, payload: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def requests(rounds: int) -> list[tuple[bytes, bytes]]:
    """Return bodies as (decoded, compressed)."""
    rng = random.Random(1)
    labels = []
    for number in range(SERIES):
        pairs = {f"label_{n:02}": f"some-value-{number % (7 + n):04}" for n in range(11)}
        pairs |= {"__name__": f"requests_{number // 50}_total", "instance": f"10.0.0.{number}:9100"}
        labels.append(
            b"".join(
                field(1, field(1, key.encode()) + field(2, value.encode()))
                for key, value in sorted(pairs.items())
            )
        )
    bodies = []
    for turn in range(rounds):
        for start in range(0, SERIES, SERIES_PER_REQUEST):
            body = bytearray()
            for number in range(start, start + SERIES_PER_REQUEST):
                value = rng.getrandbits(51).to_bytes(7, "little") + b"\x40"
                stamp = varint(1_700_000_000_000 + turn * 15_000)
                body += field(1, labels[number] + field(2, b"\x09" + value + b"\x10" + stamp))
            bodies.append((bytes(body), bytes(cramjam.snappy.compress_raw(bytes(body)))))
    return bodies


def made_engine() -> MetricsPipeline:
    """Make an engine with one exporter that selects everything."""
    engine = MetricsPipeline()
    batch = OpenBatch(None, limit=500)
    target = SinkOutputSpec(SinkCounter("x", "y"), [batch])
    engine.add_exporter("x", "", [("all", Selector(()), [target])])
    return engine


async def run(bodies: list[tuple[bytes, bytes]], fsync: Fsync | None, directory: Path) -> Cost:
    """Process all requests once; ``directory`` must exist and be empty."""
    engine = made_engine()
    journal = None
    if fsync is not None:
        journal = FileJournal(directory, directory / "checkpoint", bytes_max=4 << 30, fsync=fsync)
        await journal.open()

    def take(body: bytes) -> BatchTransaction:
        transaction = engine.ingest(body, now=1e9, tick=0.0)
        for _, sealed in transaction.sealed:
            engine.offsets.release(sealed.oldest)
        return transaction

    for body, _ in bodies[: SERIES // SERIES_PER_REQUEST]:
        take(body)  # learn the series, as after a first scrape
    pending = iter(bodies)

    async def send() -> None:
        for body, raw in pending:
            transaction = take(body)
            if journal is not None:
                await journal.append(Record(transaction.request, 1e9, "snappy", None, raw))
            else:
                await asyncio.sleep(0)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(send() for _ in range(AT_ONCE)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if journal is not None:
        assert journal.statistics().unjournaled_requests == 0
        await journal.close(Checkpoint(), trim_below=1 << 60)
    samples = len(bodies) * SERIES_PER_REQUEST
    return Cost(samples / cpu, samples / wall)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=40, help="samples of each series")
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    arguments = parser.parse_args()
    bodies = requests(arguments.turns)
    best: dict[Fsync | None, Cost] = {}
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        for turn in range(arguments.rounds):
            for fsync in POLICIES:
                place = Path(directory) / f"{turn}-{fsync}"
                place.mkdir()
                cost = asyncio.run(run(bodies, fsync, place))
                known = best.get(fsync, Cost(0, 0))
                best[fsync] = Cost(
                    max(cost.per_cpu_second, known.per_cpu_second),
                    max(cost.per_second, known.per_second),
                )
    memory = best[None]
    compressed = sum(len(raw) for _, raw in bodies) / len(bodies) / SERIES_PER_REQUEST
    print(f"{compressed:.1f} compressed bytes a sample")
    print(f"{'storage':10} {'samples/CPU-s':>14} {'ratio':>6} {'samples/s':>12} {'ratio':>6}")
    for policy, cost in best.items():
        print(
            f"{policy or 'memory':10} {cost.per_cpu_second:14,.0f} "
            f"{cost.per_cpu_second / memory.per_cpu_second:6.2f} {cost.per_second:12,.0f} "
            f"{cost.per_second / memory.per_second:6.2f}"
        )


if __name__ == "__main__":
    main()
