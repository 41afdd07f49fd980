"""Logs and traces over disks that are full or hang, and queues beyond their bounds and ages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relay.control.reconcile.sink_report import SinkReport
from tests.kit.exporter_yaml import exporter_of
from tests.kit.http.otlp_server import OtlpServer, Reply
from tests.kit.processes import eventually
from tests.kit.storage.faulty_disk import FaultyDisk
from tests.kit.stored_relay import Sender, crash_image, made, running

SIGNALS = ("logs", "traces")
OUTPUTS = tuple(f"sink/{signal}" for signal in SIGNALS)


def exporter(url: str, **queue: object) -> str:
    """An Exporter of logs and traces, whose batches are not compressed."""
    endpoint = {"endpoint": url.removesuffix("/v1/metrics"), "compression": "none"}
    sink = {"name": "sink", "otlp_http": endpoint, "queue": queue}
    sink |= {"batch": {"timeout": "1ms"}, "retry": {"backoff": "10ms"}}
    return exporter_of("all", [{"name": one, one: {}} for one in SIGNALS], [sink])


def reports(sender: Sender) -> Mapping[str, SinkReport]:
    """Return the report of each output; all balance."""
    found = {one.sink: one for one in sender.relay._reconciler.reports()}
    assert all(one.balanced for one in found.values()), found
    return {name: found[name] for name in OUTPUTS}


async def send(sender: Sender, count: int = 10) -> None:
    """Send records of both signals; they are acknowledged."""
    for signal in SIGNALS:
        assert await sender.send_records(signal, count) == 200


async def queued(sender: Sender, count: int) -> None:
    """Wait until each output has as many records in its queue."""

    def found() -> bool:
        return all(one.ledger.queued == count for one in reports(sender).values())

    await eventually(f"{count} are queued", found, timeout_s=10)


async def everything(server: OtlpServer, count: int) -> None:
    """Wait until as many different records of both signals together are there."""
    await server.wait_until(
        lambda: sum(len(set(server.numbers(one))) for one in SIGNALS) == count, timeout_s=10
    )


async def spilled(sender: Sender) -> None:
    """Wait until all records are on disk."""
    sender.relay._reconciler.spill_below(1 << 60)
    await eventually("on disk", lambda: sender.relay._memory.used == 0, timeout_s=10)


async def test_a_full_disk_costs_no_record(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with OtlpServer() as server:
        relay = made(tmp_path, exporter(server.url), disk=disk)
        async with running(relay) as sender:
            assert relay._storage is not None
            await eventually("replayed", lambda: not relay._replay.active, timeout_s=5)
            relay._storage.journal._retry_s = 0.001
            await send(sender)
            disk.room_bytes = 10
            await send(sender)
            assert "No space left on device" in str(await sender.degraded())
            await everything(server, 40)
            assert relay._storage.journal.statistics().unjournaled_requests == 2
            disk.room_bytes = None
            journal = relay._storage.journal
            await eventually("journaled again", lambda: not journal.trouble, timeout_s=5)
            server.answer = lambda _: Reply(503)
            await send(sender)
            assert journal.statistics().unjournaled_requests == 2
            image = crash_image(tmp_path / "data", tmp_path / "image")
    async with (
        OtlpServer() as again,
        running(made(tmp_path, exporter(again.url), data=image)),
    ):
        await again.wait_until(lambda: {*range(40, 60)} <= {*numbers(again)}, timeout_s=10)


def numbers(server: OtlpServer) -> list[float]:
    """Return the numbers of all records that an endpoint took."""
    return [number for signal in SIGNALS for number in server.numbers(signal)]


async def test_a_full_disk_costs_no_record_of_a_queue_while_memory_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.sink.spill.store.TRY_AGAIN_S", (0.01, 0.02))
    disk = FaultyDisk()
    async with OtlpServer(lambda _: Reply(503)) as server:
        relay = made(tmp_path, exporter(server.url), disk=disk)
        async with running(relay) as sender:
            await send(sender)
            await spilled(sender)
            disk.room_bytes = 0
            await send(sender)
            relay._reconciler.spill_below(1 << 60)
            store = relay._storage.store
            await eventually("it is said", lambda: store.trouble != "", timeout_s=5)
            await send(sender)
            await queued(sender, 30)
            disk.room_bytes = None
            await spilled(sender)
            server.answer = lambda _: Reply()
            await everything(server, 60)
            for start, signal in zip((0, 10), SIGNALS, strict=True):
                wanted = [float(20 * n + start + at) for n in range(3) for at in range(10)]
                assert server.numbers(signal) == wanted


async def test_a_disk_that_hangs_holds_up_no_record_for_long(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with OtlpServer(lambda _: Reply(503)) as server:
        relay = made(tmp_path, exporter(server.url), disk=disk)
        async with running(relay) as sender:
            assert relay._storage is not None
            await send(sender)
            journal = relay._storage.journal
            journal._slow_s = 0.05
            disk.freeze()
            try:
                relay._reconciler.spill_below(1 << 60)
                server.answer = lambda _: Reply()
                await everything(server, 20)
                await send(sender)
                await everything(server, 40)
                assert "has not answered" in str(await sender.degraded())
                assert journal.statistics().unjournaled_requests
            finally:
                disk.thaw()
            journal._slow_s = 10.0  # a busy machine takes its time
            await eventually("journaled again", lambda: not journal.trouble, timeout_s=5)
            before = journal.statistics().unjournaled_requests
            await send(sender)
            assert journal.statistics().unjournaled_requests == before
            await everything(server, 60)
            await queued(sender, 0)


@pytest.mark.parametrize("stored", [True, False], ids=["disk", "memory"])
async def test_a_queue_over_its_bound_loses_the_oldest_records_to_a_row(
    tmp_path: Path, stored: bool
) -> None:
    async with OtlpServer(lambda _: Reply(503)) as server:
        relay = made(tmp_path, exporter(server.url, maxBytes="100KiB"), stored=stored)
        async with running(relay) as sender:
            for _ in range(10):
                await send(sender, 500)
                if stored:
                    await spilled(sender)
            for report in reports(sender).values():
                assert report.ledger.dropped.keys() == {"queue_full"}, report
                assert report.ledger.dropped["queue_full"] + report.ledger.queued == 5_000
                assert 0 < report.ledger.queued < 5_000
                assert report.queue.bytes <= 100 << 10
            left = sum(one.ledger.queued for one in reports(sender).values())
            server.answer = lambda _: Reply()
            await everything(server, left)
            for signal, start in zip(SIGNALS, (9_000, 9_500), strict=True):
                assert server.numbers(signal)[-500:] == list(range(start, start + 500))


async def test_storage_over_its_bound_loses_records_to_a_row(tmp_path: Path) -> None:
    async with OtlpServer(lambda _: Reply(503)) as server:
        text = exporter(server.url, maxBytes="1GiB")
        async with running(made(tmp_path, text, bytes_max=1 << 20)) as sender:

            def lost() -> int:
                sender.relay._reconciler.spill_below(1 << 60)
                rows = [one.ledger for one in reports(sender).values()]
                assert all(one.dropped.keys() <= {"storage_full"} for one in rows), rows
                return sum(one.lost for one in rows)

            for _ in range(12):
                await send(sender, 3_000)
                lost()
            await eventually("the disk is full", lambda: lost() > 0, timeout_s=10)
            server.answer = lambda _: Reply()
            await queued(sender, 0)
            assert len(numbers(server)) == 72_000 - lost()


@pytest.mark.parametrize("stored", [True, False], ids=["disk", "memory"])
async def test_records_expire_at_their_age_into_a_row(tmp_path: Path, stored: bool) -> None:
    ahead = 0.0
    async with OtlpServer(lambda _: Reply(503)) as server:
        text = exporter(server.url, maxAge="1h")
        relay = made(tmp_path, text, stored=stored, clock=lambda: time.time() + ahead)
        async with running(relay) as sender:
            await send(sender)
            await queued(sender, 10)
            if stored:
                await spilled(sender)
            ahead = 3700.0
            await send(sender)

            def expired() -> dict[str, Any]:
                return {name: one.ledger.expired for name, one in reports(sender).items()}

            await eventually(
                "they expire", lambda: expired() == dict.fromkeys(OUTPUTS, 10), timeout_s=5
            )
            server.answer = lambda _: Reply()
            await everything(server, 20)
            assert sorted(numbers(server)) == list(range(20, 40))


async def test_a_full_queue_may_hold_senders_of_records_back(tmp_path: Path) -> None:
    async with OtlpServer(lambda _: Reply(503)) as server:
        text = exporter(server.url, maxBytes="100KiB", overflow="block")
        async with running(made(tmp_path, text)) as sender:
            taken = 0
            while await sender.send_records("logs", 500) == 200:
                taken += 500
                assert taken < 10_000, "senders are held back"
            server.answer = lambda _: Reply()
            await server.wait_until(lambda: len(server.numbers("logs")) == taken, timeout_s=10)
            assert reports(sender)["sink/logs"].ledger.lost == 0
