"""Time a preview over a large series table: ``python -m bench.micro.preview --series 2000000``.

The table is filled through the engine with the bench's platform series. Each query is previewed
beside a stored version that takes another tenth. Shown are the duration of the counts, the longest
time for which the event loop was held, and the resident memory before and at most during it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import groupby

from bench import bodies
from bench.labels import CODES, MARKER, SERIES_PER_TARGET, labels_of
from bench.micro.selection import resident_bytes
from relay.config.exporter.types import Exporter, OtlpHttp, Sink, Source
from relay.control.preview.preview import Preview, PreviewProgress
from relay.control.preview.result import PreviewResult
from relay.control.time_slicing import Turns
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.limits import Limits
from relay.runtime.event_loop import run_on_uvloop
from relay.runtime.gc_pacing import configure_gc
from relay.selector.metricsql.parser import parse_query
from tests.kit.remote_write import raw

QUERIES = {
    "all": "{}",
    "name": '{__name__=~"network_bytes_.*|http_requests_started_total|http_requests_failed_total"}',
    "label": '{code=~"1xx|2xx",__name__!~"up.*"}',
    "no name": '{code!="5xx",resource_kind=~"Gateway|HTTPRoute|Network|Subnet"}',
    "every series asked": '{bench_series=~"[0-9]+[02468]"}',
}
STORED = '{code="5xx"}'
SERIES_PER_REQUEST = 2_000
TIME_MS = 1_700_000_000_000


def fill(engine: MetricsPipeline, series: int) -> None:
    """Let the engine see that many series once."""
    tail = bodies.tail(TIME_MS, "1.0")
    for start in range(0, series, SERIES_PER_REQUEST):
        numbers = range(start, min(series, start + SERIES_PER_REQUEST))
        heads = list(heads_of(numbers))
        body = bodies.join(b"", heads, [1.0] * len(heads), [tail] * len(heads))
        engine.ingest(body, now=TIME_MS / 1000, tick=1.0)


def heads_of(numbers: Iterable[int]) -> Iterator[bytes]:
    """Encode heads as ``bodies.head1`` does: what a target's series share, once for each code."""
    for target, series in groupby(numbers, lambda number: number // SERIES_PER_TARGET):
        shared: dict[int, bytes] = {}
        for number in series:
            index = number - target * SERIES_PER_TARGET
            code = index % len(CODES)
            if code not in shared:
                labels = labels_of(number)
                del labels["__name__"], labels[MARKER]
                shared[code] = _encoded(labels)
            yield bodies.head1_of(b"%b%08d%b" % (_BEFORE_NUMBER[index], number, shared[code]))


def _encoded(labels: dict[str, str]) -> bytes:
    return raw.labels([(name.encode(), value.encode()) for name, value in labels.items()])


_BEFORE_NUMBER = [
    _encoded({"__name__": labels_of(index)["__name__"], MARKER: "00000000"})[:-8]
    for index in range(SERIES_PER_TARGET)
]
"""By a series' place in its target: its own labels up to its number of eight digits."""


def exporter(query: str) -> Exporter:
    """Return an exporter with one source."""
    sink = Sink("s", ("q",), OtlpHttp("https://otlp.example.com/v1/metrics"))
    return Exporter("", "default", "x", (Source("q", query, parse_query(query)),), (sink,))


class Pulse:
    """The longest time for which the event loop did not turn, in all and on its CPU; s."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.longest_cpu_s = 0.0
        self.resident = 0

    async def run(self) -> None:
        """Turn until cancelled."""
        last, cpu = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now, cpu_now = time.perf_counter(), time.thread_time()
            self.longest_s = max(self.longest_s, now - last - 0.001)
            self.longest_cpu_s = max(self.longest_cpu_s, cpu_now - cpu)
            last, cpu = now, cpu_now
            self.resident = max(self.resident, resident_bytes())


async def measure(engine: MetricsPipeline, name: str, query: str) -> None:
    """Preview one query and print a line."""
    before, pulse = resident_bytes(), Pulse()
    task = asyncio.create_task(pulse.run())
    await asyncio.sleep(0.01)
    began, cpu = time.perf_counter(), time.process_time()
    progress = 0
    async for event in Preview(engine, Turns(), exporter(query), exporter(STORED)).count():
        if isinstance(event, PreviewProgress):
            progress += 1
        else:
            result: PreviewResult = event
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    task.cancel()
    assert result.added is not None
    assert result.removed is not None
    print(
        f"{name:20} {result.total.series:9,} of {result.project_series:,}, "
        f"+{result.added.series:,} -{result.removed.series:,}: {took:.2f} s, CPU {cpu:.2f} s, "
        f"{progress} times progress, loop held {pulse.longest_s * 1000:.0f} ms, "
        f"memory {before / 2**20:,.0f} to {pulse.resident / 2**20:,.0f} MiB"
    )


async def run(series: int) -> None:
    """Fill a table and preview every query."""
    engine = MetricsPipeline(Limits(series_max=2 * series))
    began = time.perf_counter()
    fill(engine, series)
    configure_gc()
    print(f"{engine.table.active:,} series after {time.perf_counter() - began:.0f} s")
    for name, query in QUERIES.items():
        await measure(engine, name, query)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--series", type=int, default=2_000_000)
    run_on_uvloop(run(parser.parse_args().series))


if __name__ == "__main__":
    main()
