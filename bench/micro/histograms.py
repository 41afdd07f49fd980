"""Measure the cost of assembling classic histograms: ``python -m bench.micro.histograms``.

CPU time of the engine alone, µs per sample, for bodies of 2,000 samples of known series in the
order of a scrape and one sink for everything: plain counters for comparison, histograms of 12
buckets (14 series), both in turn, summaries of 3 quantiles, and histograms as deltas; 13 labels per
series besides ``le``. The best of several runs, interleaved because the machine's speed drifts.
Batches are discarded unencoded.
"""

from __future__ import annotations

import argparse
import struct
import time
from collections.abc import Callable, Iterator

from bench.micro.journal_cost import field, varint
from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.metrics import Temporality
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.routing.match_set import OutputOptions, SinkCounter, SinkOutputSpec
from relay.runtime import gc_pacing
from relay.selector.matchers import Selector

SERIES = 14_000
SERIES_PER_REQUEST = 2_000
INTERVAL_S = 15
START_MS = 1_700_000_000_000
BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
QUANTILES = ("0.5", "0.9", "0.99")

Heads = list[tuple[bytes, Callable[[int], float]]]
"""Encoded labels of each series, and its value by round."""


def labels(name: str, number: int, extra: dict[str, str]) -> bytes:
    """Encode a series' label fields: 13 and ``extra``."""
    pairs = {f"label_{n:02}": f"some-value-{number % (7 + n):04}" for n in range(11)}
    pairs |= {"__name__": name, "instance": f"10.0.{number // 250}.{number % 250}:9100"} | extra
    return b"".join(
        field(1, field(1, key.encode()) + field(2, value.encode()))
        for key, value in sorted(pairs.items())
    )


def counters(number: int) -> Heads:
    """Return 14 plain series of one target."""
    return [
        (labels(f"requests_{n:02}_total", number, {}), lambda turn: float(1000 + 7 * turn))
        for n in range(14)
    ]


def histogram(number: int) -> Heads:
    """Return the 14 series of a histogram."""
    heads: Heads = [
        (
            labels("latency_seconds_bucket", number, {"le": bound}),
            lambda turn, rank=rank: float((rank + 1) * (turn + 10)),  # type: ignore[misc]
        )
        for rank, bound in enumerate(BOUNDS)
    ]
    heads.append((labels("latency_seconds_sum", number, {}), lambda turn: 0.37 * turn))
    heads.append((labels("latency_seconds_count", number, {}), lambda turn: 12.0 * (turn + 10)))
    return heads


def summary(number: int) -> Heads:
    """Return the 5 series of a summary."""
    heads: Heads = [
        (labels("pause_seconds", number, {"quantile": bound}), lambda turn: 0.01 * turn)
        for bound in QUANTILES
    ]
    heads.append((labels("pause_seconds_sum", number, {}), lambda turn: 0.37 * turn))
    heads.append((labels("pause_seconds_count", number, {}), lambda turn: 12.0 * turn))
    return heads


def mixed(number: int) -> Heads:
    """Return counters and histograms in turn."""
    return histogram(number) if number % 2 else counters(number)


def bodies(target: Callable[[int], Heads], rounds: int) -> Iterator[bytes]:
    """Yield the decompressed requests of some rounds; the first has the metadata."""
    heads: Heads = []
    number = 0
    while len(heads) < SERIES:
        heads += target(number)
        number += 1
    kind = field(2, b"pause_seconds")
    yield field(3, b"\x08" + varint(5) + kind)  # MetricMetadata: SUMMARY
    for turn in range(rounds):
        stamp = b"\x10" + varint(START_MS + 1000 * INTERVAL_S * turn)
        for first in range(0, len(heads), SERIES_PER_REQUEST):
            body = bytearray()
            for head, value in heads[first : first + SERIES_PER_REQUEST]:
                body += field(1, head + field(2, b"\x09" + struct.pack("<d", value(turn)) + stamp))
            yield bytes(body)


class Run:
    """One workload on an engine of its own."""

    def __init__(
        self, target: Callable[[int], Heads], temporality: Temporality, rounds: int
    ) -> None:
        self.engine = MetricsPipeline()
        self.batch = OpenBatch(None, limit=10_000)
        options = OutputOptions(temporality)
        sink = SinkOutputSpec(SinkCounter("x", "y"), [self.batch], options)
        self.engine.add_exporter("x", "", [("all", Selector(()), [sink])])
        self.bodies = bodies(target, rounds)
        self.tick = 0.0

    def seconds(self, requests: int) -> tuple[float, int]:
        """Return the CPU time of the next requests, and their number of samples."""
        chosen = [next(self.bodies) for _ in range(requests)]
        samples = 0
        started = time.process_time()
        for body in chosen:
            transaction = self.engine.ingest(body, now=1e9, tick=self.tick)
            samples += transaction.samples
            self.tick += INTERVAL_S * SERIES_PER_REQUEST / SERIES
            for _, sealed in (*transaction.sealed, *self.engine.flush_due(self.tick)):
                self.engine.offsets.release(sealed.oldest)
        return time.process_time() - started, samples


WORKLOADS: dict[str, tuple[Callable[[int], Heads], Temporality]] = {
    "counters": (counters, "cumulative"),
    "histograms": (histogram, "cumulative"),
    "mixed": (mixed, "cumulative"),
    "summaries": (summary, "cumulative"),
    "deltas of histograms": (histogram, "delta"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", choices=WORKLOADS, action="append")
    arguments = parser.parse_args()
    names = arguments.only or list(WORKLOADS)
    per_round = SERIES // SERIES_PER_REQUEST
    runs = {name: Run(*WORKLOADS[name], 1000) for name in names}
    best: dict[str, float] = {}
    for run in runs.values():
        run.seconds(4 * per_round)  # learn the series and their histograms
    gc_pacing.configure_gc()  # as in the relay
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            seconds, samples = run.seconds(per_round)
            best[name] = min(best.get(name, 1.0), seconds / samples)
    for name, seconds in best.items():
        print(f"{name:22} {seconds * 1e6:6.2f} µs a sample, {seconds / best[names[0]]:5.2f} times")


if __name__ == "__main__":
    main()
