"""The timer wakes up by the earliest deadline, although it does not ask for it at each request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.control import flush_timer
from relay.control.flush_timer import FlushTimer
from relay.control.time_slicing import Turns
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.metrics.metadata import metadata_wait
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from tests.kit.engine_rig import EVERYTHING, ReplaceablePipeline
from tests.kit.remote_write.sample_writes import write
from tests.own_time import patience

REQUESTS = (
    "up 1",
    "up 2",
    'late_seconds_bucket{le="1"} 1\nlate_seconds_bucket{le="+Inf"} 2',
    "up 3",
    "late_seconds_sum 4\nlate_seconds_count 2",
    "up 4\nother_total 5",
    'late_seconds_bucket{le="1"} 3',
)


class Sink:
    """Keeps what it is offered."""

    is_removed = False

    def __init__(self) -> None:
        self.batches: list[SealedBatch] = []

    def offer(self, batch: SealedBatch, shard: int = 0) -> None:
        del shard
        self.batches.append(batch)


def pipeline_of(batch: OpenBatch, **options: Any) -> MetricsPipeline:
    pipeline = ReplaceablePipeline(**options)
    targets = [SinkOutputSpec(SinkCounter("x", "sink"), [batch])]
    pipeline.add_exporter("x", "", [("all", EVERYTHING, targets)])
    return pipeline


async def test_the_timer_is_never_later_than_the_earliest_deadline() -> None:
    loop = asyncio.get_running_loop()
    for options in ({}, {"first_sight_s": 3.0}, {"assembly_wait_s": 1.0, "first_sight_s": 2.0}):
        batch = OpenBatch(Sink(), limit=4, timeout_s=4.0)  # type: ignore[arg-type]
        pipeline = pipeline_of(batch, **options)
        timer = FlushTimer(pipeline, Turns(), tick=loop.time)
        for text in REQUESTS * 3:
            timer.on_accepted(pipeline.ingest(write(*text.splitlines()), now=1e9, tick=loop.time()))
            due = pipeline.next_due()
            assert due is None or timer._due <= due
        timer.close()


async def test_requests_without_a_new_deadline_do_not_ask_for_the_next() -> None:
    loop = asyncio.get_running_loop()
    batch = OpenBatch(None, limit=100, timeout_s=60.0)
    pipeline = pipeline_of(batch)
    asked = 0
    next_due = pipeline.next_due

    def counted() -> float | None:
        nonlocal asked
        asked += 1
        return next_due()

    pipeline.next_due = counted  # type: ignore[method-assign]
    timer = FlushTimer(pipeline, Turns(), tick=loop.time)
    for _ in range(5):
        timer.on_accepted(pipeline.ingest(write("up 1"), now=1e9, tick=loop.time()))
    assert asked == 1
    timer.close()


async def test_batches_leave_in_time_one_after_the_other() -> None:
    loop = asyncio.get_running_loop()
    sink = Sink()
    batch = OpenBatch(sink, limit=100, timeout_s=0.02)  # type: ignore[arg-type]
    pipeline = pipeline_of(batch)
    timer = FlushTimer(pipeline, Turns(), tick=loop.time)
    async with patience(10):
        for number in range(1, 4):
            for _ in range(2):
                timer.on_accepted(pipeline.ingest(write("up 1"), now=1e9, tick=loop.time()))
            while len(sink.batches) < number:  # noqa: ASYNC110 - a sink has no event
                await asyncio.sleep(0.005)
    assert [one.count for one in sink.batches] == [2, 2, 2]
    timer.close()


async def test_requests_go_first_where_more_is_due_than_is_sent_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata_wait, "SLICE", 1)
    rests: list[float] = []

    async def rest(worked_s: float) -> None:
        rests.append(worked_s)
        await asyncio.sleep(0)

    monkeypatch.setattr(flush_timer, "give_way", rest)
    loop = asyncio.get_running_loop()
    sink = Sink()
    batch = OpenBatch(sink, limit=4, timeout_s=60.0)  # type: ignore[arg-type]
    pipeline = pipeline_of(batch, first_sight_s=0.01)
    timer = FlushTimer(pipeline, Turns(), tick=loop.time)
    body = write("a 1", "b 2", "c 3", "d 4")
    timer.on_accepted(pipeline.ingest(body, now=1e9, tick=loop.time()))
    for _ in range(1_000):
        if sink.batches:
            break
        await asyncio.sleep(0.005)
    timer.close()
    assert len(rests) >= 3
    assert all(worked_s > 0 for worked_s in rests)
