"""The process whose instructions :mod:`bench.micro.instructions` counts, with any checkout's relay.

It imports nothing of the bench, and little of the relay, because revisions differ.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import relay
from relay.codec.otlp.batch import OpenBatch
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.selector.metricsql.parser import parse_query

BATCH_POINTS = 10_000
BATCH_TIMEOUT_S = 1e9
"""Batches are sealed only when full; s."""

WAIT_S = 1.5
"""Wait for metadata, s."""

ROUND_S = 15.0
"""Interval of rounds; longer than the wait for a histogram's first series; s."""


def run(given: dict[str, Any]) -> dict[str, Any]:
    """Run one case with four marks: before and after ingesting, before and after encoding."""
    waits = given["part"] != "ingest"
    engine = MetricsPipeline(first_sight_s=WAIT_S if waits else 0.0)
    targets = [
        SinkOutputSpec(
            SinkCounter("one", f"sink-{number}"),
            [OpenBatch(None, limit=BATCH_POINTS, timeout_s=BATCH_TIMEOUT_S)],
        )
        for number in range(given["sinks"])
    ]
    engine.add_exporter("one", "", [("all", parse_query(given["query"]), targets)])
    start_s = ROUND_S * len(given["warm"])
    if waits:
        samples, sealed = leave(engine, given, start_s)
    else:
        # Discard the batches, as after sending.
        samples, _ = ingest(engine, given["warm"], 0.0, given["protocol"])
        assert samples, "samples were taken"
        mark()
        samples, sealed = ingest(engine, given["measured"], start_s, given["protocol"])
        mark()
    assert samples == given["samples"], (samples, given["samples"])
    sealed += [batch for one in targets for shard in one.shards if (batch := shard.seal())]
    mark()
    for batch in sealed:
        batch.point_buffer.encode()
    mark()
    return {"samples": samples, "points": sum(batch.count for batch in sealed)}


def mark() -> None:
    """Call the libc function at which callgrind dumps its counters."""
    os.sched_get_priority_max(os.SCHED_OTHER)


def ingest(
    engine: MetricsPipeline, rounds: list[list[bytes]], start_s: float, protocol: Any
) -> tuple[int, list[Any]]:
    """Return the number of accepted samples, and the sealed batches."""
    samples, filled = 0, []
    for number, bodies in enumerate(rounds):
        tick = start_s + ROUND_S * number
        for body in bodies:
            transaction = engine.ingest(body, now=1e9 + tick, tick=tick, protocol=protocol)
            samples += transaction.samples
            filled += transaction.sealed
        filled += engine.flush_due(tick + ROUND_S)
    batches = [batch for _, batch in filled]
    for batch in batches:
        engine.offsets.release(batch.oldest)
    return samples, batches


def leave(engine: MetricsPipeline, given: dict[str, Any], start_s: float) -> tuple[int, list[Any]]:
    """Let a round wait, then ingest another; mark the end of the wait, or the other round."""
    waited = 0
    for body in given["warm"][0]:
        waited += engine.ingest(body, now=1e9, tick=0.0, protocol=given["protocol"]).samples
    if given["part"] == "left":
        drain(engine, WAIT_S)
        mark()
        found = ingest(engine, given["measured"], start_s, given["protocol"])
        mark()
        return found
    mark()
    sealed = drain(engine, WAIT_S)
    mark()
    return waited, sealed


def drain(engine: MetricsPipeline, tick: float) -> list[Any]:
    """Send what waits and is due; return the sealed batches."""
    filled: list[Any] = []
    while (due := engine.next_due()) is not None and due <= tick:
        filled += engine.flush_due(tick)
    batches = [batch for _, batch in filled]
    for batch in batches:
        engine.offsets.release(batch.oldest)
    return batches


def main(directory: str, *names: str) -> None:
    """Run the cases and print their counts."""
    given = [
        (name, pickle.loads(Path(directory, f"{name}.pickle").read_bytes()))  # noqa: S301 # our own
        for name in names
    ]
    # Revisions would collect at different moments; the relay paces collections itself.
    gc.disable()
    found = [{"name": name, "package": str(relay.__file__), **run(case)} for name, case in given]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
