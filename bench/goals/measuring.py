"""Measure the parts of the table: one pair of runs at a time, in one directory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.dataset import Shape, write_dataset
from bench.goals.floor import floor_s
from bench.goals.memory import resident_bytes
from bench.goals.records import measure_records
from bench.goals.rows import Figures
from bench.harness import Datasets, Plan, run_plan
from bench.labels import LabelSet
from bench.measurement import Measurement
from bench.process import BenchError
from bench.report import table_row
from bench.scrape import exposed
from bench.workload import WORKLOADS, Workload

RELAY, RELAY_WITH_PAGE = "relay-installed", "relay-page"
NEWEST, DEBIAN, COLLECTOR = "vmagent-newest", "vmagent", "collector"
LOAD = 0.8
FLOOR_S = 1.0
"""CPU time of a floor, s."""

MEMORY_SERIES = 1_000_000
SINKS_SERIES = 100_000
MEMORY_ROUNDS = 2


@dataclass(slots=True)
class Measuring:
    """The figures of a run so far, and its parts' common settings.

    ``relay``: the command of an installed relay. ``seconds``: of sending, each run.
    """

    relay: str
    seconds: float
    root: Path
    datasets: Datasets
    figures: Figures = field(default_factory=Figures)
    measurements: list[Measurement] = field(default_factory=list)

    def measure(self, part: str, pair: int) -> None:
        """Measure one part once; what gives no value is noted with its reason."""
        print(f"\n{part}, pair {pair + 1}", flush=True)
        try:
            MEASURED[part](self, pair)
        except BenchError as error:
            self.figures.faults.append(f"{part}, pair {pair + 1}: {error}")
            print(self.figures.faults[-1], flush=True)

    def plan(self, workload: Workload, peers: tuple[str, ...], load: float | None = None) -> Plan:
        """Return the plan of one run of each peer."""
        return Plan(
            workload,
            peers,
            runs=1,
            seconds=self.seconds,
            load=load,
            with_export=False,
            relay=self.relay,
        )

    def runs(self, plan: Plan, pair: int) -> list[Measurement]:
        """Make the runs of a plan. Raise BenchError if one of them is void."""
        found = run_plan(plan, self.root, self.datasets, lambda m: print(table_row(m), flush=True))
        found = [replace(one, pair=pair) for one in found]
        for one in found:
            if one.void:
                raise BenchError(f"{one.peer}: {one.void}")
        self.measurements += found
        return found

    def directory(self) -> Path:
        """Return an empty directory."""
        return Path(tempfile.mkdtemp(dir=self.root))


def _beside(workload: str, other: str, name: str) -> Callable[[Measuring, int], None]:
    """Measure a workload beside a peer, and the floor of scrapes."""

    def measure(run: Measuring, pair: int) -> None:
        # The one that begins alternates, too.
        peers = (RELAY, other) if pair % 2 else (other, RELAY)
        plan = run.plan(WORKLOADS[workload], peers)
        found = {one.peer: one for one in run.runs(plan, pair)}
        own, peer = found[RELAY], found[other]
        cost_us = 1e6 / own.samples_per_cpu_s
        peer_us = 1e6 / peer.samples_per_cpu_s
        run.figures.add_cost(f"{name} cpu", cost_us, peer_us, peer_us / cost_us, "a sample")
        if name.startswith("scrape"):
            note = f"{own.samples_per_s:,.0f}, {peer.samples_per_s:,.0f} a second"
            run.figures.add(f"{name} clock", own.samples_per_s / peer.samples_per_s, note)
            floor_us = 1e6 * floor_s(run.datasets.get(plan, plan.workload), FLOOR_S)
            ratio = cost_us / floor_us
            run.figures.add_cost(f"{name} floor", cost_us, floor_us, ratio, "a sample")

    return measure


def _cold(workload: str, row: str) -> Callable[[Measuring, int], None]:
    def measure(run: Measuring, pair: int) -> None:
        (own,) = run.runs(run.plan(WORKLOADS[workload], (RELAY,)), pair)
        note = f"{1e6 / own.samples_per_cpu_s:.2f} µs a series"
        run.figures.add(row, own.samples_per_s, note)

    return measure


def _load(run: Measuring, pair: int) -> None:
    plan = run.plan(WORKLOADS["scrape-platform"], (RELAY_WITH_PAGE,), LOAD)
    *_, loaded = run.runs(plan, pair)
    note = (
        f"{loaded.samples_per_s:,.0f} a second, {loaded.scrapes} scrapes, {loaded.reloads} reload, "
        f"{loaded.previews} previews, page {loaded.page_bytes:,} bytes, worst "
        f"{loaded.latency_max_s * 1e3:.0f} ms"
    )
    run.figures.add("load p99", loaded.latency_p99_s * 1e3, note)


def _records(signal: str) -> Callable[[Measuring, int], None]:
    def measure(run: Measuring, pair: int) -> None:
        found = measure_records(signal, run.relay, run.directory())
        costs = dict(found.costs_us)
        best = costs.pop("collector")
        for name, cost in costs.items():
            run.figures.add_cost(f"{signal} {name}", cost, best, best / cost, "each")
        for peer, cost in ((RELAY, costs["all"]), (COLLECTOR, best)):
            shown = Measurement(signal, peer, pair, samples_per_cpu_s=1e6 / cost)
            run.measurements.append(shown)
        own, other = found.peaks_bytes["all"], found.peaks_bytes["collector"]
        rests = found.rests_bytes["all"] >> 20, found.rests_bytes["collector"] >> 20
        note = f"{own >> 20}, {other >> 20} MiB; at rest {rests[0]}, {rests[1]}"
        run.figures.add(f"{signal} memory", own / other, note)

    return measure


def _memory(
    workload: str, row: str, series: int, content: str, label_set: LabelSet
) -> Callable[[Measuring, int], None]:
    def measure(run: Measuring, pair: int) -> None:
        shape = Shape(
            start_ms=run.datasets.now_ms - MEMORY_ROUNDS * 15_000,
            rounds=MEMORY_ROUNDS,
            series=-(-series // len(exposed())) * len(exposed()) if content == "scrape" else series,
            content="scrape" if content == "scrape" else "numbers",
            label_set=label_set,
            projects=0 if content == "scrape" else 2_000,
        )
        dataset = write_dataset(run.directory(), shape)
        resident, peak, known = resident_bytes(run.relay, workload, dataset, run.directory())
        if known < series:
            raise BenchError(f"the relay knows {known:,} series of {shape.series:,}")
        note = f"{known:,} series, {resident / known:,.0f} bytes each, peak {peak / 2**20:,.0f}"
        run.figures.add(row, resident / 2**20, note)
        dataset.bodies.unlink()

    return measure


MEASURED: Mapping[str, Callable[[Measuring, int], None]] = {
    "scrape-platform": _beside("scrape-platform", NEWEST, "scrape-platform"),
    "scrape": _beside("scrape", NEWEST, "scrape"),
    "worst": _beside("worst", DEBIAN, "worst"),
    "filter": _beside("scrape-filter", NEWEST, "filter"),
    "logs": _records("logs"),
    "traces": _records("traces"),
    "memory": _memory("scrape", "memory", MEMORY_SERIES, "scrape", "exposed"),
    "memory-platform": _memory("scrape", "memory-platform", MEMORY_SERIES, "scrape", "platform"),
    "sinks": _memory("tenants", "sinks", SINKS_SERIES, "numbers", "platform"),
    "cold": _cold("scrape-cold", "cold"),
    "cold-platform": _cold("scrape-cold-platform", "cold-platform"),
    "load": _load,
}
