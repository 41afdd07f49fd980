"""Compare the encoders of sinks: ``python -m bench.micro.encoders``.

µs of CPU and bytes per sample, in one process without a network; the best of several runs. Batches
hold 10,000 points of 100 targets with 507 series each, those of a node exporter:

    OTLP        encoded, then gzip as sinks do it
    1.0         snappy block in one pass (relay.codec.remote_write.raw.v1_snappy)
    1.0 plain   encoded, then the library's snappy, to compare
    2.0         encoded, then the library's snappy

``order`` is the part of 1.0 and 2.0 that looks for late points; ``prefix`` the memory of a series'
prefix and its share of the label table, in bytes per series.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import scrape
from bench.dataset import Shape, write_dataset
from bench.labels import LabelSet
from bench.micro.bodies import START_MS, bodies_of
from bench.micro.kernel import BATCH_POINTS, Rig
from relay.codec.body import Body
from relay.codec.compression import compress
from relay.codec.otlp.metrics import VALUE_TAG
from relay.codec.remote_write import v1
from relay.codec.remote_write.raw import v1_plain, v1_snappy, v2_encoder
from relay.codec.remote_write.raw.buffer import RawPointBuffer
from relay.codec.remote_write.raw.label_table import LabelTable
from relay.codec.remote_write.raw.ordered import OrderedBatch
from relay.runtime import gc_pacing, malloc

SHAPES: Mapping[str, tuple[LabelSet, bool]] = {
    "scrape": ("exposed", False),
    "scrape-platform": ("platform", False),
    "worst": ("platform", True),
}
TARGETS = 100
ROUNDS = 4
REPEATS = 7
_NS_PER_MS = 1_000_000
_UNBOUNDED = 1 << 40


def best(function: Callable[[], object], samples: int) -> float:
    """Return the least µs of CPU per sample of some calls."""
    spent = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        spent.append(time.process_time() - start)
    return min(spent) / samples * 1e6


def raw_batches(bodies: Sequence[bytes]) -> tuple[list[RawPointBuffer], int, float]:
    """Return the samples of requests of 1.0 in full batches, their number, bytes per series."""
    table = LabelTable()
    group = table.group(0)
    prefixes: dict[bytes, bytes] = {}
    batches = [RawPointBuffer()]
    samples = 0
    for body in bodies:
        for _, start, stop in v1.top_level(body):
            parts = v1.parse_series(body, start, stop)
            prefix = prefixes.get(parts.key)
            if prefix is None:
                prefix = prefixes[parts.key] = table.place(parts.key)
            for value, time_ms in parts.samples:
                stamp = struct.pack("<Q", time_ms * _NS_PER_MS) + VALUE_TAG
                batches[-1].add(prefix, stamp, value)
                samples += 1
            if batches[-1].count == BATCH_POINTS:
                batches[-1].close_run(group)
                batches.append(RawPointBuffer())
    batches[-1].close_run(group)
    held = table.memory_bytes + sum(map(sys.getsizeof, prefixes.values()))
    return [batch for batch in batches if batch.count], samples, held / len(prefixes)


def measure(label_set: LabelSet, *, scattered: bool) -> dict[str, float]:
    """Measure every row of one shape."""
    series = TARGETS * len(scrape.exposed())
    shape = Shape(
        START_MS, ROUNDS, series, content="scrape", label_set=label_set, scattered=scattered
    )
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as root:
        rounds = bodies_of(write_dataset(Path(root), shape))
    rig = Rig()
    take = min(rig.take(bodies) for bodies in rounds) / series * 1e6
    points = sum(sealed.count for sealed in rig.sealed)

    def otlp() -> list[bytes]:
        return [compress(sealed.point_buffer.encode(), "gzip") for sealed in rig.sealed]

    batches, samples, prefix = raw_batches(rounds[-1])

    def plain(encoder: Callable[[OrderedBatch, int], list[Body]]) -> list[bytes]:
        return [
            compress(body.data, "snappy")
            for batch in batches
            for body in encoder(OrderedBatch(batch), _UNBOUNDED)
        ]

    def snappy() -> list[bytes]:
        return [
            body.data
            for batch in batches
            for body in v1_snappy.encode_snappy(OrderedBatch(batch), _UNBOUNDED)
        ]

    def library(encoder: Callable[[OrderedBatch, int], list[Body]]) -> float:
        return best(lambda: plain(encoder), samples)

    def size(bodies: list[bytes], count: int) -> float:
        return sum(map(len, bodies)) / count

    return {
        "take µs": take,
        "OTLP µs": best(otlp, points),
        "OTLP B": size(otlp(), points),
        "1.0 µs": best(snappy, samples),
        "1.0 B": size(snappy(), samples),
        "1.0 plain µs": library(v1_plain.encode_plain),
        "1.0 plain B": size(plain(v1_plain.encode_plain), samples),
        "2.0 µs": library(v2_encoder.encode_plain),
        "2.0 B": size(plain(v2_encoder.encode_plain), samples),
        "order µs": best(lambda: [OrderedBatch(batch) for batch in batches], samples),
        "prefix B": prefix,
    }


def main() -> None:
    """Print a table of all shapes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", default=",".join(SHAPES), help="with commas; default: all")
    wanted = parser.parse_args().shapes.split(",")
    malloc.configure_malloc()
    gc_pacing.configure_gc()
    found = {
        name: measure(SHAPES[name][0], scattered=SHAPES[name][1])
        for name in SHAPES
        if name in wanted
    }
    print(f"{'':14}" + "".join(f"{name:>18}" for name in found))
    for row in next(iter(found.values())):
        digits = 3 if row.endswith("µs") else 1
        cells = (f"{one[row]:18.{digits}f}" for one in found.values())
        print(f"{row:14}" + "".join(cells))


if __name__ == "__main__":
    main()
