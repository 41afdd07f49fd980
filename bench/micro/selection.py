"""Measure selection for thousands of customers: ``python -m bench.micro.selection [PART …]``.

Prints figures; no pass or fail. Times are CPU seconds of this process, the best of several runs;
compared runs are interleaved because machines drift. Memory is resident memory before and after.

    known    a known sample with 10 and with 10,000 exporters
    new      a new series with two matches, and a change of one exporter, with 10,000 exporters
    cold     new series per second, of which none, half or all are selected
    memory   a million series, half of them exported once
    flood    known series beside a sender of only new ones
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from bench.dataset import labels_of
from relay.codec.otlp.batch import OpenBatch
from relay.codec.protobuf import field_bytes, varint
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.limits import Limits
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.pipeline.routing.tenancy import Tenancy
from relay.runtime import gc_pacing
from relay.selector.matchers import Selector
from relay.selector.metricsql.parser import parse_selector

PROJECTS = 2_000
EXPORTERS = 10_000
PROJECT_LABEL = "resourcemanager_datumapis_com_project_name"
TIME_MS = 1_700_000_000_000
SERIES_PER_REQUEST = 2_000
BATCH_POINTS = 500

_METRICS = ("network_bytes", "http_requests", "process", "queue")


def selector_of(number: int) -> Selector:
    """Return one of five kinds in turn: equality, name regex, alternation, negative, ``or``."""
    name = _METRICS[number % len(_METRICS)]
    return parse_selector(
        (
            '{service_name="service-0"}',
            f'{{__name__=~"{name}_.*",service_name="service-1"}}',
            f'{{code=~"1xx|{number % 4 + 2}xx",resource_kind="service-2"}}',
            '{service_name="service-0",code!="5xx",container!~"side.*"}',
            f'{{__name__="{name}_total" or resource_kind="service-4",code="2xx"}}',
        )[number // PROJECTS % 5]
    )


_SAMPLE = b"\x12\x10\x09" + bytes(6) + b"\xf8\x3f" + b"\x10" + varint(TIME_MS)  # 1.5, then the time


def series_bytes(labels: dict[str, str]) -> bytes:
    """Encode a TimeSeries field with one sample, as senders do."""
    fields = [
        field_bytes(
            b"\x0a", field_bytes(b"\x0a", name.encode()) + field_bytes(b"\x12", value.encode())
        )
        for name, value in sorted(labels.items())
    ]
    return field_bytes(b"\x0a", b"".join(fields) + _SAMPLE)


def request(series: Sequence[dict[str, str]]) -> bytes:
    """Encode a body of one sample per series."""
    return b"".join(map(series_bytes, series))


def bodies(series: Iterator[dict[str, str]]) -> Iterator[bytes]:
    """Yield requests of :data:`SERIES_PER_REQUEST` series."""
    part: list[dict[str, str]] = []
    for labels in series:
        part.append(labels)
        if len(part) == SERIES_PER_REQUEST:
            yield request(part)
            part = []
    if part:
        yield request(part)


def ingest_s(engine: MetricsPipeline, *parts: bytes) -> float:
    """Return the CPU seconds of ingesting requests; full batches are discarded."""
    start = time.process_time()
    for body in parts:
        transaction = engine.ingest(body, now=1e9, tick=0.0)
        for _, sealed in transaction.sealed:
            engine.offsets.release(sealed.oldest)
    return time.process_time() - start


def sources(
    exporter: str, selectors: Sequence[Selector]
) -> list[tuple[str, Selector, Sequence[SinkOutputSpec]]]:
    """Return sources that feed one sink."""
    target = SinkOutputSpec(SinkCounter(exporter, "sink"), (OpenBatch(None, limit=BATCH_POINTS),))
    return [(f"source-{n}", selector, (target,)) for n, selector in enumerate(selectors)]


def project_of(number: int) -> str:
    """Return the project of an exporter or series."""
    return f"p-{number % PROJECTS:04d}"


def exporter_name(number: int) -> str:
    """Return an exporter's id."""
    return f"{project_of(number)}/default/e{number}"


def with_exporters(numbers: Iterable[int]) -> MetricsPipeline:
    """Make an engine with these exporters of 2,000 projects."""
    engine = MetricsPipeline(tenancy=Tenancy(PROJECT_LABEL))
    for number in numbers:
        name = exporter_name(number)
        engine.add_exporter(name, project_of(number), sources(name, [selector_of(number)]))
    return engine


def resident_bytes() -> int:
    """Return the resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def platform_series(number: int, projects: int = PROJECTS) -> dict[str, str]:
    """Return the 13 labels of the macro benchmark; each target of 100 series has one project."""
    target = number // 100
    project = project_of(target % projects)
    service = f"service-{target // projects % 7}"
    return {
        **labels_of(number),
        PROJECT_LABEL: project,
        "namespace": project,
        "service_name": service,
        "resource_kind": service,
    }


def known() -> None:
    """Measure a known sample by the number of exporters."""
    # Two projects with five exporters each, alone and among 2,000.
    series = [platform_series(number, projects=2) for number in range(20_000)]
    body = [request(series[at : at + 2_000]) for at in range(0, len(series), 2_000)]
    few = [number for number in range(EXPORTERS) if number % PROJECTS < 2]
    engines = {len(numbers): with_exporters(numbers) for numbers in (few, range(EXPORTERS))}
    for engine in engines.values():
        for _ in range(3):
            ingest_s(engine, *body)
    best = dict.fromkeys(engines, float("inf"))
    for _ in range(9):
        for count, engine in engines.items():
            best[count] = min(best[count], ingest_s(engine, *body) / len(series))
    for count, spent in best.items():
        print(f"known sample, {count:6} exporters: {spent * 1e6:6.2f} us")
    print(f"ratio: {best[EXPORTERS] / best[len(few)]:.2f} (wanted: at most 1.2)")


def new() -> None:
    """Measure a new series and a changed exporter with 10,000 exporters."""
    before = resident_bytes()
    start = time.process_time()
    engine = with_exporters(range(EXPORTERS))
    print(f"index of {EXPORTERS} exporters: {time.process_time() - start:.2f} s (wanted: 5)")
    print(f"memory: {(resident_bytes() - before) / EXPORTERS / 1024:.1f} KiB an exporter, routed")
    match = engine.router.match
    for matches in (0, 1, 2):
        series = []
        for number in range(1_400_000):
            labels = platform_series(number)
            if len(match(labels, labels[PROJECT_LABEL])[1]) == matches:
                series.append(labels)
            if len(series) == 20_000:
                break
        spent = [ingest_s(engine, body) / SERIES_PER_REQUEST for body in bodies(iter(series))]
        print(
            f"new series, {matches} matches: {statistics.median(spent) * 1e6:.1f} us median, "
            f"{min(spent) * 1e6:.1f} us best of {len(spent)} requests (wanted: 40 us with 2)"
        )
    rng = random.Random(1)
    changes = []
    for _ in range(300):
        number = rng.randrange(EXPORTERS)
        name = exporter_name(number)
        wanted = sources(name, [selector_of(rng.randrange(EXPORTERS))])
        start = time.process_time()
        engine.replace_exporter(name, wanted)
        changes.append(time.process_time() - start)
    print(
        f"changing one exporter: {statistics.median(changes) * 1e3:.3f} ms median, "
        f"{max(changes) * 1e3:.3f} ms worst of 300 (wanted: 10)"
    )


def cold() -> None:
    """Measure new series per second, with one exporter."""
    count = 60_000
    parts = list(bodies(labels_of(number) for number in range(count)))
    queries = ('{code="none"}', '{code=~"1xx|2xx|3xx"}', "{}")
    best = dict.fromkeys(queries, 0.0)
    shares = dict.fromkeys(queries, 0.0)
    best_known = 0.0
    for _ in range(5):
        for query in queries:
            engine = MetricsPipeline()
            engine.add_exporter("d/e", "", sources("d/e", [parse_selector(query)]))
            best[query] = max(best[query], count / ingest_s(engine, *parts))
            engine.router.flush_counters()
            shares[query] = (
                sum(counter.samples for counter in engine.router.source_counters()) / count
            )
            for _ in range(3):  # until the order of the series is known, too
                ingest_s(engine, *parts)
            best_known = max(best_known, count / ingest_s(engine, *parts))
    for query in queries:
        print(f"{best[query]:9,.0f} new series a second, {shares[query]:4.0%} of them exported")
    print(f"{best_known:9,.0f} samples of known series a second at best, in the same run")


def memory() -> None:
    """Measure a million active series, half of them exported once."""
    engine = MetricsPipeline(Limits(series_max=2_000_000))
    engine.add_exporter("d/e", "", sources("d/e", [parse_selector('{half="1"}')]))
    before = resident_bytes()
    count = 500_000
    for half in ("0", "1"):
        start = resident_bytes()
        for body in bodies({**labels_of(n), "half": half} for n in range(count)):
            ingest_s(engine, body)
        each = (resident_bytes() - start) / count
        kind = "exported" if half == "1" else "unmatched"
        print(f"{count} {kind} series: {each:.0f} bytes each")
    gc_s = []
    for _ in range(3):
        start_s = time.perf_counter()
        gc.collect()
        gc_s.append(time.perf_counter() - start_s)
    active = engine.statistics().table.active
    assert active == 2 * count
    print(
        f"{active} series: {resident_bytes() / 2**30:.2f} GiB resident, "
        f"{before / 2**20:.0f} MiB of it before the first (wanted: 1.5 GB)"
    )
    print(f"a full collection of garbage takes {min(gc_s) * 1e3:.0f} ms then")


def flood() -> None:
    """Measure known series beside a sender of only new ones, in a full table."""
    engine = MetricsPipeline(Limits(series_max=100_000))
    engine.add_exporter("d/e", "", sources("d/e", [parse_selector("{}")]))
    steady = list(bodies(labels_of(n) for n in range(50_000)))
    for _ in range(3):
        ingest_s(engine, *steady)
    calm = min(ingest_s(engine, *steady) for _ in range(5)) / 50_000
    before = resident_bytes()
    worst, under = 0.0, float("inf")
    first = 1_000_000
    for _ in range(8):
        for body in bodies(labels_of(n) for n in range(first, first + 50_000)):
            worst = max(worst, ingest_s(engine, body))
        first += 50_000
        under = min(under, ingest_s(engine, *steady) / 50_000)
    table = engine.statistics().table
    print(f"known samples: {calm * 1e6:.2f} us, in a flood {under * 1e6:.2f} us")
    print(f"worst request of 2,000 new series, all exported: {worst * 1e3:.0f} ms")
    print(
        f"{table.active} series kept, {table.forgotten_full} forgotten, resident memory "
        f"{(resident_bytes() - before) / 2**20:+.0f} MiB by 400,000 new series"
    )


PARTS: dict[str, Callable[[], None]] = {
    "known": known,
    "new": new,
    "cold": cold,
    "memory": memory,
    "flood": flood,
}


def main(arguments: Sequence[str]) -> int:
    """Run the named parts, or all; return 2 for an unknown one."""
    unknown = [name for name in arguments if name not in PARTS]
    if unknown:
        print(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    gc_pacing.configure_gc()
    for name in arguments or PARTS:
        print(f"[{name}]")
        PARTS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
