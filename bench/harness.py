"""Run one peer with one workload, measured from outside.

Steps of a run:

1. start a sink and a peer, in processes of their own, with empty directories;
2. *warm-up*: send every series :data:`WARMUP_ROUNDS` times, or a few requests, until all arrived;
3. *measured*: send requests for ``seconds``, as fast as the peer accepts them or at a rate;
4. *drain*: wait for every point, and a little longer for surplus ones.

Rules of counting:

* The peer's CPU is read from the operating system, from the end of 2 to the end of 4, so deferred
  work counts.
* Throughput by the clock counts what had *arrived* at the last response, scaled back to samples.
* A run is void unless exactly the expected points arrive, at the right sinks, all verified values
  are correct, and every process exits in order.
* Peers, and the export that a workload is compared with, alternate: disturbances affect all.
* Several processes of a peer have their own series, generator and sink each. They start together
  once all are warm, and their figures are summed up.
* With ``load``, a peer runs twice: at its maximum, then at that share, with :mod:`bench.watch`.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from time import monotonic
from typing import Any

from bench.dataset import SCRAPE_INTERVAL_MS, Dataset, Shape, write_dataset
from bench.generator import SendResult
from bench.labels import LabelSet
from bench.measurement import Measurement, sum_of
from bench.peer import Launch, Peer, load_peer
from bench.process import BenchError, Process, machine_time
from bench.ratios import EXPORT_BOUNDS
from bench.sink import FIGURES_PATH, SINKS_PATH
from bench.watch import Watched, Watcher
from bench.web import get
from bench.workload import EXPORT, WORKLOADS, Workload

WARMUP_ROUNDS = 2
READY_TIMEOUT_S = 120.0
"""Time for a peer to become ready; s. Long for ten thousand exporters; a crash is noticed at
once."""

DRAIN_TIMEOUT_S = 120.0
SETTLE_S = 0.3
"""Time to watch the sink for surplus points after the last expected one; s."""

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """Parameters of runs. ``peers`` may name a peer twice, to show how far equal runs differ.

    ``load``: run each peer once more at this share of its maximum. ``series`` overrides the
    workload's. ``with_export``: run the first peer's export beside workloads that are compared with
    it. ``processes``: share the series among that many of each peer, and run a single one beside.
    ``relay``: the command of the peer ``relay-installed``.
    """

    workload: Workload
    peers: Sequence[str]
    runs: int
    seconds: float
    connections: int = 4
    rate: float | None = None
    load: float | None = None
    series: int | None = None
    label_set: LabelSet = "platform"
    with_export: bool = True
    processes: int = 1
    relay: str = ""


class Datasets:
    """The data sets of an invocation, made on first use in one directory.

    That of :data:`EXPORT` also serves the workloads that are compared with it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # The last rounds are in the recent past.
        self.now_ms = time.time_ns() // 1_000_000
        self._kept: dict[Shape, Dataset] = {}
        self._made = 0

    def get(self, plan: Plan, workload: Workload) -> Dataset:
        """Return the data set of a plan for a workload."""
        shape = self._shape(plan, workload)
        if shape not in self._kept:
            self._made += 1
            directory = _made(self._root / f"dataset-{self._made}")
            self._kept[shape] = write_dataset(directory, shape)
        return self._kept[shape]

    def keep_only(self, plan: Plan, name: str) -> None:
        """Delete all data sets but that of ``plan`` for the workload ``name``."""
        kept = self._shape(plan, WORKLOADS[name])
        for shape, dataset in list(self._kept.items()):
            if shape != kept:
                shutil.rmtree(dataset.directory)
                del self._kept[shape]

    def _shape(self, plan: Plan, workload: Workload) -> Shape:
        shape = workload.shape_of(self.now_ms, plan.seconds, plan.label_set, plan.series)
        return replace(shape, start_ms=self.now_ms - (shape.rounds + 1) * SCRAPE_INTERVAL_MS)


def run_plan(
    plan: Plan, root: Path, datasets: Datasets, report: Callable[[Measurement], None]
) -> list[Measurement]:
    """Make every run of a plan in ``root``; call ``report`` with each.

    Raise BenchError if a run cannot be started; a failed run is void.
    """
    workload = plan.workload
    plan = replace(plan, seconds=max(plan.seconds, workload.seconds_min))
    peers = [(label, load_peer(name)) for label, name in _labels(plan.peers)]
    measurements: list[Measurement] = []

    def add(measurement: Measurement) -> Measurement:
        report(measurement)
        measurements.append(measurement)
        return measurement

    with tempfile.TemporaryDirectory(prefix=f"{workload.name}-", dir=root) as scratch:
        directory = Path(scratch)
        for label, peer in peers:  # check every peer before minutes are spent
            peer.prepare(
                workload.name, _made(directory / "probe" / label), sink_port=1, relay=plan.relay
            )
        for pair in range(plan.runs):
            for label, peer in peers:
                case = _Case(plan, workload, peer, label, pair)
                place = directory / f"{label}-{pair}".replace("#", "-")
                if _is_compared(plan) and label == peers[0][0]:
                    export = replace(case, workload=WORKLOADS[EXPORT], beside=workload.name)
                    dataset = datasets.get(plan, export.workload)
                    add(_measured(export, dataset, _made(place / EXPORT)))
                dataset = datasets.get(plan, workload)
                if plan.processes > 1:
                    share = replace(plan, series=dataset.shape.series // plan.processes)
                    several = replace(case, plan=share, label=f"{label} x{plan.processes}")
                    parts = datasets.get(share, workload)
                    add(_measured_together(several, parts, _made(place / "several")))
                found = add(_measured(case, dataset, _made(place / "run")))
                if plan.load is not None and not found.void:
                    rate = plan.load * found.samples_per_s
                    loaded = replace(case, load=plan.load, plan=replace(plan, rate=rate))
                    add(_measured(loaded, dataset, _made(place / "load")))
    return measurements


def _is_compared(plan: Plan) -> bool:
    return (
        plan.with_export
        and plan.workload.name in EXPORT_BOUNDS
        and plan.load is None
        and plan.processes == 1
    )


def _labels(peers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield a label for each peer, with a number if one is named more than once."""
    for position, name in enumerate(peers):
        if peers.count(name) == 1:
            yield name, name
        else:
            yield f"{name}#{peers[: position + 1].count(name)}", name


@dataclass(frozen=True, slots=True)
class _Case:
    """One run to be made."""

    plan: Plan
    workload: Workload
    peer: Peer
    label: str
    pair: int
    beside: str = ""
    load: float = 0.0
    together: Barrier | None = None
    """Barrier of runs that are measured together."""


def _measured(case: _Case, dataset: Dataset, directory: Path) -> Measurement:
    """Make one run and delete its directory; a failed run is returned void."""
    blank = Measurement(
        case.workload.name, case.label, case.pair, beside=case.beside, load=case.load
    )
    try:
        with ExitStack() as processes:
            run = _Run(case, dataset, directory, processes)
            figures = run.measure()
            run.stop()
    except BenchError as error:
        if case.together is not None:
            case.together.abort()  # the others need not wait
        return replace(blank, void=str(error))
    finally:
        shutil.rmtree(directory)
    return replace(blank, **figures)


def _measured_together(case: _Case, dataset: Dataset, directory: Path) -> Measurement:
    """Run all processes of a peer at the same time and combine them."""
    count = case.plan.processes
    together = Barrier(count)
    cases = [replace(case, together=together) for _ in range(count)]
    places = [_made(directory / str(number)) for number in range(count)]
    with ThreadPoolExecutor(count) as threads:
        parts = list(threads.map(_measured, cases, [dataset] * count, places))
    return sum_of(parts)


class _Run:
    """The processes of one run; the module's docstring has the order of its steps."""

    def __init__(
        self, case: _Case, dataset: Dataset, directory: Path, processes: ExitStack
    ) -> None:
        self._case = case
        self._dataset = dataset
        self._directory = directory
        self._sink = processes.enter_context(
            Process(
                "sink",
                [sys.executable, "-m", "bench.sink", "--dataset", str(dataset.directory)],
                directory=directory,
                pipe_stdout=True,
            )
        )
        self._sink_port = int(json.loads(self._sink.read_line())["port"])
        self._launch: Launch = case.peer.prepare(
            case.workload.name, directory, self._sink_port, case.plan.relay
        )
        self._peer = processes.enter_context(
            Process(
                "peer",
                self._launch.command,
                directory=directory,
                environment=self._launch.environment,
            )
        )
        self._await_ready()

    def measure(self) -> dict[str, Any]:
        """Warm up, send, drain; return fields of a Measurement. Raise BenchError if it is void."""
        plan, workload, dataset = self._case.plan, self._case.workload, self._dataset
        warmup_requests = workload.warmup_requests or WARMUP_ROUNDS * dataset.requests_per_round
        once = ["--once"] if workload.once else []
        warmup = self._send("warmup", ["--requests-max", str(warmup_requests)])
        expected = workload.expected(dataset, 0, warmup.requests)
        before = self._drained(expected, 0.0)
        self._wait_for_others()
        used_before = self._peer.usage()
        sink_cpu_before = self._sink.usage().cpu_s
        machine_before = machine_time()
        limits = ["--first", str(warmup.next_request), *once]
        if workload.timed:
            limits += ["--seconds", str(plan.seconds)]
        if plan.rate:
            limits += ["--rate", str(plan.rate)]
        sent, watched = self._send_watched(limits)
        # Everything until here used the machine while requests were sent.
        machine_after = machine_time()
        peer_cpu_sending = self._peer.usage().cpu_s - used_before.cpu_s
        sink_cpu = self._sink.usage().cpu_s - sink_cpu_before
        wanted = workload.expected(dataset, warmup.next_request, sent.requests)
        points = wanted.total()
        after = self._drained(expected + wanted, sent.ended_at)
        drained_at = monotonic() - SETTLE_S
        used = self._peer.usage()
        cpu_s = used.cpu_s - used_before.cpu_s
        if cpu_s <= 0 or not points:
            raise BenchError("nothing was measured: give it more seconds")
        arrived_share = (after["points_until"] - before["points"]) / points
        busy_s = machine_after.busy_s - machine_before.busy_s
        idle_s = machine_after.idle_s - machine_before.idle_s
        stolen_s = machine_after.stolen_s - machine_before.stolen_s
        total_s = (busy_s + idle_s + stolen_s) or 1.0
        foreign_s = busy_s + stolen_s - peer_cpu_sending - sink_cpu - sent.process_cpu_s
        sending_s = sent.ended_at - sent.started_at
        figures = {
            "samples": sent.samples,
            "points": points,
            "verified_points": after["verified_points"],
            "samples_per_cpu_s": sent.samples / cpu_s,
            "samples_per_s": sent.samples * arrived_share / sending_s,
            "accepted_per_s": sent.samples / sending_s,
            "cpu_s": cpu_s,
            "sending_s": sending_s,
            "drain_s": drained_at - sent.ended_at,
            "rss_peak_bytes": used.rss_peak_bytes,
            "latency_p50_s": sent.latency_p50_s,
            "latency_p99_s": sent.latency_p99_s,
            "latency_max_s": sent.latency_max_s,
            "retries": sent.retries,
            "sink_requests": after["requests"] - before["requests"],
            "sink_compressed_bytes": after["compressed_bytes"] - before["compressed_bytes"],
            "generator_cpu_s": sent.cpu_s,
            "sink_cpu_s": sink_cpu,
            "idle_share": idle_s / total_s,
            "foreign_share": max(0.0, foreign_s / total_s),
            "stolen_share": stolen_s / total_s,
            "cycled": sent.cycled,
            "exhausted": sent.exhausted,
        }
        if watched is not None:
            figures |= {
                "lag_p99_s": watched.lag_p99_s,
                "lag_max_s": watched.lag_max_s,
                "scrapes": watched.scrapes,
                "reloads": watched.reloads,
                "previews": watched.previews,
                "page_bytes": watched.page_bytes,
            }
        return figures

    def _send_watched(self, limits: Sequence[str]) -> tuple[SendResult, Watched | None]:
        """Send the measured requests; at a share of the maximum, scrape the peer meanwhile."""
        if not self._case.load or not self._launch.metrics:
            return self._send("generator", limits), None
        watcher = Watcher(
            self._launch.metrics,
            reload=self._reload if self._case.peer.reloads else None,
            reload_after_s=self._case.plan.seconds / 2,
            page=self._launch.page,
            preview=self._launch.preview,
        )
        with watcher:
            sent = self._send("generator", limits)
        try:
            return sent, watcher.result()
        except OSError as error:
            raise BenchError(f"the peer's metrics could not be read: {error}") from error

    def _wait_for_others(self) -> None:
        if self._case.together is not None:
            try:
                self._case.together.wait(READY_TIMEOUT_S)
            except BrokenBarrierError as error:
                raise BenchError("another process of the peer did not get so far") from error

    def _reload(self) -> None:
        self._peer.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Stop the peer, then check that it sent nothing more."""
        before = self._figures(0.0)
        if not self._peer.stop():
            raise BenchError(f"the peer did not stop in good order: {self._peer.log_tail()}")
        if self._figures(0.0)["points"] != before["points"]:
            raise BenchError("points arrived that were not expected, when the peer was stopped")

    def _await_ready(self) -> None:
        deadline = monotonic() + READY_TIMEOUT_S
        while _status(self._launch.ready) != 200:
            if not self._peer.is_running():
                raise BenchError(f"the peer ended at its start: {self._peer.log_tail()}")
            if monotonic() > deadline:
                raise BenchError(
                    f"{self._launch.ready} did not answer 200 in {READY_TIMEOUT_S:.0f} s: "
                    f"{self._peer.log_tail()}"
                )
            time.sleep(_POLL_S)

    def _send(self, name: str, limits: Sequence[str]) -> SendResult:
        command = [
            *(sys.executable, "-m", "bench.generator"),
            *("--dataset", str(self._dataset.directory)),
            *("--url", self._launch.write),
            *("--connections", str(self._case.plan.connections)),
            *limits,
        ]
        with Process(name, command, directory=self._directory, pipe_stdout=True) as generator:
            return SendResult(**json.loads(generator.read_line()))

    def _drained(self, expected: Mapping[str, int], until: float) -> dict[str, Any]:
        """Wait until each sink has its expected points and no more; return the combined figures."""
        points = sum(expected.values())
        deadline = monotonic() + DRAIN_TIMEOUT_S
        figures = self._figures(until)
        while figures["points"] < points and monotonic() < deadline and self._peer.is_running():
            time.sleep(_POLL_S)
            figures = self._figures(until)
        if figures["points"] == points:
            time.sleep(SETTLE_S)
            figures = self._figures(until)
        if not self._peer.is_running():
            raise BenchError(f"the peer ended: {self._peer.log_tail()}")
        if figures["fault_count"]:
            raise BenchError(f"{figures['fault_count']} faults: {'; '.join(figures['faults'])}")
        if not figures["verified_points"]:
            raise BenchError("no point was verified")
        if figures["points"] != points:
            raise BenchError(
                f"{figures['points']} points arrived where {points} were expected: "
                f"{figures['points'] - points:+d}; the peer says: {self._peer.log_tail()}"
            )
        arrived = self._ask_sink(SINKS_PATH)
        for sink in sorted({*arrived, *expected}):
            if arrived.get(sink, 0) != expected.get(sink, 0):
                raise BenchError(
                    f"{arrived.get(sink, 0)} points arrived at the sink {sink!r} where "
                    f"{expected.get(sink, 0)} were expected"
                )
        return figures

    def _figures(self, until: float) -> dict[str, Any]:
        """Return the sink's figures after it has counted everything received."""
        while True:
            figures = self._ask_sink(f"{FIGURES_PATH}?{until!r}")
            if not figures["uncounted"]:
                return figures

    def _ask_sink(self, path: str) -> dict[str, Any]:
        try:
            _, body = get(f"http://127.0.0.1:{self._sink_port}{path}")
        except OSError as error:
            raise BenchError(f"the sink failed: {error!r}: {self._sink.log_tail()}") from error
        answer: dict[str, Any] = json.loads(body)
        return answer


def _status(url: str) -> int:
    """Return the status of a GET; 0 if nothing listens yet."""
    try:
        return get(url)[0]
    except OSError:
        return 0


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory
