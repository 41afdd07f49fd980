"""Files of the data directory that somebody takes away, and a disk that is full at the end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from relay.cli import main
from relay.config.exporter.types import ExporterPath
from relay.config.settings.settings import ListenAddress, Settings, Shutdown, Storage
from tests.kit import processes
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.ingest_server import eventually
from tests.kit.processes import free_port
from tests.kit.remote_write.raw import HEADERS
from tests.kit.storage.faulty_disk import FaultyDisk
from tests.kit.stored_relay import (
    AT_ONCE,
    body_of,
    checkpoint_saved,
    crash_image,
    made,
    manifest,
    running,
)


def busy(_: Received) -> Reply:
    return Reply(503)


def empty(directory: Path) -> None:
    """``rm -rf directory/*``, in one step for each."""
    gone = directory.with_name("gone")
    gone.mkdir()
    for path in directory.iterdir():
        path.rename(gone / path.name)
    shutil.rmtree(gone, ignore_errors=True)


async def test_everything_taken_away_under_a_running_relay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    async with OtlpServer(busy) as server, OtlpServer() as good:
        manifests = manifest("bad", server.url), manifest("good", good.url)
        relay = made(tmp_path, *manifests)
        async with running(relay) as sender:
            assert relay._reconciler is not None
            assert relay._storage is not None
            assert await sender.send() == 204
            relay._reconciler.spill_below(1 << 60)
            await eventually(lambda: relay._memory.used == 0, timeout_s=10)
            assert sender.ledger("bad")["queued"] == 10
            empty(data)
            relay._storage._look_at = 0.0
            for worker in relay._reconciler.workers():
                assert worker._spooler is not None
                worker._spooler._check_at = 0.0
            for _ in range(3):
                assert await sender.send() == 204
            # What is gone is in the ledger, before its turn has come.
            await eventually(lambda: sender.ledger("bad")["dropped"] == {"damaged": 10})
            assert sender.ledger("bad")["balanced"]
            await eventually(lambda: any((data / "journal").glob("*.seg")))
            await eventually(lambda: {"lock", "format", "checkpoint"} <= set(os.listdir(data)))
            assert relay._storage.journal.statistics().unreadable_segments >= 1
            assert relay._storage.journal.statistics().errors >= 1
            assert "was deleted by another process" in caplog.text
            # All is as it should be again: what comes now survives a crash.
            await eventually(lambda: not relay._storage.journal.trouble)
            assert await sender.send() == 204

            def is_stored() -> bool:
                assert relay._reconciler is not None
                relay._reconciler.spill_below(1 << 60)
                return relay._memory.used == 0

            await eventually(is_stored, timeout_s=10)
            assert any((data / "queues").glob("*/*.seg"))
            # The last request is in the journal and in a queue until a checkpoint says so.
            before = crash_image(data, tmp_path / "before")
            await checkpoint_saved(relay)
            after = crash_image(data, tmp_path / "after")
            server.answer = lambda _: Reply()
            server.taken.clear()
            await server.wait_until(lambda: len(server.values) >= 40, timeout_s=15)
            assert server.values == list(range(10, 50))
            assert good.values == list(range(50))
    for image in (before, after):
        async with (
            OtlpServer() as again,
            running(made(tmp_path, manifest("bad", again.url), data=image)) as sender,
        ):
            await again.wait_until(lambda again=again: set(again.values) == set(range(10, 50)))
            await eventually(lambda: sender.ledger("bad")["queued"] == 0)
            times = Counter(again.values)
            assert times == Counter(range(10, 50)) or image is before
            assert all(times[value] == 1 for value in range(10, 40))


async def test_an_unlinked_journal_is_noticed_and_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with OtlpServer(busy) as server:
        relay = made(tmp_path, manifest("all", server.url))
        async with running(relay) as sender:
            assert await sender.send() == 204
            (segment,) = (tmp_path / "data/journal").iterdir()
            segment.unlink()
            assert await sender.send() == 204
            await eventually(lambda: "was deleted by another process" in caplog.text)
            await eventually(lambda: any((tmp_path / "data/journal").iterdir()))
            assert relay._storage is not None
            journal = relay._storage.journal
            await eventually(lambda: not journal.trouble)
            assert await sender.send() == 204
            image = crash_image(tmp_path / "data", tmp_path / "image")
    async with (
        OtlpServer() as again,
        running(made(tmp_path, manifest("all", again.url), data=image)),
    ):
        await again.wait_until(lambda: len(again.values) >= 10)
        assert set(again.values) >= set(range(20, 30))


async def test_a_second_relay_on_what_was_unlocked_by_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, manifest("all", server.url))
        async with running(relay):
            (tmp_path / "data/lock").unlink()
            async with running(made(tmp_path, manifest("all", server.url))):
                assert relay._storage is not None
                relay._storage._look_at = 0.0
                await eventually(lambda: "stop one of the two" in caplog.text)


async def test_a_full_disk_at_the_end_is_a_figure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FaultyDisk()
    async with OtlpServer(busy) as server:
        relay = made(tmp_path, manifest("all", server.url), disk=disk)
        async with running(relay) as sender:
            assert await sender.send() == 204
            disk.write_error = errno.ENOSPC
            for _ in range(4):
                assert await sender.send() == 204
        # What the first request brought is in the journal; what came later is nowhere.
        # At most, because a batch may hold points of the request after it as well.
        assert 40 <= relay.given_up <= 50
        (record,) = (r for r in caplog.records if r.getMessage() == "points were given up")
        assert record.__dict__["points"] == relay.given_up
        assert record.__dict__["exporter"] == "default/all"
        assert record.levelno == logging.ERROR
        disk.write_error = 0
        server.answer = lambda _: Reply()
        server.taken.clear()
        async with running(made(tmp_path, manifest("all", server.url))):
            await server.wait_until(lambda: len(server.values) >= 10)
            assert server.values == list(range(10))


async def test_an_end_that_stores_everything_gives_up_nothing(tmp_path: Path) -> None:
    async with OtlpServer(busy) as server:
        relay = made(tmp_path, manifest("all", server.url))
        async with running(relay) as sender:
            assert await sender.send() == 204
        assert relay.given_up == 0


@pytest.mark.parametrize("full", [True, False])
async def test_giving_up_is_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    disk = FaultyDisk()
    monkeypatch.setattr("relay.app.Disk", lambda: disk)
    (tmp_path / "exporter.yaml").write_text(manifest("all", "http://127.0.0.1:1/v1/metrics"))
    settings = Settings(
        translation=AT_ONCE,
        listen=ListenAddress("127.0.0.1", free_port()),
        admin_listen=ListenAddress("127.0.0.1", free_port()),
        exporters=(ExporterPath(tmp_path / "exporter.yaml"),),
        storage=Storage(tmp_path / "data"),
        shutdown=Shutdown(drain_timeout_s=0.2),
    )
    serving = asyncio.ensure_future(main.serve(settings))
    url = f"http://{settings.listen}/api/v1/write"
    async with aiohttp.ClientSession() as session:

        async def send() -> bool:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.post(url, data=body_of(range(10)), headers=HEADERS) as response:
                    return response.status == 204
            return False

        await processes.eventually("it listens", send, timeout_s=10)
        disk.write_error = errno.ENOSPC if full else 0
        assert await send()
    os.kill(os.getpid(), signal.SIGTERM)
    given_up = await serving
    assert bool(given_up) is full
    left: list[int] = []
    monkeypatch.setattr(main, "run_on_uvloop", lambda work: work.close() or given_up)
    monkeypatch.setattr(main, "_leave", left.append)
    monkeypatch.setattr(main.log_setup, "configure", lambda *_: None)
    main.main(["run"])
    assert left == [1 if full else 0]
