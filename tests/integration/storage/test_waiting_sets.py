"""Histograms and summaries whose members come in requests of their own, over stops and deaths."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from relay.app import Relay
from relay.config.settings.settings import TranslationSettings
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.ingest_server import eventually
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.remote_write.raw import snappy
from tests.kit.remote_write.sample_writes import T0_MS, histogram, write
from tests.kit.stored_relay import (
    Sender,
    checkpoint_saved,
    crash_image,
    made,
    manifest,
    running,
)

H = histogram("h", "", (("1", 2), ("+Inf", 3)), 4.5, 3)
WHOLE = (3, (1.0,), (2, 1))


def busy(_: Received) -> Reply:
    return Reply(503)


def packed_lines(lines: Sequence[str], *, at_ms: int = T0_MS) -> bytes:
    """A snappy request that says that ``h`` is a histogram, too."""
    return snappy(write(*lines, at_ms=at_ms, types={"h": "histogram"}))


def points_at(server: OtlpServer) -> list[AnyPoint]:
    """Every point that arrived, in order."""
    return server.any_points()


def check_whole(server: OtlpServer, count: int) -> None:
    """So many times of ``h`` arrived, and nothing but whole histograms."""
    found = points_at(server)
    assert {point.name for point in found} == {"h"}
    assert {(point.data[0], *point.data[2:]) for point in found} == {WHOLE}
    assert len({point.time_ns for point in found}) == count


async def arrived(server: OtlpServer, count: int) -> None:
    await server.wait_until(lambda: len(points_at(server)) >= count)


@pytest.mark.parametrize("ending", ["stop", "kill"])
async def test_between_members_of_a_set(tmp_path: Path, ending: str) -> None:
    async with OtlpServer() as server:
        async with running(made(tmp_path, manifest("all", server.url))) as sender:
            assert await sender.post(packed_lines(H[:1])) == 204
            assert await sender.post(packed_lines(H[1:3])) == 204
            await checkpoint_saved(sender.relay)
            data = crash_image(tmp_path / "data", tmp_path / "image")
        if ending == "stop":
            data = tmp_path / "data"
        assert points_at(server) == []
        async with running(made(tmp_path, manifest("all", server.url), data=data)) as sender:
            await eventually(lambda: not sender.relay._replay.active)
            assert await sender.post(packed_lines(H[3:])) == 204
            assert await sender.post(packed_lines(H, at_ms=T0_MS + 1000)) == 204
            _hasten(sender)
            await arrived(server, 2)
            check_whole(server, 2)
            assert sender.ledger("all")["balanced"]


async def test_a_stop_in_a_replay(tmp_path: Path) -> None:
    async with OtlpServer(busy) as server:
        async with running(made(tmp_path, manifest("all", server.url))) as sender:
            for second in range(20):
                for member in H:
                    assert (
                        await sender.post(packed_lines([member], at_ms=T0_MS + 1000 * second))
                        == 204
                    )
            image = crash_image(tmp_path / "data", tmp_path / "image")
        server.answer = lambda _: Reply()
        server.taken.clear()
        for requests in (1, 3, 6):
            relay = made(tmp_path, manifest("all", server.url), data=image)
            async with running(relay):
                replay = relay._replay
                replay._crowded = lambda at=requests, replay=replay: replay._requests >= at
                await eventually(lambda at=requests, replay=replay: replay._requests >= at)
                assert replay.active
        async with running(made(tmp_path, manifest("all", server.url), data=image)) as sender:
            await eventually(lambda: not sender.relay._replay.active)
            _hasten(sender)
            await arrived(server, 20)
            check_whole(server, 20)


async def test_a_family_that_waits_does_not_make_sinks_get_all_again(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        async with running(made(tmp_path, manifest("all", server.url))) as sender:
            assert await sender.post(packed_lines(H)) == 204  # its first set: it waits
            for _ in range(20):
                assert await sender.send() == 204
            await arrived(server, 200)
            await eventually(lambda: sender.ledger("all")["queued"] == 0)
            await checkpoint_saved(sender.relay)
            image = crash_image(tmp_path / "data", tmp_path / "image")
        async with running(made(tmp_path, manifest("all", server.url), data=image)) as sender:
            await eventually(lambda: not sender.relay._replay.active)
            _hasten(sender)
            await server.wait_until(lambda: any(point.name == "h" for point in points_at(server)))
            numbers = [point for point in points_at(server) if point.name != "h"]
            assert len(numbers) == 200, "none of them once more"


@pytest.mark.parametrize("ending", ["stop", "kill"])
@pytest.mark.parametrize("slow", [False, True])
async def test_what_left_after_its_first_sight_comes_once(
    tmp_path: Path, ending: str, *, slow: bool
) -> None:
    numbers = {f"n{number}" for number in range(20)}

    def relay(data: Path | None = None) -> Relay:
        manifests = [manifest("all", server.url)]
        if slow:
            manifests.append(manifest("slow", never.url, backoff="30s"))
        waits = TranslationSettings(first_sight_wait_s=0.05)
        return made(tmp_path, *manifests, data=data, translation=waits)

    async with OtlpServer() as server, OtlpServer(busy) as never:
        async with running(relay()) as sender:
            body = snappy(write(*(f"{name} 1" for name in numbers), *H))
            assert await sender.post(body) == 204
            assert await sender.post(snappy(write("n0 2", at_ms=T0_MS + 1))) == 204
            await arrived(server, 21)
            await eventually(lambda: sender.ledger("all")["queued"] == 0)
            await checkpoint_saved(sender.relay)
            data = crash_image(tmp_path / "data", tmp_path / "image")
        if ending == "stop":
            data = tmp_path / "data"
        async with running(relay(data)) as sender:
            await eventually(lambda: not sender.relay._replay.active)
            _hasten(sender)
            await server.wait_until(lambda: any(point.name == "h" for point in points_at(server)))
        found = Counter((point.name, point.time_ns) for point in points_at(server))
        assert {name for name, _ in found} == numbers | {"h"}
        assert len(found) == 22
        assert set(found.values()) == {1}


async def test_without_a_disk_a_stop_sends_what_there_is(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url))
        relay._settings = dataclasses.replace(relay._settings, storage=None)
        async with running(relay) as sender:
            assert await sender.post(packed_lines(H)) == 204
        check_whole(server, 1)


def _hasten(sender: Sender) -> None:
    """Let everything that waits have waited long enough."""
    relay = sender.relay
    for seconds in (60.0, 120.0):  # the sets, and the batches that they are in
        relay._flush_timer.deliver(relay._engine.flush_due(relay._tick() + seconds))
