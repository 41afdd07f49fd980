"""Whole sinks that are paused: in flight, at a shutdown, with and without a disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.kit.http.otlp_server import OtlpServer, Reply
from tests.kit.sink_harness import running_sink, sink_config, stored_sink
from tests.own_time import patience


async def test_a_pause_keeps_the_queue_and_the_open_batches() -> None:
    async with OtlpServer() as server, running_sink(sink_config(server.url)) as harness:
        harness.offer(1)
        await harness.finished()
        shards = harness.worker.shards
        harness.worker.pause_sending(True)
        harness.offer(2)
        harness.offer(3)
        statistics = await harness.until(lambda s: s.queue.payloads == 2)
        assert statistics.owner_paused
        assert statistics.state == "healthy"
        assert server.values == [1]
        assert harness.worker.shards is shards
        harness.worker.pause_sending(False)
        assert (await harness.finished()).ledger.delivered == 3
        assert server.values == [1, 2, 3]


async def test_a_shutdown_stores_the_queue_of_a_paused_sink_at_once(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        config = replace(sink_config(server.url), paused=True)
        async with stored_sink(tmp_path, config, leave=True) as harness:
            harness.offer(1, 2)
            async with patience(5.0):
                await harness.worker.drain(60.0)
            statistics = harness.worker.statistics()
            assert statistics.queue.stored_payloads == 1
            assert statistics.ledger.queued == 2
            assert harness.holds.total == 0
        async with stored_sink(tmp_path, config, first=1) as harness:
            assert (await harness.until(lambda s: s.ledger.queued == 2)).owner_paused
            assert not server.received
            harness.worker.pause_sending(False)
            assert (await harness.finished()).ledger.delivered == 2
    assert server.values == [1, 2]


async def test_a_shutdown_without_a_disk_gives_up_the_queue_and_says_so() -> None:
    async with OtlpServer() as server:
        config = replace(sink_config(server.url), paused=True)
        async with running_sink(config) as harness:
            harness.offer(1, 2)
            async with patience(5.0):
                await harness.worker.drain(60.0)
            assert harness.worker.statistics().ledger.dropped == {"shutdown": 2}
            assert harness.holds.total == 0
    assert not server.received


async def test_points_sent_again_are_counted() -> None:
    answers = [Reply(503), Reply(503), Reply()]
    async with (
        OtlpServer(lambda _: answers.pop(0)) as server,
        running_sink(sink_config(server.url)) as harness,
    ):
        harness.offer(1, 2, 3)
        statistics = await harness.finished()
    assert statistics.points_resent == 6
