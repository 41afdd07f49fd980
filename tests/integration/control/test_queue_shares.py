"""Room for queues in a whole relay: fair shares, senders that wait, limits that change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.processes import eventually
from tests.kit.sink.queue_status import edit, metric, settled, sink_of
from tests.kit.sink_harness import unreachable
from tests.kit.stored_relay import Sender, crash_image, made, manifest, running


@pytest.mark.slow
async def test_one_dead_endpoint_cannot_eat_the_others_disk(tmp_path: Path) -> None:
    hog = manifest("hog", unreachable(), query="big", compression="none")
    small = manifest("small", unreachable(), query="numbered")
    relay = made(tmp_path, hog, small, bytes_max=2 << 20)
    async with running(relay) as sender:
        await sender.send()
        assert relay._reconciler is not None
        relay._reconciler.spill_below(1 << 60)
        for _ in range(300):
            await sender.send(1000, name="big")
            if sink_of(sender, "hog")["ledger"]["dropped"]:
                break
            relay._reconciler.spill_below(1 << 60)
        lost = sink_of(sender, "hog")["ledger"]
        assert lost["dropped"].keys() == {"storage_full"}
        assert lost["balanced"]
        assert sink_of(sender, "small")["ledger"]["dropped"] == {}
        assert relay.snapshot().storage[0].used_bytes <= 1.5 * (1 << 20)
    async with OtlpServer() as server:
        async with running(made(tmp_path, hog, manifest("small", server.url, query="numbered"))):
            await server.wait_until(lambda: len(server.values) == 10)
        assert server.values == list(range(10))


async def test_one_dead_endpoint_cannot_eat_the_others_memory(tmp_path: Path) -> None:
    """Without a disk, and without anybody being turned away."""
    hog = manifest("hog", unreachable(), query="big", compression="none")
    small = manifest("small", unreachable(), query="numbered")
    relay = made(tmp_path, hog, small, stored=False, memory_bytes_max=1 << 20)
    async with running(relay) as sender:
        await sender.send()
        for _ in range(300):
            assert await sender.send(500, name="big") == 204
            if sink_of(sender, "hog")["ledger"]["dropped"]:
                break
            if sink_of(sender, "hog")["queue"]["memoryBytes"] > 800_000:
                await eventually(
                    "the hog gives way",
                    lambda: sink_of(sender, "hog")["ledger"]["dropped"],
                    timeout_s=5,
                )
        lost = sink_of(sender, "hog")["ledger"]
        assert lost["dropped"].keys() == {"memory_full"}
        assert lost["balanced"]
        assert sink_of(sender, "small")["ledger"]["dropped"] == {}


async def test_a_sink_that_makes_senders_wait_keeps_its_place_and_its_queue(
    tmp_path: Path,
) -> None:
    blocking = manifest("a", unreachable(), queue={"overflow": "block"})
    relay = made(tmp_path, blocking, stored=False)
    async with running(relay) as sender:
        await sender.send()
        await settled(sender, "a", 10)
        edit(tmp_path, blocking, manifest("b", unreachable()))
        await relay.reload()
        assert [exporter["name"] for exporter in relay.status()["exporters"]] == ["default/a"]
        faults = [fault["message"] for fault in relay.status()["faults"]]
        assert any("cannot run beside default/a" in message for message in faults)
        assert sink_of(sender, "a")["ledger"]["queued"] == 10


async def test_a_full_sink_that_makes_senders_wait_still_does_after_an_edit(
    tmp_path: Path,
) -> None:
    def blocking(age: str) -> str:
        queue = {"overflow": "block", "maxBytes": "64KiB"}
        return manifest("a", unreachable(), age=age, queue=queue)

    relay = made(tmp_path, blocking("24h"), stored=False)
    async with running(relay) as sender:
        statuses = [await sender.send(500) for _ in range(40)]
        assert statuses[-1] == 503
        queued = sender.ledger("a")["queued"]
        edit(tmp_path, blocking("23h"))
        await relay.reload()
        assert await sender.send(500) == 503
        assert sender.ledger("a")["queued"] == queued
        assert sender.ledger("a")["dropped"] == {}


async def test_early_warning_is_on_every_page(tmp_path: Path) -> None:
    refused = False

    def answer(_: Received) -> Reply:
        return Reply(503, b"down") if refused else Reply()

    async with OtlpServer(answer) as server:
        relay = made(tmp_path, manifest("a", server.url))
        async with running(relay) as sender:
            await sender.send()
            await settled(sender, "a", 0)
            refused = True
            await sender.send()
            await eventually(
                "it fails", lambda: sink_of(sender, "a")["state"] == "failing", timeout_s=5
            )
            sink = sink_of(sender, "a")
            assert sink["lastSuccessAt"]
            assert "503" in sink["lastError"]["text"]
            assert sink["queue"]["oldestPointAgeSeconds"] >= 0
            assert sink["stalledSeconds"] >= 0
            assert "secondsUntilFull" in sink["queue"]
            row = {"exporter": "default/a", "sink": "endpoint"}
            assert metric(relay, "relay_sink_last_error_timestamp_seconds", **row) > 0
            assert metric(relay, "relay_sink_until_full_seconds", **row) > 0
            assert metric(relay, "relay_storage_degraded", part="queues") == 0


async def test_what_drop_newest_dropped_is_not_counted_again_after_a_crash(tmp_path: Path) -> None:
    queue = {"overflow": "dropNewest", "maxBytes": "64KiB"}
    text = manifest("a", unreachable(), size=1000, compression="none", queue=queue)
    relay = made(tmp_path, text)
    async with running(relay) as sender:
        for _ in range(20):
            await sender.send(1000)
        dropped = sender.ledger("a")["dropped"]["queue_full"]
        queued = sender.ledger("a")["queued"]
        assert dropped + queued == 20_000
        checkpointer = relay._checkpointer
        assert checkpointer is not None
        assert relay._storage is not None

        def is_settled() -> bool:
            assert relay._storage is not None
            is_saved = checkpointer.saved == checkpointer.checkpoint()
            return relay._memory.used == 0 and is_saved and not relay._storage.journal._saving

        await eventually("it is on disk", is_settled, timeout_s=5)
        image = crash_image(tmp_path / "data", tmp_path / "image")
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
    (tmp_path / "killed").mkdir()
    shutil.move(image, tmp_path / "killed/data")
    relay = made(tmp_path / "killed", text)
    async with running(relay) as sender:
        await eventually("it is ready", lambda: not relay.not_ready(), timeout_s=5)
        ledger = sender.ledger("a")
        assert (ledger["queued"], ledger["dropped"]) == (queued, {})


@pytest.mark.parametrize("restart", [True, False])
async def test_a_smaller_queue_is_smaller_at_once(tmp_path: Path, restart: bool) -> None:
    url = unreachable()
    text = manifest("a", url, size=1000, compression="none")
    smaller = manifest("a", url, size=1000, compression="none", queue={"maxBytes": "128KiB"})
    relay = made(tmp_path, text)
    async with running(relay) as sender:
        for _ in range(20):
            await sender.send(1000)
        await settled(sender, "a", 20_000)
        before = sink_of(sender, "a")["queue"]["bytes"]
        assert before > 256 * 1024
        if not restart:
            edit(tmp_path, smaller)
            await relay.reload()
            check_smaller(sender)
    if restart:
        async with running(made(tmp_path, smaller)) as sender:
            check_smaller(sender)


def check_smaller(sender: Sender) -> None:
    """The queue keeps its limit, and what gave way is in the ledger."""
    sink = sink_of(sender, "a")
    assert sink["queue"]["bytes"] <= 128 * 1024
    ledger = sink["ledger"]
    assert ledger["balanced"]
    assert ledger["dropped"].keys() == {"queue_full"}
    assert ledger["dropped"]["queue_full"] + ledger["queued"] == 20_000
