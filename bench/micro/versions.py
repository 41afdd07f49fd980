"""Compare the cost of remote write 2.0 and 1.0: ``python -m bench.micro.versions``.

CPU time of the engine alone, µs per sample, for the same 2,000 samples per request: 14,000 known
series with 13 labels, in the order of a scrape, one sink for everything; 2.0 with metadata in every
series, as Prometheus sends it, and without. Bodies are already decompressed. The best of several
runs, interleaved because the machine's speed drifts. Batches are discarded unencoded.
"""

from __future__ import annotations

import argparse
import struct
import time
from collections.abc import Callable, Iterator

from bench.micro.journal_cost import field, varint
from relay.codec.otlp.batch import OpenBatch
from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.runtime import gc_pacing
from relay.selector.matchers import Selector

SERIES = 14_000
SERIES_PER_REQUEST = 2_000
INTERVAL_S = 15
START_MS = 1_700_000_000_000

Pairs = list[tuple[str, str]]
Samples = list[tuple[Pairs, float]]


def labels() -> list[Pairs]:
    """Return the labels of all series, sorted by name: 20 metrics of each target."""
    found = []
    for number in range(SERIES):
        target, metric = divmod(number, 20)
        pairs = {f"label_{n:02}": f"some-value-{target % (7 + n):04}" for n in range(10)}
        pairs |= {"__name__": f"requests_{metric:02}_total", "instance": f"10.0.0.{target}:9100"}
        pairs["series"] = f"{number:06}"
        found.append(sorted(pairs.items()))
    return found


def first_version(samples: Samples, stamp: bytes) -> bytes:
    """Encode a WriteRequest."""
    body = bytearray()
    for pairs, value in samples:
        key = b"".join(field(1, field(1, n.encode()) + field(2, v.encode())) for n, v in pairs)
        body += field(1, key + field(2, b"\x09" + struct.pack("<d", value) + stamp))
    return bytes(body)


def second_version(samples: Samples, stamp: bytes, *, metadata: bool = True) -> bytes:
    """Encode a Request; its symbols are in order of first use."""
    symbols: dict[str, int] = {"": 0}
    body = bytearray()
    for pairs, value in samples:
        refs = [symbols.setdefault(text, len(symbols)) for pair in pairs for text in pair]
        series = field(1, b"".join(map(varint, refs)))
        series += field(2, b"\x09" + struct.pack("<d", value) + stamp)
        if metadata:
            help_ref = symbols.setdefault(f"Help of {pairs[0][1]}.", len(symbols))
            series += field(5, b"\x08\x01\x18" + varint(help_ref))
        body += field(5, series)
    return b"".join(field(4, text.encode()) for text in symbols) + bytes(body)


def second_version_bare(samples: Samples, stamp: bytes) -> bytes:
    """Encode a Request without metadata."""
    return second_version(samples, stamp, metadata=False)


Encode = Callable[[Samples, bytes], bytes]


def bodies(encode: Encode) -> Iterator[bytes]:
    """Yield requests without end."""
    known = labels()
    turn = 0
    while True:
        stamp = b"\x10" + varint(START_MS + 1000 * INTERVAL_S * turn)
        for first in range(0, SERIES, SERIES_PER_REQUEST):
            part = known[first : first + SERIES_PER_REQUEST]
            yield encode([(pairs, 1000.5 + 7 * turn) for pairs in part], stamp)
        turn += 1


class Run:
    """One version on an engine of its own."""

    def __init__(self, encode: Encode, protocol: WriteProtocol) -> None:
        self.engine = MetricsPipeline()
        sink = SinkOutputSpec(SinkCounter("x", "y"), [OpenBatch(None, limit=10_000)])
        self.engine.add_exporter("x", "", [("all", Selector(()), [sink])])
        self.protocol = protocol
        self.bodies = bodies(encode)

    def seconds(self, requests: int) -> tuple[float, int]:
        """Return the CPU time of the next requests, and their number of samples."""
        chosen = [next(self.bodies) for _ in range(requests)]
        samples = 0
        started = time.process_time()
        for body in chosen:
            transaction = self.engine.ingest(body, now=1e9, tick=0.0, protocol=self.protocol)
            samples += transaction.samples
            for _, sealed in transaction.sealed:
                self.engine.offsets.release(sealed.oldest)
        return time.process_time() - started, samples


VERSIONS: dict[str, tuple[Encode, WriteProtocol]] = {
    "1.0": (first_version, "remote_write_v1"),
    "2.0": (second_version, "remote_write_v2"),
    "2.0 without metadata": (second_version_bare, "remote_write_v2"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    per_round = SERIES // SERIES_PER_REQUEST
    runs = {name: Run(*version) for name, version in VERSIONS.items()}
    best: dict[str, float] = {}
    for run in runs.values():
        run.seconds(3 * per_round)  # learn the series
    gc_pacing.configure_gc()  # as in the relay
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            seconds, samples = run.seconds(per_round)
            best[name] = min(best.get(name, 1.0), seconds / samples)
    for name, seconds in best.items():
        print(f"{name:22} {seconds * 1e6:6.2f} µs a sample, {seconds / best['1.0']:5.2f} times")


if __name__ == "__main__":
    main()
