"""Log records and spans through an installed relay and the Collector, all at once, in turns.

Requests, receiver and settings are those of :mod:`bench.micro.otlp_records`. The Collector is
measured with and without its batch processor, and the better one counts; the relay's batches are as
large as that processor's.
"""

from __future__ import annotations

import gzip
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.micro.otlp_records import BATCH, BODIES, Forwarder, collectors, free_port, relay, request
from bench.process import Process

RECORDS = 500
"""Of a request."""

REQUESTS = 40
"""Of a turn."""

TURNS = 4
SETTLE_S = 2.0
SELECTORS = {"all": "{}", "some": '{service_name="svc-3"}'}
"""One of 25 services is 4 % of the records."""


def costs_us(signal: str, command: str, directory: Path) -> dict[str, float]:
    """Return µs of CPU a record: of ``collector``, and of the relay with ``all`` and ``some``."""
    rng = random.Random(1)
    bodies = [gzip.compress(request(signal, RECORDS, rng), 1) for _ in range(BODIES)]
    with ExitStack() as stack:
        receiver = [sys.executable, "-m", "bench.micro.otlp_records", "--receiver"]
        sink = stack.enter_context(
            Process("receiver", receiver, directory=directory, pipe_stdout=True)
        )
        forwarders = {}
        started = _commands(signal, command, directory, int(sink.read_line()))
        for name, arguments, listen in started:
            process = Process(name, arguments, directory=directory, environment={"PYTHONPATH": ""})
            stack.enter_context(process)
            forwarders[name] = Forwarder(process, listen, f"/v1/{signal}")
        for one in forwarders.values():
            one.send(bodies, REQUESTS)
        time.sleep(SETTLE_S)
        for one in forwarders.values():
            one.costs_s.clear()
        for _ in range(TURNS):
            for one in forwarders.values():
                one.send(bodies, REQUESTS)
        costs = {name: one.cost_s() / RECORDS * 1e6 for name, one in forwarders.items()}
    return {"collector": min(costs["collector"], costs["collector-batch"])} | {
        k: costs[k] for k in SELECTORS
    }


def _commands(
    signal: str, command: str, directory: Path, port: int
) -> Iterator[tuple[str, list[str], int]]:
    """Yield name, command and port of every forwarder; the receiver listens at ``port``."""
    yield from collectors(directory, port)
    for name, selector in SELECTORS.items():
        listen = free_port()
        own = directory / name
        own.mkdir()
        settings = relay(own, listen, signal=signal, selector=selector, port=port, size=BATCH)
        yield name, [command, "run", "--config", str(settings)], listen
