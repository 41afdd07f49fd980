"""Log records and spans through an installed relay and the Collector, all at once, in turns.

Requests, receiver and settings are those of :mod:`bench.micro.otlp_records`. The Collector is
measured with and without its batch processor, and the better one counts; the relay's batches are as
large as that processor's. CPU is measured with one sender, memory with several afterwards: what a
request needs while it is read and sent on is needed once for each.
"""

from __future__ import annotations

import gzip
import random
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.micro.otlp_records import BATCH, BODIES, Forwarder, collectors, free_port, relay, request
from bench.process import Process

RECORDS = 500
"""Of a request."""

REQUESTS = 40
"""Of a turn."""

TURNS = 4
SENDERS = 8
"""Connections while memory is measured."""

SETTLE_S = 2.0
Number = TypeVar("Number", int, float)
SELECTORS = {"all": "{}", "some": '{service_name="svc-3"}'}
"""One of 25 services is 4 % of the records."""


@dataclass(frozen=True, slots=True)
class RecordFigures:
    """CPU and memory of ``collector``, and of the relay with ``all`` and ``some``.

    ``costs_us``: CPU of a record, µs. ``peaks_bytes``: resident memory at the most with
    ``SENDERS``. ``rests_bytes``: after the start.
    """

    costs_us: Mapping[str, float]
    peaks_bytes: Mapping[str, int]
    rests_bytes: Mapping[str, int]


def measure_records(signal: str, command: str, directory: Path) -> RecordFigures:
    """Measure all forwarders at once, in turns; of the Collector's two modes the better counts."""
    rng = random.Random(1)
    bodies = [gzip.compress(request(signal, RECORDS, rng), 1) for _ in range(BODIES)]
    with ExitStack() as stack:
        receiver = [sys.executable, "-m", "bench.micro.otlp_records", "--receiver"]
        sink = stack.enter_context(
            Process("receiver", receiver, directory=directory, pipe_stdout=True)
        )
        forwarders, crowds = {}, {}
        started = _commands(signal, command, directory, int(sink.read_line()))
        for name, arguments, listen in started:
            process = Process(name, arguments, directory=directory, environment={"PYTHONPATH": ""})
            stack.enter_context(process)
            path = f"/v1/{signal}"
            forwarders[name] = Forwarder(process, listen, path)
            crowds[name] = Forwarder(process, listen, path, SENDERS)
        time.sleep(SETTLE_S)
        rests = {name: one.process.rss_bytes()[0] for name, one in forwarders.items()}
        for one in forwarders.values():
            one.send(bodies, REQUESTS)
        time.sleep(SETTLE_S)
        for one in forwarders.values():
            one.costs_s.clear()
        for _ in range(TURNS):
            for one in forwarders.values():
                one.send(bodies, REQUESTS)
        for one in crowds.values():
            one.send(bodies, TURNS * REQUESTS)
        costs = {name: one.cost_s() / RECORDS * 1e6 for name, one in forwarders.items()}
        peaks = {name: one.process.rss_bytes()[1] for name, one in forwarders.items()}
    return RecordFigures(_better(costs), _better(peaks), _better(rests))


def _better(figures: Mapping[str, Number]) -> dict[str, Number]:
    """Return the lower of the Collector's two as ``collector``, and the relay's as they are."""
    lower = min(figures["collector"], figures["collector-batch"])
    return {"collector": lower} | {name: figures[name] for name in SELECTORS}


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
