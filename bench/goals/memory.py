"""Resident memory of a relay that has seen every series of a data set twice and delivered all."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench.dataset import Dataset
from bench.peer import load_peer
from bench.process import BenchError, Process
from bench.web import get

READY_TIMEOUT_S = 300.0
QUIET_S = 3.0
"""No CPU is used for so long once all is delivered: longer than the timeout of batches."""

QUIET_TIMEOUT_S = 120.0
_SERIES = re.compile(r"^relay_series_active (\S+)$", re.MULTILINE)


def resident_bytes(
    relay: str, workload: str, dataset: Dataset, directory: Path
) -> tuple[int, int, int]:
    """Return resident bytes, the most there were, and the number of series. Raise BenchError."""
    with ExitStack() as stack:
        receiver = [sys.executable, "-m", "bench.micro.otlp_records", "--receiver"]
        sink = stack.enter_context(
            Process("receiver", receiver, directory=directory, pipe_stdout=True)
        )
        port = int(sink.read_line())
        launch = load_peer("relay-installed").prepare(workload, directory, port, relay)
        peer = stack.enter_context(
            Process("relay", launch.command, directory=directory, environment=launch.environment)
        )
        _await_ready(peer, launch.ready)
        command = [sys.executable, "-m", "bench.generator", "--once"]
        command += ["--dataset", str(dataset.directory), "--url", launch.write]
        command += ["--connections", "4"]
        with Process("generator", command, directory=directory, pipe_stdout=True) as generator:
            json.loads(generator.read_line())
        _await_quiet(peer)
        found = _SERIES.search(get(launch.metrics)[1].decode())
        if found is None:
            raise BenchError("the relay does not tell its number of series")
        _await_quiet(peer)  # the page of /metrics is as large as a tenth of all
        return *peer.rss_bytes(), int(float(found[1]))


def _await_ready(peer: Process, url: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and peer.is_running():
        try:
            if get(url)[0] == 200:
                return
        except OSError:
            pass  # nothing listens yet
        time.sleep(0.1)
    raise BenchError(f"{peer.name} did not become ready: {peer.log_tail()}")


def _await_quiet(peer: Process) -> None:
    """Wait until hardly any CPU is used."""
    deadline = time.monotonic() + QUIET_TIMEOUT_S
    before = peer.usage().cpu_s
    while time.monotonic() < deadline:
        time.sleep(QUIET_S)
        now = peer.usage().cpu_s
        if now - before < 0.1 * QUIET_S:
            return
        before = now
    raise BenchError(f"{peer.name} did not come to rest")
