"""Latency of requests beside other work: ``python -m bench.micro.latency [--load 0.8]``.

The clock is this process's CPU time; while nothing is to be done it jumps to the next timer. So the
figures are those of a machine that has a core for the relay's Python, however busy this one is.
Requests come at a share of what the engine can do; each second of that clock there is a scrape, a
preview, or both. ``wait``: as many other series, without metadata, end their wait for it. With
``--beside``, another built checkout is measured in alternation.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import pickle
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.config.exporter.types import Exporter, OtlpHttp, Sink, Source
from relay.control.flush_timer import FlushTimer
from relay.control.preview.preview import Preview
from relay.control.time_slicing import Turns
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.runtime import event_loop
from relay.runtime.gc_pacing import configure_gc
from relay.selector.metricsql.parser import parse_query
from relay.telemetry.registry import Telemetry
from relay.telemetry.snapshot import SinkFigures, Snapshot, SourceFigures

CONNECTIONS = 4
BATCH_POINTS = 10_000
SERIES = 50_700
WAIT_S = 1.5
"""Wait for metadata, s."""
OTHER_NAMES = (b"node_", b"nodf_")
"""Of most metrics, and of those that wait."""
_REMEMBERED = 100
"""Requests by whose mean cost the next is due."""
_LOOP_S = 0.0001
"""CPU time of the loop for each request; s."""
_LOOK_S = 0.0002
"""Time between two looks at the threads that work; s of the wall clock."""


class Clock:
    """CPU time of the process, and the time that was left out; s."""

    def __init__(self) -> None:
        self.left_out_s = 0.0
        self.threads = 0
        """Threads that work beside the loop: while there are some, nothing is left out."""

    def now(self) -> float:
        """Return the time."""
        return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID) + self.left_out_s


class _Selector(selectors.DefaultSelector):
    """Leave out the time in which nothing happens."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        until = self._clock.now() + (timeout or 0.0)
        while not ready and self._clock.threads and (timeout is None or self._clock.now() < until):
            ready = super().select(_LOOK_S)
        if not ready and not self._clock.threads and timeout:
            self._clock.left_out_s += max(0.0, until - self._clock.now())
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock) -> None:
        super().__init__(_Selector(clock))
        self._relay_clock = clock

    def time(self) -> float:
        return self._relay_clock.now()


class Rig:
    """An engine with one exporter that takes everything, and its senders."""

    def __init__(self, clock: Clock, bodies: Sequence[bytes]) -> None:
        self._clock = clock
        self._given = bodies
        self._bodies = itertools.cycle(bodies)
        self.engine = MetricsPipeline(first_sight_s=WAIT_S)
        self.turns = Turns()
        self._timer = FlushTimer(self.engine, self.turns, tick=clock.now)
        batch = OpenBatch(self, limit=BATCH_POINTS, timeout_s=1e9)  # type: ignore[arg-type]
        target = SinkOutputSpec(SinkCounter("one", "s"), [batch])
        self.engine.add_exporter("one", "", [("q", parse_query("{}"), [target])])
        self.latencies: list[float] = []
        self._request_s = 0.0
        for _ in range(4):
            for body in bodies:
                self._take(self._ingest(body))
            self._end_wait()
        configure_gc()

    def _ingest(self, body: bytes, pace: Any = None) -> Any:
        now = self._clock.now()
        pace = {} if pace is None else {"pace": pace}
        return self.engine.ingest(body, now=1e9 + now, tick=now, **pace)

    def _take(self, transaction: Any) -> None:
        for batch, points in transaction.sealed:
            self.offer(points, batch.shard)

    def offer(self, batch: SealedBatch, shard: int) -> None:
        """Send a batch, as its sink."""
        del shard
        batch.point_buffer.encode()
        self.engine.offsets.release(batch.oldest)

    def _end_wait(self) -> None:
        tick = self._clock.now() + 2 * WAIT_S
        while (due := self.engine.next_due()) is not None and due <= tick:
            for batch, points in self.engine.flush_due(tick):
                self.offer(points, batch.shard)

    async def wait(self) -> None:
        """Let as many other series begin their wait, once."""
        if not self._given:
            return
        for body in self._given:
            self._take(self._ingest(body.replace(*OTHER_NAMES)))
        self._given = ()
        self._timer.deliver([])

    async def _serve(self) -> None:
        body = next(self._bodies)
        await asyncio.sleep(0)  # as a request suspends between its bytes and its answer
        before = time.thread_time()
        await self.turns.run(partial(self._ingest, body), self._take)
        self._request_s += (time.thread_time() - before - self._request_s) / _REMEMBERED
        await asyncio.sleep(0)

    async def send(self, seconds: float, load: float) -> None:
        """Send requests at their due times on some connections; note their latencies."""
        self.latencies = []
        for _ in range(2 * _REMEMBERED):
            await self._serve()
        dues = self._dues(seconds, load)
        await asyncio.gather(*(self._connection(dues) for _ in range(CONNECTIONS)))

    def _dues(self, seconds: float, load: float) -> Iterator[float]:
        """Yield due times. A busy machine changes what a request costs: the load stays."""
        due = self._clock.now()
        end = due + seconds
        while due < end:
            yield due
            due += (self._request_s + _LOOP_S) / load

    async def _connection(self, dues: Iterator[float]) -> None:
        for due in dues:
            await asyncio.sleep(max(0.0, due - self._clock.now()))
            await self._serve()
            self.latencies.append(self._clock.now() - due)

    async def preview(self) -> None:
        """Preview an exporter that takes everything."""
        sink = Sink("s", ("q",), OtlpHttp("https://otlp.example.com/v1/metrics"))
        source = Source("q", "{}", parse_query("{}"))
        exporter = Exporter("", "default", "x", (source,), (sink,))
        async for _ in Preview(self.engine, self.turns, exporter).count():
            pass

    async def scrape(self) -> None:
        """Write the metrics of a relay with one sink."""
        view = Snapshot(sinks=(SinkFigures("one", "s"),), sources=(SourceFigures("one", "q"),))
        await event_loop.run_in_thread(lambda: Telemetry().render(view))


async def measure(
    rig: Rig, clock: Clock, load: float, seconds: float, names: Sequence[str]
) -> None:
    """Print a line for each kind of work beside the requests."""
    beside: dict[str, Sequence[Callable[[], Awaitable[None]]]] = {
        "nothing": (),
        "scrape": (rig.scrape,),
        "preview": (rig.preview,),
        "both": (rig.scrape, rig.preview),
        "wait": (),
    }
    for name in names or beside:
        works = beside[name]
        if name == "wait":
            await rig.wait()
        sending = asyncio.ensure_future(rig.send(seconds, load))
        took: list[float] = []
        while works and not sending.done():
            began = clock.now()
            for work in works:
                await work()
            took.append(clock.now() - began)
            await asyncio.sleep(max(0.0, began + 1.0 - clock.now()))
        await sending
        found = sorted(rig.latencies)
        p50, p99, most = (1e3 * found[int(len(found) * part)] for part in (0.5, 0.99, 0.9999))
        lasts = f", it takes {1e3 * statistics.median(took):.0f} ms" if took else ""
        print(
            f"{name:8} {len(found)} requests, p50 {p50:.1f}, p99 {p99:.1f}, "
            f"max {most:.1f} ms{lasts}",
            flush=True,
        )


def run(bodies: Sequence[bytes], load: float, seconds: float, names: Sequence[str]) -> None:
    """Measure this checkout."""
    clock = Clock()
    loop = _Loop(clock)
    in_thread = asyncio.to_thread

    async def to_thread(work: Callable[..., Any], *args: Any) -> Any:
        clock.threads += 1
        try:
            return await in_thread(work, *args)
        finally:
            clock.threads -= 1

    asyncio.to_thread = to_thread  # type: ignore[assignment]
    # The relay's pauses are those of the loop's clock.
    vars(event_loop)["time"] = _Time(clock)
    loop.run_until_complete(measure(Rig(clock, bodies), clock, load, seconds, names))


class _Time:
    """The module ``time`` by a clock."""

    def __init__(self, clock: Clock) -> None:
        self.monotonic = self.perf_counter = clock.now
        self.thread_time = time.thread_time


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--load", type=float, default=0.8)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each line")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--beside", type=Path, help="another built checkout")
    parser.add_argument("--work", nargs="*", default=[], help="one or more lines; default: all")
    parser.add_argument("--bodies", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.bodies:
        run(pickle.loads(a.bodies.read_bytes()), a.load, a.seconds, a.work)  # noqa: S301 # our own
        return
    from bench.dataset import Shape, write_dataset  # noqa: PLC0415 - not of the checkout beside
    from bench.micro.bodies import START_MS, bodies_of  # noqa: PLC0415

    shape = Shape(
        start_ms=START_MS, rounds=1, series=SERIES, content="scrape", label_set="platform"
    )
    with tempfile.TemporaryDirectory() as place:
        bodies = Path(place, "bodies")
        (found,) = bodies_of(write_dataset(Path(place), shape))
        bodies.write_bytes(pickle.dumps(found))
        own = Path(__file__).parents[2]
        for _ in range(a.rounds):
            for tree in (own, *([a.beside] if a.beside else [])):
                print(tree, flush=True)
                subprocess.run(
                    [
                        *(sys.executable, "-P", __file__, "--bodies", str(bodies)),
                        *("--load", str(a.load), "--seconds", str(a.seconds)),
                        *("--work", *a.work),
                    ],
                    env={**os.environ, "PYTHONPATH": str(tree)},
                    check=True,
                )


if __name__ == "__main__":
    main()
