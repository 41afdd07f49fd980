"""Measure the hot path alone: ``python -m bench.micro.kernel``.

µs of CPU per sample, in one process without a network; the best of several runs, each in a child
process. With ``--beside``, runs of this checkout and another one alternate, and the last column is
the median of the ratios, this one's cost to the other's.

    known       known series in learned order, all exported to one sink
    unwanted    the same, selected by no exporter
    fanout      the same, to five sinks; per sample, not per point
    shuffled    known series, each request in another order
    v2          known series in remote write 2.0
    histograms  the series of classic histograms, assembled
    encode      points of sealed batches to OTLP
    new         new series, all exported
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.dataset import Shape, write_dataset
from bench.micro.bodies import START_MS, bodies_of
from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.runtime import gc_pacing
from relay.selector.metricsql.parser import parse_query

ROOT = Path(__file__).parents[2]
BATCH_POINTS = 10_000
BATCH_TIMEOUT_S = 1e9
"""Batches are sealed only when full; s."""

ROUND_S = 15.0
"""Interval of rounds; longer than the wait for a histogram's first series; s."""

KNOWN_ROUNDS = 2
"""Rounds before the measurement: one to learn the series, one to learn their order."""


class Rig:
    """An engine with one exporter; it collects sealed batches."""

    def __init__(self, *, query: str = "{}", sinks: int = 1, version: str = "1.0") -> None:
        self._engine = MetricsPipeline()
        self._version = version
        targets = [
            SinkOutputSpec(
                SinkCounter("one", f"sink-{number}"),
                [OpenBatch(None, limit=BATCH_POINTS, timeout_s=BATCH_TIMEOUT_S)],
            )
            for number in range(sinks)
        ]
        self._engine.add_exporter("one", "", [("all", parse_query(query), targets)])
        self.sealed: list[SealedBatch] = []
        self._tick = 0.0

    def take(self, bodies: Sequence[bytes]) -> float:
        """Return the CPU seconds of a round of requests."""
        self.sealed.clear()
        engine = self._engine
        samples = 0
        start = time.process_time()
        for body in bodies:
            transaction = engine.ingest(
                body,
                now=1e9 + self._tick,
                tick=self._tick,
                protocol="remote_write_v2" if self._version == "2.0" else "remote_write_v1",
            )
            samples += transaction.samples
            self._keep(transaction.sealed)
        self._tick += ROUND_S
        self._keep(engine.flush_due(self._tick))
        spent = time.process_time() - start
        assert samples, "samples were taken"
        return spent

    def _keep(self, filled: Sequence[tuple[OpenBatch, SealedBatch]]) -> None:
        for _, sealed in filled:
            self._engine.offsets.release(sealed.oldest)
            self.sealed.append(sealed)


def known(shape: Shape, root: Path, *, query: str = "{}", sinks: int = 1) -> dict[str, float]:
    """Measure samples of known series, and the encoding of their batches' points."""
    rounds = bodies_of(write_dataset(root, shape))
    rig = Rig(query=query, sinks=sinks, version=shape.protocol)
    for bodies in rounds[:KNOWN_ROUNDS]:
        rig.take(bodies)
    taken, encoded = [], []
    for bodies in rounds[KNOWN_ROUNDS:]:
        taken.append(rig.take(bodies) / shape.series)
        if rig.sealed:
            start = time.process_time()
            for sealed in rig.sealed:
                sealed.point_buffer.encode()
            points = sum(sealed.count for sealed in rig.sealed)
            encoded.append((time.process_time() - start) / points)
    return {"take": min(taken)} | ({"encode": min(encoded)} if encoded else {})


def new(root: Path, series: int) -> float:
    """Measure a new series."""
    dataset = write_dataset(root, Shape(START_MS, 1, series))
    (bodies,) = bodies_of(dataset)
    samples = [request.samples for request in dataset.requests]
    half = len(bodies) // 2
    rig = Rig()
    rig.take(bodies[:half])
    return rig.take(bodies[half:]) / sum(samples[half:])


def measure(series: int) -> dict[str, float]:
    """Measure every part, in s per sample."""
    gc_pacing.configure_gc()
    rounds = KNOWN_ROUNDS + 3
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as scratch:

        def place() -> Path:
            return Path(tempfile.mkdtemp(dir=scratch))

        usual = known(Shape(START_MS, rounds, series), place())
        found["known"] = usual["take"]
        nobody = known(Shape(START_MS, rounds, series), place(), query='{code="none"}')
        found["unwanted"] = nobody["take"]
        found["fanout"] = known(Shape(START_MS, rounds, series), place(), sinks=5)["take"]
        found["shuffled"] = known(Shape(START_MS, rounds, series, shuffled=True), place())["take"]
        found["v2"] = known(Shape(START_MS, rounds, series, protocol="2.0"), place())["take"]
        whole = Shape(
            START_MS, rounds, series - series % 14, series_per_request=2_002, content="histograms"
        )
        found["histograms"] = known(whole, place())["take"]
        found["encode"] = usual["encode"]
        found["new"] = new(place(), series)
    return found


def measured_in_child(checkout: Path, series: int) -> dict[str, float]:
    """Run :func:`measure` in another process and checkout. Raise CalledProcessError if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.micro.kernel", "--child", "--series", str(series)],
        cwd=checkout,
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a checkout cannot be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro.kernel")
    parser.add_argument("--runs", type=int, default=3, help="of each checkout (default: 3)")
    parser.add_argument("--series", type=int, default=20_000, help="default: 20,000")
    parser.add_argument("--beside", type=Path, help="another checkout, built, to compare with")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(measure(options.series)))
        return 0
    checkouts = {"here": ROOT}
    if options.beside is not None:
        checkouts["beside"] = options.beside
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for _ in range(options.runs):
        for name, checkout in checkouts.items():
            try:
                runs[name].append(measured_in_child(checkout, options.series))
            except subprocess.CalledProcessError as error:
                print(f"{checkout} cannot be measured: {error}", file=sys.stderr)
                return 1
    ratio = f"{'ratio':>9}" if options.beside else ""
    print(f"{'µs of CPU a sample':20}" + "".join(f"{name:>14}" for name in runs) + ratio)
    for part in runs["here"][0]:
        cells = [min(run[part] for run in found) for found in runs.values()]
        if options.beside:
            pairs = zip(runs["here"], runs["beside"], strict=True)
            ratio = f"{median(here[part] / there[part] for here, there in pairs):9.3f}"
        print(f"{part:20}" + "".join(f"{cell * 1e6:14.3f}" for cell in cells) + ratio)
    return 0


if __name__ == "__main__":
    sys.exit(main())
