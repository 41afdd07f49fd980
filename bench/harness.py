"""Runs: one peer, one workload, measured from outside.

A run is, in this order:

1. a fresh sink and a fresh peer, in processes of their own, with empty directories;
2. *warm-up*: every series is sent :data:`WARMUP_ROUNDS` times, and all of it must arrive;
3. *measured*: requests for ``seconds``, as fast as the peer takes them or at a rate;
4. *drain*: until every point of them has arrived, and a little longer in case there are more.

The rules of counting:

* CPU of the peer is taken from the operating system, from the end of 2 to the end of 4: work that
  a peer puts off is counted. Samples per CPU-second are accepted samples over that.
* Throughput by the clock counts what had *arrived* when the last request was answered, not what was
  accepted: a peer that only queues gets no credit. Points are scaled back to accepted samples.
* A run is void unless exactly the points that follow from the accepted samples arrive, all verified
  values are those that were sent, and every process ends in good order.
* Peers take turns (A B A B), so that what disturbs the machine meets all of them.
"""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from bench.dataset import SCRAPE_INTERVAL_MS, Dataset, Shape, write_dataset
from bench.generator import SendResult
from bench.peer import Launch, Peer, load_peer
from bench.process import BenchError, Process, machine_time
from bench.sink import FIGURES_PATH
from bench.workload import Workload

WARMUP_ROUNDS = 2
READY_TIMEOUT_S = 30.0
DRAIN_TIMEOUT_S = 120.0
SETTLE_S = 0.3
"""How long the sink is watched for points too many after the last one that was expected."""

_POLL_S = 0.05
_HTTP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. ``peers`` may name a peer twice, to see how far equal runs differ."""

    workload: Workload
    peers: Sequence[str]
    runs: int
    seconds: float
    rounds: int
    connections: int = 4
    rate: float | None = None
    series: int | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run. Shares are of the whole machine's CPU time while requests were sent."""

    workload: str
    peer: str
    pair: int
    void: str = ""
    """Why the run counts for nothing; "" where it counts."""
    samples: int = 0
    points: int = 0
    verified_points: int = 0
    """Decoded one by one and compared with what was sent, warm-up included."""
    samples_per_cpu_s: float = 0.0
    samples_per_s: float = 0.0
    accepted_per_s: float = 0.0
    cpu_s: float = 0.0
    drain_s: float = 0.0
    rss_peak_bytes: int = 0
    latency_p50_s: float = 0.0
    latency_p99_s: float = 0.0
    latency_max_s: float = 0.0
    retries: int = 0
    sink_requests: int = 0
    sink_compressed_bytes: int = 0
    generator_cpu_s: float = 0.0
    sink_cpu_s: float = 0.0
    idle_share: float = 0.0
    foreign_share: float = 0.0
    """CPU that neither the peer nor the harness used, stolen time included: noise."""
    cycled: bool = False


def run_plan(plan: Plan, report: Callable[[Measurement], None]) -> list[Measurement]:
    """Make the data set and every run of a plan; ``report`` gets each run as it ends.

    Raises BenchError where a run cannot even be tried; a run that goes wrong is void.
    """
    peers = [(label, load_peer(name)) for label, name in _labels(plan.peers)]
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as scratch:
        root = Path(scratch)
        for label, peer in peers:  # before minutes are spent: can every peer do it?
            peer.prepare(plan.workload.name, _made(root / "probe" / label), sink_port=1)
        dataset = write_dataset(_made(root / "dataset"), _shape(plan))
        for pair in range(plan.runs):
            for label, peer in peers:
                directory = _made(root / f"{label}-{pair}".replace("#", "-"))
                measurement = _measured(plan, peer, label, pair, dataset, directory)
                report(measurement)
                measurements.append(measurement)
    return measurements


def _labels(peers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A label for each peer, the number added where one is named more than once."""
    for position, name in enumerate(peers):
        if peers.count(name) == 1:
            yield name, name
        else:
            yield f"{name}#{peers[: position + 1].count(name)}", name


def _shape(plan: Plan) -> Shape:
    """The workload's shape, its last round in the recent past."""
    now_ms = time.time_ns() // 1_000_000
    shape = plan.workload.shape(now_ms - (plan.rounds + 1) * SCRAPE_INTERVAL_MS, plan.rounds)
    if plan.series is None:
        return shape
    return Shape(
        shape.start_ms, shape.rounds, plan.series, shape.series_per_request, shape.encoding
    )


def _measured(
    plan: Plan, peer: Peer, label: str, pair: int, dataset: Dataset, directory: Path
) -> Measurement:
    """One run; one that goes wrong comes back void."""
    try:
        with ExitStack() as processes:
            run = _Run(plan, peer, dataset, directory, processes)
            figures = run.measure()
            run.stop()
    except BenchError as error:
        return Measurement(plan.workload.name, label, pair, void=str(error))
    return Measurement(plan.workload.name, label, pair, **figures)


class _Run:
    """The processes of one run; see the module's rules for what happens in which order."""

    def __init__(
        self, plan: Plan, peer: Peer, dataset: Dataset, directory: Path, processes: ExitStack
    ) -> None:
        self._plan = plan
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
        self._launch: Launch = peer.prepare(plan.workload.name, directory, self._sink_port)
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
        """Warm up, send, drain; the fields of a Measurement. Raises BenchError if it is void."""
        plan, per_round = self._plan, self._dataset.requests_per_round
        warmup = self._send("warmup", ["--requests-max", str(WARMUP_ROUNDS * per_round)])
        before = self._drained(plan.workload.points(warmup.samples, warmup.wanted), 0.0)
        used_before = self._peer.usage()
        sink_cpu_before = self._sink.usage().cpu_s
        machine_before = machine_time()
        limits = ["--first", str(warmup.next_request), "--seconds", str(plan.seconds)]
        sent = self._send("generator", limits + (["--rate", str(plan.rate)] if plan.rate else []))
        # Everything until here was used by the machine while requests were sent.
        machine_after = machine_time()
        peer_cpu_sending = self._peer.usage().cpu_s - used_before.cpu_s
        sink_cpu = self._sink.usage().cpu_s - sink_cpu_before
        expected = plan.workload.points(sent.samples, sent.wanted)
        after = self._drained(before["points"] + expected, sent.ended_at)
        drained_at = monotonic() - SETTLE_S
        used = self._peer.usage()
        cpu_s = used.cpu_s - used_before.cpu_s
        if cpu_s <= 0 or not expected:
            raise BenchError("nothing was measured: give it more seconds")
        arrived_share = (after["points_until"] - before["points"]) / expected
        busy_s = machine_after.busy_s - machine_before.busy_s
        idle_s = machine_after.idle_s - machine_before.idle_s
        stolen_s = machine_after.stolen_s - machine_before.stolen_s
        total_s = (busy_s + idle_s + stolen_s) or 1.0
        foreign_s = busy_s + stolen_s - peer_cpu_sending - sink_cpu - sent.cpu_s
        sending_s = sent.ended_at - sent.started_at
        return {
            "samples": sent.samples,
            "points": after["points"] - before["points"],
            "verified_points": after["verified_points"],
            "samples_per_cpu_s": sent.samples / cpu_s,
            "samples_per_s": sent.samples * arrived_share / sending_s,
            "accepted_per_s": sent.samples / sending_s,
            "cpu_s": cpu_s,
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
            "cycled": sent.cycled,
        }

    def stop(self) -> None:
        """End the peer in good order, then look whether that sent anything more."""
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
            *("--connections", str(self._plan.connections)),
            *limits,
        ]
        with Process(name, command, directory=self._directory, pipe_stdout=True) as generator:
            return SendResult(**json.loads(generator.read_line()))

    def _drained(self, points: int, until: float) -> dict[str, Any]:
        """Wait until ``points`` have arrived since the start, and no more; the sink's figures."""
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
                f"{figures['points'] - points:+d}"
            )
        return figures

    def _figures(self, until: float) -> dict[str, Any]:
        """What the sink has counted once it has counted everything that it has."""
        url = f"http://127.0.0.1:{self._sink_port}{FIGURES_PATH}?{until!r}"
        while True:
            try:
                with _get(url) as response:
                    figures: dict[str, Any] = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                raise BenchError(f"the sink failed: {error!r}: {self._sink.log_tail()}") from error
            if not figures["uncounted"]:
                return figures


def _status(url: str) -> int:
    """The status that a GET answers; 0 where nothing listens yet."""
    try:
        with _get(url) as response:
            return response.status
    except (OSError, http.client.HTTPException):
        return 0


@contextmanager
def _get(url: str) -> Iterator[http.client.HTTPResponse]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_HTTP_TIMEOUT_S)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
        yield connection.getresponse()
    finally:
        connection.close()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory
