"""Sinks that come, change and go in a whole relay: their queues, ledgers and files."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.kit.http.otlp_server import OtlpServer, Reply
from tests.kit.processes import eventually
from tests.kit.sink.queue_status import edit, metric, orphans_of, settled, sink_of
from tests.kit.sink_harness import unreachable
from tests.kit.stored_relay import made, manifest, running


@pytest.mark.parametrize("stored", [True, False], ids=["disk", "memory"])
async def test_an_edit_takes_the_queue_to_the_new_endpoint_in_order(
    tmp_path: Path, stored: bool
) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("a", unreachable(), backoff="10s"), stored=stored)
        async with running(relay) as sender:
            for _ in range(5):
                assert await sender.send() == 204
            await settled(sender, "a", 50)
            edit(tmp_path, manifest("a", server.url))
            await relay.reload()
            assert await sender.send() == 204
            ledger = await settled(sender, "a", 0)
            assert (ledger["matched"], ledger["delivered"]) == (60, 60)
        assert server.values == list(range(60))


async def test_edits_change_limits_and_not_the_account(tmp_path: Path) -> None:
    relay = made(tmp_path, manifest("a", unreachable()), stored=False)
    async with running(relay) as sender:
        for number in range(8):
            await sender.send()
            edit(tmp_path, manifest("a", unreachable(), age=f"{10 + number}h"))
            await relay.reload()
            sink = sink_of(sender, "a")
            assert sink["ledger"]["matched"] == 10 * (number + 1)
            assert sink["ledger"]["balanced"]
        sink = sink_of(sender, "a")
        assert sink["ledger"]["queued"] == 80
        assert sink["queue"]["oldestPointAgeSeconds"] > 0
        assert sink["queue"]["bytes"] > 0


@pytest.mark.parametrize("stored", [True, False])
async def test_the_line_at_a_sinks_end_says_what_became_of_its_points(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stored: bool
) -> None:
    caplog.set_level("INFO", logger="relay.control.reconcile")

    def said() -> dict[str, tuple[str, int, int]]:
        lines = [line for line in caplog.records if line.msg.startswith("sink removed, ")]
        return {line.exporter: (line.msg, line.points, line.dropped) for line in lines}

    async with OtlpServer() as server:
        gone = (manifest("behind", unreachable()), manifest("done", server.url))
        keep = manifest("kept", unreachable())
        relay = made(tmp_path, keep, *gone, stored=stored)
        async with running(relay) as sender:
            await sender.send()
            await settled(sender, "done", 0)
            await settled(sender, "behind", 10)
            edit(tmp_path, keep)
            await relay.reload()
            await eventually("both are gone", lambda: len(said()) == 2, timeout_s=5)
    kept = ("sink removed, its queue is kept", 10, 0)
    lost = ("sink removed, points that were left in its queue were given up", 0, 10)
    assert said() == {
        "default/behind": kept if stored else lost,
        "default/done": ("sink removed, its queue is empty", 0, 0),
    }


async def test_a_shutdown_counts_only_what_is_given_up_by_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep = manifest("kept", unreachable())
    relay = made(tmp_path, keep, manifest("gone", unreachable()), stored=False)
    async with running(relay) as sender:
        await sender.send()
        await settled(sender, "gone", 10)
        edit(tmp_path, keep)
        await relay.reload()
        await eventually("gone", lambda: relay.status()["removedSinks"] == [], timeout_s=5)
        assert metric(relay, "relay_removed_sinks_points_total", outcome="dropped") == 10
        for _ in range(2):
            await sender.send()
        await settled(sender, "kept", 30)
    assert relay.given_up == 30
    lines = [line for line in caplog.records if line.msg == "points were given up"]
    assert [(line.exporter, line.points) for line in lines] == [("default/kept", 30)]


async def test_a_removed_sink_stays_in_the_account_until_it_is_gone(tmp_path: Path) -> None:
    keep = manifest("kept", unreachable())
    relay = made(tmp_path, keep, manifest("gone", unreachable()), stored=False)
    async with running(relay) as sender:
        await sender.send()
        await settled(sender, "gone", 10)
        edit(tmp_path, keep)
        await relay.reload()
        (leaving,) = relay.status()["removedSinks"]
        assert leaving["exporter"] == "default/gone"
        assert leaving["ledger"]["queued"] == 10
        assert leaving["queue"]["bytes"] > 0
        row = {"exporter": "default/gone", "sink": "endpoint"}
        assert metric(relay, "relay_sink_queued_points", **row) == 10
        await eventually("gone", lambda: relay.status()["removedSinks"] == [], timeout_s=5)
        assert metric(relay, "relay_removed_sinks_points_total", outcome="dropped") == 10
        assert metric(relay, "relay_sink_queued_points", **row) == 0


@pytest.mark.parametrize("stored", [True, False])
async def test_a_sink_that_comes_back_goes_on_with_its_queue(tmp_path: Path, stored: bool) -> None:
    keep = manifest("kept", unreachable())
    async with OtlpServer(lambda _: Reply(503)) as server:
        both = keep, manifest("a", server.url)
        relay = made(tmp_path, *both, stored=stored)
        async with running(relay) as sender:
            await sender.send()
            await settled(sender, "a", 10)
            edit(tmp_path, keep)
            await relay.reload()
            edit(tmp_path, *both)
            await relay.reload()
            server.answer = lambda _: Reply()
            await sender.send()
            ledger = await settled(sender, "a", 0)
            assert (ledger["matched"], ledger["delivered"], ledger["dropped"]) == (20, 20, {})
            assert ledger["balanced"]
            assert server.values == list(range(20))


async def test_another_endpoint_does_not_get_the_queue_of_a_sink_that_left(tmp_path: Path) -> None:
    keep = manifest("kept", unreachable())
    async with OtlpServer() as server:
        elsewhere = unreachable().replace("127.0.0.1", "127.0.0.2")
        relay = made(tmp_path, keep, manifest("a", elsewhere))
        async with running(relay) as sender:
            await sender.send()
            await settled(sender, "a", 10)
            edit(tmp_path, keep)
            await relay.reload()
            edit(tmp_path, keep, manifest("a", server.url))
            await relay.reload()
            await sender.send()
            await server.wait_until(lambda: len(server.values) == 10)
            await eventually("an orphan", lambda: bool(orphans_of(relay)["queues"]), timeout_s=10)
            assert server.values == list(range(10, 20))
            (orphan,) = orphans_of(relay)["queues"]
            assert (orphan["points"], orphan["host"]) == (10, "127.0.0.2")
        # Over a restart, too.
        relay = made(tmp_path, keep, manifest("a", server.url))
        async with running(relay) as sender:
            assert orphans_of(relay)["ledger"]["waiting"] == 10
        relay = made(tmp_path, keep, manifest("a", elsewhere))
        async with running(relay) as sender:
            assert orphans_of(relay)["queues"] == []
            assert sender.ledger("a")["queued"] == 10


async def test_a_manifest_that_is_away_costs_nothing(tmp_path: Path) -> None:
    """Gone for longer than the drain takes, absent at a start, and back."""
    keep = manifest("kept", unreachable(), query="nothing")
    async with OtlpServer(lambda _: Reply(503)) as server:
        both = keep, manifest("a", server.url)
        relay = made(tmp_path, *both)
        async with running(relay) as sender:
            await sender.send()
            await settled(sender, "a", 10)
            edit(tmp_path, keep)
            await relay.reload()
            await eventually(
                "it is gone", lambda: relay.status()["removedSinks"] == [], timeout_s=5
            )
            assert metric(relay, "relay_orphan_points") == 10
            assert metric(relay, "relay_removed_sinks_points_total", outcome="dropped") == 0
            edit(tmp_path, *both)
            await relay.reload()
            await sender.send()
            ledger = await settled(sender, "a", 20)
            assert ledger["balanced"]
            assert orphans_of(relay)["ledger"] == {
                "orphaned": 10,
                "adopted": 10,
                "expired": 0,
                "deleted": 0,
                "dropped": 0,
                "damaged": 0,
                "waiting": 0,
            }
        for absent in ("", keep):
            relay = made(tmp_path, absent)
            async with running(relay):
                assert metric(relay, "relay_orphan_queues") == 1
                assert metric(relay, "relay_orphaned_points_total", outcome="orphaned") == 20
        server.answer = lambda _: Reply()
        relay = made(tmp_path, *both)
        async with running(relay) as sender:
            await server.wait_until(lambda: len(server.values) == 20)
            assert server.values == list(range(20))


async def test_orphans_give_way_before_any_sink_that_runs(tmp_path: Path) -> None:
    keep = manifest("kept", unreachable())
    gone = [
        manifest(name, unreachable(), size=5000, compression="none") for name in ("gone", "later")
    ]
    relay = made(tmp_path, *gone, keep)
    async with running(relay) as sender:
        for _ in range(12):
            await sender.send(2000)
        await settled(sender, "gone", 24_000)
        edit(tmp_path, gone[1], keep)
        await relay.reload()
        await eventually("one", lambda: len(orphans_of(relay)["queues"]) == 1, timeout_s=5)
        edit(tmp_path, keep)
        await relay.reload()
        await eventually("two", lambda: len(orphans_of(relay)["queues"]) == 2, timeout_s=5)
        used = relay.snapshot().storage[1].used_bytes
        kept_bytes = sink_of(sender, "kept")["queue"]["storedBytes"]
    # Less is allowed than before: enforced at once, at the cost of the longest gone.
    relay = made(tmp_path, keep, bytes_max=(used - used // 8) * 4 // 3)
    async with running(relay) as sender:
        await eventually(
            "there is room",
            lambda: not relay._storage.store.lacks(0),  # type: ignore[union-attr]
            timeout_s=5,
        )
        ledger = orphans_of(relay)["ledger"]
        assert ledger["orphaned"] == 48_000
        assert ledger["dropped"] + ledger["waiting"] == 48_000
        assert 0 < ledger["dropped"] < 24_000, "no more than is needed"
        left = {one["exporter"]: one["points"] for one in orphans_of(relay)["queues"]}
        assert left["default/gone"] < 24_000 == left["default/later"]
        assert sink_of(sender, "kept")["ledger"]["dropped"] == {}
        assert sink_of(sender, "kept")["queue"]["storedBytes"] <= kept_bytes or kept_bytes == 0


async def test_less_room_than_before_costs_every_sink_its_share(tmp_path: Path) -> None:
    sinks = [
        manifest(name, unreachable(), size=2000, compression="none") for name in ("a", "b", "c")
    ]
    relay = made(tmp_path, *sinks)
    async with running(relay) as sender:
        for _ in range(30):
            await sender.send(2000)
        for name in ("a", "b", "c"):
            await settled(sender, name, 60_000)
    used = relay.snapshot().storage[1].used_bytes
    relay = made(tmp_path, *sinks, bytes_max=used // 2 * 4 // 3)
    async with running(relay) as sender:
        await eventually(
            "there is room",
            lambda: not relay._storage.store.lacks(0),  # type: ignore[union-attr]
            timeout_s=5,
        )
        lost = [sender.ledger(name)["dropped"].get("storage_full", 0) for name in ("a", "b", "c")]
        assert min(lost) > 0.5 * max(lost), lost
        assert max(lost) < 60_000


async def test_another_object_of_the_same_name_does_not_get_the_queue(tmp_path: Path) -> None:
    def object_of(uid: str) -> str:
        return manifest("a", url).replace("  name: a\n", f"  name: a\n  uid: {uid}\n")

    url = unreachable()
    keep = manifest("kept", unreachable(), query="nothing")
    relay = made(tmp_path, keep, object_of("one"))
    async with running(relay) as sender:
        await sender.send()
        await settled(sender, "a", 10)
        edit(tmp_path, keep, object_of("two"))
        await relay.reload()
        await eventually("gone", lambda: sender.ledger("a")["queued"] == 0, timeout_s=5)
        assert orphans_of(relay)["ledger"]["waiting"] == 10
        edit(tmp_path, keep, object_of("one"))
        await relay.reload()
        assert sender.ledger("a")["queued"] == 10


async def test_a_sink_that_comes_and_goes_is_accounted_for_to_the_last_point(
    tmp_path: Path,
) -> None:
    keep = manifest("kept", unreachable())
    both = (keep, manifest("a", unreachable()))
    relay = made(tmp_path, *both)
    async with running(relay) as sender:
        for _ in range(3):
            edit(tmp_path, *both)
            await relay.reload()
            await sender.send()
            assert sink_of(sender, "a")["ledger"]["balanced"]
            edit(tmp_path, keep)
            await relay.reload()
        await eventually("one", lambda: len(orphans_of(relay)["queues"]) == 1, timeout_s=5)
        assert orphans_of(relay)["ledger"]["waiting"] == 30
        assert metric(relay, "relay_removed_sinks_points_total", outcome="dropped") == 0
    assert len(list((tmp_path / "data" / "queues").iterdir())) == 2


async def test_a_restart_finds_every_queue_again(tmp_path: Path) -> None:
    async with OtlpServer() as first, OtlpServer() as second:
        down = [manifest(name, unreachable(), backoff="1s") for name in ("a", "b")]
        async with running(made(tmp_path, *down)) as sender:
            for _ in range(4):
                await sender.send()
            await settled(sender, "a", 40)
            await settled(sender, "b", 40)
        up = [manifest("a", first.url), manifest("b", second.url)]
        async with running(made(tmp_path, *up)) as sender:
            for name in ("a", "b"):
                ledger = await settled(sender, name, 0)
                assert (ledger["matched"], ledger["delivered"]) == (40, 40)
        assert first.values == second.values == list(range(40))


async def test_a_faulty_file_does_not_cost_its_queue(tmp_path: Path) -> None:
    keep = manifest("kept", unreachable())
    async with OtlpServer() as server:
        async with running(made(tmp_path, keep, manifest("a", unreachable()))) as sender:
            await sender.send()
            await settled(sender, "a", 10)
        broken = manifest("a", unreachable()).replace("retry:", "rety:")
        relay = made(tmp_path, keep, broken)
        async with running(relay) as sender:
            edit(tmp_path, keep, manifest("a", server.url))
            await relay.reload()
            ledger = await settled(sender, "a", 0)
            assert (ledger["matched"], ledger["delivered"]) == (10, 10)


async def test_the_queue_of_a_sink_that_was_deleted_meanwhile_is_kept_for_its_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep = manifest("kept", unreachable())
    gone = manifest("gone", unreachable())
    async with running(made(tmp_path, keep, gone)) as sender:
        await sender.send()
        await settled(sender, "gone", 10)
    caplog.set_level(logging.WARNING)
    async with running(made(tmp_path, keep)):
        pass
    (record,) = (r for r in caplog.records if "sink that does not run: kept" in r.getMessage())
    assert record.__dict__["exporter"] == "default/gone"
    assert record.__dict__["points"] == 10
    relay = made(tmp_path, keep, orphan_retention_s=0.0)
    async with running(relay):
        await eventually("gone", lambda: not orphans_of(relay)["queues"], timeout_s=5)
        assert orphans_of(relay)["ledger"]["expired"] == 10
    assert "did not come back: deleted" in caplog.text
    async with running(made(tmp_path, keep, gone)) as sender:
        assert sender.ledger("gone")["queued"] == 0
