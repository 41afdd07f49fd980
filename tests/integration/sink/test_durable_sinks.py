"""Sinks with a disk: outages, restarts, full disks, edits. Real endpoints, real files."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from pathlib import Path

import pytest

from relay.config.exporter.types import Authentication, Queue, RetrySettings, SecretRef
from relay.sink.spill.segment_files import QueueFiles
from relay.sink.spill.store import TRY_AGAIN_S, QueueStore
from relay.sink.steps import Sleep
from relay.storage.log.filesystem import Disk
from tests.kit.http.hostile_server import HostileServer, never_answer
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.sink_harness import OWNER, sink_config, stored_sink, unreachable
from tests.kit.storage.faulty_disk import FaultyDisk
from tests.own_time import own_time, patience

TOKEN = Authentication("bearerToken", SecretRef("s", "token"))


def everything(root: Path) -> list[Path]:
    return list(root.iterdir())


def segments(root: Path) -> list[Path]:
    return list(root.rglob("*.seg"))


async def test_what_an_outage_leaves_on_disk_is_delivered_in_order(tmp_path: Path) -> None:
    up = False

    def answer(_: Received) -> Reply:
        return Reply() if up else Reply(503)

    async with (
        OtlpServer(answer) as server,
        stored_sink(tmp_path, sink_config(server.url)) as harness,
    ):
        for value in range(10):
            harness.offer(value)
        statistics = await harness.saved()
        assert statistics.ledger.queued == 10
        assert statistics.queue.stored_payloads >= 9
        for value in range(10, 20):
            harness.offer(value)
        up = True
        statistics = await harness.finished()
        assert server.values == list(range(20))
        await harness.until(lambda _: not segments(tmp_path))
    assert statistics.ledger.delivered == 20
    assert statistics.queue.stored_bytes == 0


async def test_a_crash_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    async with stored_sink(tmp_path, sink_config(unreachable())) as harness:
        for value in range(10):
            harness.offer(value)
        await harness.saved()
        harness.offer(99)  # in memory only: the journal still has it
        assert harness.holds.held[11] == 1
    async with (
        OtlpServer() as server,
        stored_sink(tmp_path, sink_config(server.url), first=10) as harness,
    ):
        assert harness.worker.restored_points == 10
        assert harness.worker.low_watermarks == (10,)
        assert harness.worker.oldest_positions(77) == (77,)
        harness.offer(10)
        statistics = await harness.finished()
        assert server.values == list(range(11))
        assert statistics.ledger.offered == statistics.ledger.delivered == 11


async def test_drain_puts_on_disk_what_cannot_be_sent(tmp_path: Path) -> None:
    async with stored_sink(tmp_path, sink_config(unreachable())) as harness:
        for value in range(5):
            harness.offer(value)
        await harness.until(lambda s: s.state == "failing")
        started = own_time()
        await harness.worker.drain(30.0)
        assert own_time() - started < 2.0  # nobody waits for an endpoint that is down
        assert harness.holds.total == 0
        assert harness.worker.statistics().ledger.queued == 5
    async with OtlpServer() as server, stored_sink(tmp_path, sink_config(server.url)) as harness:
        await harness.finished()
        assert server.values == list(range(5))


async def test_drain_sends_what_can_be_sent(tmp_path: Path) -> None:
    async with OtlpServer() as server, stored_sink(tmp_path, sink_config(server.url)) as harness:
        for value in range(5):
            harness.offer(value)
        await harness.worker.drain(5.0)
        assert server.values == list(range(5))
        assert harness.worker.statistics().ledger.delivered == 5
    assert not segments(tmp_path)


async def test_a_request_under_way_is_saved_with_the_rest(tmp_path: Path) -> None:
    async with (
        HostileServer(never_answer) as server,
        stored_sink(tmp_path, sink_config(server.url)) as first,
    ):
        first.offer(1)
        await first.until(lambda s: s.queue.in_flight == 1)
        first.offer(2)
        await first.saved()
    async with OtlpServer() as server, stored_sink(tmp_path, sink_config(server.url)) as second:
        await second.finished()
        assert server.values == [1, 2]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
async def test_a_disk_in_trouble_costs_nothing_while_memory_lasts(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.sink.spill.store.TRY_AGAIN_S", (0.01, 0.02))
    assert TRY_AGAIN_S[0] > 0
    disk = FaultyDisk()
    up = False

    def answer(_: Received) -> Reply:
        return Reply() if up else Reply(503)

    async with (
        OtlpServer(answer) as server,
        stored_sink(tmp_path, sink_config(server.url), disk=disk) as harness,
    ):
        harness.offer(0, 1)
        await harness.saved()
        disk.write_error = code
        for value in range(2, 6):
            harness.offer(value)
        harness.worker.save(at_once=True)
        await harness.until(lambda _: harness.store.trouble != "")
        assert harness.holds.total == 4
        assert harness.store.statistics().errors
        harness.offer(6)
        disk.write_error = 0
        async with patience(5.0):
            while harness.holds.total:
                harness.worker.save(at_once=True)
                await asyncio.sleep(0.005)
        assert harness.store.trouble == ""
        up = True
        await harness.finished()
        assert server.values == list(range(7))


async def test_a_disk_that_hangs_holds_up_neither_sending_nor_senders(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with (
        OtlpServer() as server,
        stored_sink(tmp_path, sink_config(server.url), disk=disk) as harness,
    ):
        disk.freeze()
        harness.offer(0)
        harness.worker.save(at_once=True)
        for value in range(1, 5):
            harness.offer(value)
        await server.wait_until(lambda: len(server.received) == 5)
        disk.thaw()
        await harness.finished()
        assert server.values == list(range(5))
        await harness.until(lambda _: not segments(tmp_path))


async def test_a_disk_that_cannot_be_read_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.sink.delivery.LOAD_AGAIN_S", 0.01)
    disk = FaultyDisk()
    async with stored_sink(tmp_path, sink_config(unreachable()), disk=disk) as harness:
        harness.offer(1, 2)
        await harness.saved()
    async with OtlpServer() as server:
        async with stored_sink(tmp_path, sink_config(server.url), disk=disk) as harness:
            disk.read_error = errno.EIO
            await harness.until(
                lambda s: s.last_error is not None and "cannot read" in s.last_error.text
            )
            assert harness.worker.statistics().ledger.queued == 2
            disk.read_error = 0
            await harness.finished()
        assert server.values == [1, 2]


async def test_a_damaged_record_is_given_up_and_counted(tmp_path: Path) -> None:
    async with stored_sink(tmp_path, sink_config(unreachable(), compression="none")) as harness:
        for value in range(3):
            harness.offer(value)
        await harness.saved()
    (path,) = segments(tmp_path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(bytes(content))
    async with OtlpServer() as server, stored_sink(tmp_path, sink_config(server.url)) as harness:
        statistics = await harness.finished()
        assert server.values == [0, 1]
        assert statistics.ledger.dropped == {"damaged": 1}
        assert harness.store.statistics().damaged.records == 1


async def test_attempts_and_waits_outlive_a_restart(tmp_path: Path) -> None:
    config = replace(
        sink_config(unreachable()), retry=RetrySettings(attempts_max=2, backoff_s=600.0)
    )
    async with stored_sink(tmp_path, config) as harness:
        harness.offer(1)
        await harness.until(lambda s: s.state == "failing")
        await harness.worker.drain(0.0)
    async with stored_sink(tmp_path, config) as harness:
        delivery = harness.worker._delivery
        step = delivery.next_step(0, harness.worker.now())
        assert isinstance(step, Sleep)
        assert step.delay_s is not None
        assert 200.0 < step.delay_s <= 600.0
        for attempt in (1, 2):
            await harness.until(lambda s, n=attempt: s.requests.get("retry", 0) == n - 1)
            delivery.resume()
            for wait in delivery._waits:
                wait.until = 0.0
            harness.worker._wake_all()
        statistics = await harness.finished()
        # One attempt before the restart, two after it.
        assert statistics.requests == {"retry": 2}
        assert statistics.ledger.dropped == {"attempts_exhausted": 1}


async def test_fresh_data_may_go_first(tmp_path: Path) -> None:
    fresh_first = Queue(drain="freshFirst")
    async with stored_sink(tmp_path, sink_config(unreachable())) as harness:
        for value in range(8):
            harness.offer(value)
        await harness.saved()
    gate = asyncio.Event()

    async def answer(_: Received) -> Reply:
        await gate.wait()
        return Reply()

    async with (
        OtlpServer(answer) as server,
        stored_sink(tmp_path, replace(sink_config(server.url), queue=fresh_first)) as harness,
    ):
        await harness.until(lambda s: s.queue.in_flight == 1)
        for value in range(100, 106):
            harness.offer(value)
        gate.set()
        await harness.finished()
        values = server.values
        assert sorted(values) == [*range(8), *range(100, 106)]
        assert [value for value in values if value < 100] == list(range(8))
        assert [value for value in values if value >= 100] == list(range(100, 106))
        # The first was under way; then three of four requests are fresh.
        assert values[:8].count(0) == 1
        assert sum(value >= 100 for value in values[1:9]) == 6


async def test_another_endpoint_takes_the_queue_along(tmp_path: Path) -> None:
    async with OtlpServer() as server, stored_sink(tmp_path, sink_config(unreachable())) as harness:
        for value in range(5):
            harness.offer(value)
        await harness.saved()
        harness.offer(5)
        await harness.until(lambda s: s.state == "failing")
        harness.worker.reconfigure(sink_config(server.url))
        harness.offer(6)
        statistics = await harness.finished()
        assert server.values == list(range(7))
        assert statistics.ledger.delivered == statistics.ledger.offered == 7


async def test_an_edit_during_a_request_repeats_nothing_and_keeps_the_order(
    tmp_path: Path,
) -> None:
    gate = asyncio.Event()

    async def answer(_: Received) -> Reply:
        await gate.wait()
        return Reply()

    async with (
        OtlpServer(answer) as server,
        stored_sink(tmp_path, sink_config(server.url)) as harness,
    ):
        for value in range(4):
            harness.offer(value)
        await harness.until(lambda s: s.queue.in_flight == 1)
        for backoff_s in (1.0, 2.0, 3.0):
            harness.worker.reconfigure(
                replace(sink_config(server.url), retry=RetrySettings(backoff_s=backoff_s))
            )
        harness.offer(4)
        gate.set()
        await harness.finished()
        assert server.values == list(range(5))
        assert len(harness.worker._tasks) <= 4


async def test_corrected_credentials_send_what_was_paused(tmp_path: Path) -> None:
    def answer(received: Received) -> Reply:
        return Reply() if received.headers["Authorization"] == "Bearer other" else Reply(401)

    config = sink_config("", authentication=TOKEN)
    async with OtlpServer(answer) as server:
        config = replace(config, endpoint=replace(config.endpoint, url=server.url))
        config = replace(config, retry=RetrySettings(backoff_s=60.0))
        async with stored_sink(tmp_path, config) as harness:
            harness.offer(1, 2)
            await harness.until(lambda s: bool(s.paused))
            harness.secrets["second"] = "other"
            corrected = Authentication("bearerToken", SecretRef("s", "second"))
            harness.worker.reconfigure(
                replace(config, endpoint=replace(config.endpoint, authentication=corrected))
            )
            await harness.finished()
            assert server.values == [1, 2]


async def test_edits_do_not_multiply_the_queue(tmp_path: Path) -> None:
    config = replace(sink_config(unreachable()), queue=Queue(bytes_max=2000))
    async with stored_sink(tmp_path, config) as harness:
        for edit in range(8):
            for value in range(30):
                harness.offer(value)
            harness.worker.save(at_once=edit % 2 == 0)
            harness.worker.reconfigure(replace(config, retry=RetrySettings(backoff_s=1.0 + edit)))
            statistics = harness.worker.statistics()
            assert statistics.queue.bytes <= 2000
            assert harness.memory.used <= 2000
        assert statistics.ledger.offered == 240
        assert statistics.ledger.queued + statistics.ledger.dropped["queue_full"] == 240


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
async def test_points_from_before_and_after_a_change_of_lanes_do_not_overtake(
    tmp_path: Path, before: int, after: int
) -> None:
    config = sink_config(unreachable(), concurrency=before)
    async with OtlpServer() as server, stored_sink(tmp_path, config) as harness:
        for value in range(9):
            harness.offer(value, shard=value % before)
        await harness.saved()
        harness.worker.reconfigure(sink_config(server.url, concurrency=after))
        assert len(harness.worker.shards) == after
        for value in range(100, 109):
            harness.offer(value, shard=value % after)
        await harness.finished()
        old = [value < 100 for value in server.values]
        assert old == [True] * 9 + [False] * 9


async def test_lanes_that_are_no_longer_there_are_emptied_after_a_restart(tmp_path: Path) -> None:
    async with stored_sink(tmp_path, sink_config(unreachable(), concurrency=3)) as harness:
        for value in range(9):
            harness.offer(value, shard=value % 3)
        await harness.saved()
    async with OtlpServer() as server, stored_sink(tmp_path, sink_config(server.url)) as harness:
        assert harness.worker.low_watermarks == (-1,)
        harness.offer(9)
        await harness.finished()
        assert sorted(server.values) == list(range(10))
        assert server.values[-1] == 9


async def test_a_removed_sink_sends_what_it_can_and_leaves_nothing(tmp_path: Path) -> None:
    async with OtlpServer() as server, stored_sink(tmp_path, sink_config(server.url)) as harness:
        for value in range(4):
            harness.offer(value)
        await harness.worker.remove(5.0)
        assert server.values == list(range(4))
        assert harness.worker.statistics().ledger.delivered == 4
    assert everything(tmp_path) == []


async def test_a_removed_sink_leaves_an_orphan_that_it_finds_again(tmp_path: Path) -> None:
    async with stored_sink(tmp_path, sink_config(unreachable())) as harness:
        for value in range(4):
            harness.offer(value)
        await harness.saved()
        harness.offer(4)
        assert await harness.worker.remove(0.05) == 5
        statistics = harness.worker.statistics()
        assert (statistics.ledger.offered, statistics.ledger.queued) == (0, 0)
        assert harness.holds.total == 0
        orphans = harness.store.statistics().orphans
        assert (orphans.orphaned, orphans.waiting) == (5, 5)
        assert harness.store.used_bytes == orphans.bytes > 0
        again = harness.store.claim(OWNER)
        assert sum(backlog.points for backlog in again.backlogs.values()) == 5
        assert harness.store.statistics().orphans.adopted == 5
    # It says since when it is one, until it is adopted.
    assert QueueFiles(tmp_path, disk=Disk(), sync=False).recover().popitem()[1].orphaned_at is None


async def test_an_orphan_is_deleted_when_its_time_is_over(tmp_path: Path) -> None:
    async with stored_sink(tmp_path, sink_config(unreachable())) as harness:
        harness.offer(1, 2, 3)
        await harness.saved()
    for now, kept in ((1000.0, True), (1099.0, True), (1100.5, False)):
        # A restart in between does not make the time longer.
        store = QueueStore(tmp_path, bytes_max=1 << 20, orphan_retention_s=100, clock=lambda: now)  # noqa: B023
        store.open()
        (found,) = store.keep_orphans()
        assert (found.owner.key, found.points) == (OWNER.key, 3)
        expired = store.expire_orphans()
        assert len(expired) == (not kept)
        await store.close()
        orphans = store.statistics().orphans
        assert (orphans.waiting, orphans.expired) == ((3, 0) if kept else (0, 3))
    assert store.used_bytes == 0
    assert everything(tmp_path) == []
