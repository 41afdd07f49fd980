"""Exporters deleted at the API drain for a time, then drop; made anew they begin empty."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.control.cluster.finalizers import FINALIZER
from tests.kit.apiserver.running import EXPORTERS
from tests.kit.apiserver.served_relay import ServedRelay, served_relay
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.processes import eventually
from tests.kit.remote_write.raw import snappy
from tests.kit.remote_write.sample_writes import T0_MS, histogram, write
from tests.kit.sink.queue_status import metric, orphans_of
from tests.kit.sink_harness import unreachable
from tests.kit.stored_relay import crash_image
from tests.own_time import own_time

DRAIN_S = 1.0

pytestmark = pytest.mark.parametrize("stored", [True, False], ids=["disk", "memory"])


async def made(relay: ServedRelay, name: str, url: str, **options: Any) -> str:
    """Create an Exporter, and wait until it runs."""
    uid = await relay.create(name, url, **{"backoff": "50ms", **options})
    await eventually(f"{name} runs", lambda: relay.runs(name, uid), timeout_s=5)
    return uid


def queued(relay: ServedRelay, name: str) -> int:
    """Points that wait in the running sink of a name."""
    return relay.reconciler.reports_of(f"default/{name}")["endpoint"].ledger.queued


async def filled(relay: ServedRelay, name: str, points: int = 10) -> None:
    """Send samples, and wait until they are in the sink's queue."""
    before = queued(relay, name)
    assert await relay.send(points) == 204
    await eventually("queued", lambda: queued(relay, name) == before + points, timeout_s=5)


async def draining(relay: ServedRelay, sinks: int = 1) -> None:
    """Wait until so many sinks drain."""
    await eventually(f"{sinks} drain", lambda: len(relay.draining()) == sinks, timeout_s=5)


async def ended(relay: ServedRelay) -> None:
    """Wait until no sink drains any more."""
    await eventually("ended", lambda: not relay.draining(), timeout_s=10)


def nothing_is_left(relay: ServedRelay, folder: Path) -> bool:
    """Return whether no queue is left, neither in memory nor on disk."""
    queues = folder / "data" / "queues"
    left = list(queues.iterdir()) if queues.exists() else []
    return not left and relay.relay.snapshot().memory_bytes["queued"] == 0


def points_of(request: Received) -> int:
    """Return how many points a request has."""
    return len(request.any_points())


async def written_status(relay: ServedRelay, name: str) -> dict[str, Any]:
    """Return the status of an object, once it has one."""
    found: dict[str, Any] = {}

    async def is_there() -> bool:
        found.update((await relay.ask("GET", f"{EXPORTERS}/{name}"))[1])
        return "status" in found

    await eventually("it has a status", is_there, timeout_s=10)
    return dict(found["status"])


def refusing(_: Received) -> Reply:
    """Answer that it takes nothing at the moment."""
    return Reply(503)


def accepting(_: Received) -> Reply:
    """Take it."""
    return Reply()


async def test_a_dead_endpoint_takes_the_whole_time_and_the_rest_is_dropped(
    tmp_path: Path, stored: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with served_relay(tmp_path, stored=stored, drain_timeout_s=DRAIN_S) as relay:
        await made(relay, "gone", unreachable())
        await filled(relay, "gone")
        await relay.delete("gone")
        await draining(relay)
        began, own_began = time.monotonic(), own_time()
        (report,) = relay.draining()
        assert report.balanced
        assert report.ledger.queued == 10
        (shown,) = relay.relay.status()["removedSinks"]  # type: ignore[misc]
        assert shown["exporter"] == "default/gone"
        assert shown["ledger"]["queued"] == 10
        while relay.draining():
            assert relay.draining()[0].balanced
            await relay.send(1)
        assert time.monotonic() - began > DRAIN_S - 0.2
        assert own_time() - own_began < DRAIN_S + 1
        ledger = relay.reconciler.removed_ledger()
        assert ledger.balanced
        assert (ledger.offered, ledger.dropped) == (10, {"deleted": 10})
        assert metric(relay.relay, "relay_removed_sinks_points_total", outcome="deleted") == 10
        assert metric(relay.relay, "relay_removed_sinks_points_total", outcome="dropped") == 0
        if stored:
            assert orphans_of(relay.relay)["queues"] == []
        await eventually("all gone", lambda: nothing_is_left(relay, tmp_path), timeout_s=5)
    (line,) = [one for one in caplog.records if one.msg.startswith("sink removed")]
    assert "deleted" in line.msg
    assert (line.exporter, line.points, line.dropped) == ("default/gone", 0, 10)  # type: ignore[attr-defined]


async def test_what_can_be_sent_in_time_is_sent(tmp_path: Path, stored: bool) -> None:
    async with (
        OtlpServer(refusing) as server,
        served_relay(tmp_path, stored=stored, drain_timeout_s=10) as relay,
    ):
        await made(relay, "gone", server.url)
        for _ in range(3):
            await relay.send(10)
        await relay.delete("gone")
        began = own_time()
        await draining(relay)
        server.answer = accepting
        await ended(relay)
        assert own_time() - began < 8, "it does not wait longer than needed"
        assert sorted(server.values) == list(range(30))
        ledger = relay.reconciler.removed_ledger()
        assert (ledger.offered, ledger.delivered, ledger.dropped) == (30, 30, {})


async def test_made_anew_it_is_empty_and_the_old_one_drains_beside_it(
    tmp_path: Path, stored: bool
) -> None:
    async with (
        OtlpServer(refusing) as old,
        OtlpServer() as new,
        served_relay(tmp_path, stored=stored, drain_timeout_s=20) as relay,
    ):
        await relay.put_secret("tok", token="old-token")
        first = await made(relay, "acme", old.url, secret="tok")
        await filled(relay, "acme", 20)
        await eventually("tried", lambda: len(old.received) > 1, timeout_s=5)
        await relay.delete("acme")
        await relay.delete_secret("tok")
        await relay.put_secret("tok", token="new-token")
        second = await made(relay, "acme", new.url, secret="tok")
        assert first != second
        report = relay.reconciler.reports_of("default/acme")["endpoint"]
        assert (report.matched, report.ledger.offered, report.ledger.queued) == (0, 0, 0)
        assert report.matched_samples == 0
        assert report.worker.last_error is None
        await draining(relay)
        await relay.send(5)
        await eventually("the new one delivers", lambda: len(new.values) == 5, timeout_s=5)
        rows = metric(
            relay.relay,
            "relay_sink_points_total",
            exporter="default/acme",
            sink="endpoint",
            outcome="delivered",
        )
        assert rows == 5
        scrape = {(one.exporter, one.sink) for one in relay.relay.snapshot().sinks}
        assert len(scrape) == len(relay.relay.snapshot().sinks), "no label set comes twice"
        old.answer = accepting
        await ended(relay)
        assert sorted(old.values[-20:]) == list(range(20))
        assert new.values == [20, 21, 22, 23, 24]
        assert {one.headers["Authorization"] for one in old.received} == {"Bearer old-token"}
        assert {one.headers["Authorization"] for one in new.taken} == {"Bearer new-token"}
        status = await written_status(relay, "acme")
        assert status["sinks"][0]["ledger"]["delivered"] == 5
        assert not status["sinks"][0].get("lastError")


async def test_an_edit_takes_the_queue_along(tmp_path: Path, stored: bool) -> None:
    async with (
        OtlpServer() as server,
        served_relay(tmp_path, stored=stored, drain_timeout_s=DRAIN_S) as relay,
    ):
        await made(relay, "acme", unreachable(), backoff="10s")
        await filled(relay, "acme")
        await relay.replace("acme", server.url)
        await eventually("all there", lambda: len(server.values) == 10, timeout_s=5)
        assert relay.draining() == []


async def test_a_secret_that_goes_with_it_does_not_end_the_drain(
    tmp_path: Path, stored: bool
) -> None:
    async with (
        OtlpServer(refusing) as server,
        served_relay(tmp_path, stored=stored, drain_timeout_s=20) as relay,
    ):
        await relay.put_secret("tok", token="s3cret")
        await made(relay, "acme", server.url, secret="tok")
        await filled(relay, "acme")
        await eventually("tried", lambda: len(server.received) > 1, timeout_s=5)
        await relay.delete_secret("tok")
        await eventually(
            "the Secret is missed",
            lambda: bool(relay.relay.status()["faults"]),  # type: ignore[arg-type]
            timeout_s=5,
        )
        await relay.delete("acme")
        await draining(relay)
        server.answer = accepting
        await ended(relay)
        assert server.values[-10:] == list(range(10))
        assert {one.headers["Authorization"] for one in server.received} == {"Bearer s3cret"}


async def test_a_paused_sink_is_dropped_at_once(tmp_path: Path, stored: bool) -> None:
    async with (
        OtlpServer() as server,
        served_relay(tmp_path, stored=stored, drain_timeout_s=20) as relay,
    ):
        await made(relay, "acme", server.url, paused=True)
        await filled(relay, "acme")
        await relay.delete("acme")
        await eventually(
            "dropped",
            lambda: relay.reconciler.removed_ledger().dropped == {"deleted": 10},
            timeout_s=5,
        )
        assert server.values == []


async def test_the_death_of_the_relay_in_a_drain(
    tmp_path: Path, stored: bool, caplog: pytest.LogCaptureFixture
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    async with OtlpServer() as server:
        async with served_relay(before, stored=stored, drain_timeout_s=5) as relay:
            url = unreachable()
            await made(relay, "acme", url)
            await filled(relay, "acme")
            await relay.delete("acme")
            await draining(relay)
            if stored:
                await eventually(
                    "spilled",
                    lambda: relay.draining()[0].queue.memory_bytes == 0,
                    timeout_s=5,
                )
            await made(relay, "acme", server.url)
            crash_image(before, after)
        caplog.clear()
        caplog.set_level(logging.WARNING)
        async with served_relay(after, stored=stored, drain_timeout_s=5) as relay:
            assert "default/acme" in {one.id for one in relay.reconciler.exporters}
            await relay.send(3)
            await eventually("it delivers", lambda: len(server.values) == 3, timeout_s=5)
            if stored:
                ledger = orphans_of(relay.relay)["ledger"]
                assert (ledger["orphaned"], ledger["deleted"], ledger["waiting"]) == (10, 10, 0)
                outcome = {"outcome": "deleted"}
                assert metric(relay.relay, "relay_orphaned_points_total", **outcome) == 10
                (line,) = [one for one in caplog.records if "deleted object" in one.msg]
                assert (line.exporter, line.points) == ("default/acme", 10)  # type: ignore[attr-defined]
            assert relay.draining() == []
        assert len(server.values) == 3


@pytest.mark.parametrize("other", [False, True], ids=["ours", "of others"])
async def test_the_relays_finalizer_goes_when_the_sinks_have_drained(
    tmp_path: Path, stored: bool, other: bool
) -> None:
    async with served_relay(tmp_path, stored=stored, drain_timeout_s=DRAIN_S) as relay:
        await made(relay, "acme", unreachable())
        await filled(relay, "acme")
        finalizers = [FINALIZER, *(["example.com/other"] if other else [])]
        await relay.set_finalizers("acme", *finalizers)
        await relay.delete("acme")
        await draining(relay)
        began = time.monotonic()
        assert await relay.finalizers("acme") == finalizers

        async def is_released() -> bool:
            return FINALIZER not in (await relay.finalizers("acme") or ())

        await eventually("it is released", is_released, timeout_s=10)
        assert not relay.draining()
        assert time.monotonic() - began > DRAIN_S - 0.2
        assert await relay.finalizers("acme") == (["example.com/other"] if other else None)
        assert relay.reconciler.removed_ledger().dropped == {"deleted": 10}


async def test_a_pause_for_a_secret_that_is_gone_ends_with_the_deletion(
    tmp_path: Path, stored: bool
) -> None:
    async with (
        OtlpServer() as server,
        served_relay(tmp_path, stored=stored, drain_timeout_s=20) as relay,
    ):
        await relay.put_secret("tok", token="s3cret")
        await made(relay, "acme", server.url, secret="tok", backoff="30s")
        await relay.send(10)
        await eventually("sent", lambda: len(server.values) == 10, timeout_s=5)
        await relay.delete_secret("tok")
        await eventually(
            "the Secret is missed",
            lambda: bool(relay.relay.status()["faults"]),  # type: ignore[arg-type]
            timeout_s=5,
        )
        await filled(relay, "acme")
        await eventually(
            "paused",
            lambda: bool(relay.reconciler.reports_of("default/acme")["endpoint"].worker.paused),
            timeout_s=5,
        )
        await relay.delete("acme")
        await eventually("sent", lambda: len(server.values) == 20, timeout_s=5)
        await ended(relay)
        assert {one.headers["Authorization"] for one in server.received} == {"Bearer s3cret"}


async def test_a_histogram_belongs_to_the_object_that_is_there_when_it_is_whole(
    tmp_path: Path, stored: bool
) -> None:
    lines = histogram("h", "", (("1", 2), ("+Inf", 3)), 4.5, 3)

    def part(some: Sequence[str], at_ms: int) -> bytes:
        return snappy(write(*some, at_ms=at_ms, types={"h": "histogram"}))

    async with (
        OtlpServer() as old,
        OtlpServer() as new,
        served_relay(tmp_path, stored=stored, drain_timeout_s=DRAIN_S) as relay,
    ):
        await made(relay, "acme", old.url)
        assert await relay.post(part(lines, T0_MS)) == 204
        await eventually("a whole one", lambda: len(old.taken) == 1, timeout_s=10)
        assert await relay.post(part(lines[:2], T0_MS + 10_000)) == 204
        await relay.delete("acme")
        await made(relay, "acme", new.url)
        assert await relay.post(part(lines[2:], T0_MS + 10_000)) == 204
        assert await relay.post(part(lines, T0_MS + 20_000)) == 204
        await eventually("both", lambda: sum(map(points_of, new.taken)) == 2, timeout_s=10)
        await ended(relay)
        points = new.any_points()
        assert {(point.data[0], *point.data[2:]) for point in points} == {(3, (1.0,), (2, 1))}
        times = {point.time_ns // 1_000_000 - T0_MS for point in points}
        assert times == {10_000, 20_000}
        assert len(old.taken) == 1
        for report in relay.reconciler.reports():
            assert report.balanced
        ledger = relay.reconciler.removed_ledger()
        assert (ledger.offered, ledger.delivered) == (1, 1)


async def test_a_stop_in_a_drain_is_no_loss_of_the_relays(tmp_path: Path, stored: bool) -> None:
    async with served_relay(tmp_path, stored=stored, drain_timeout_s=DRAIN_S) as relay:
        await made(relay, "acme", unreachable())
        await filled(relay, "acme")
        await relay.delete("acme")
        await draining(relay)
    assert relay.relay.given_up == 0
    assert relay.reconciler.removed_ledger().dropped == {"deleted": 10}
    assert nothing_is_left(relay, tmp_path)
