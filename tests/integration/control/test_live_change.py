"""Exporters that change while traffic flows: by watching and by signal, singly and by thousands."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.app import Relay
from relay.config.exporter.types import ExporterPath
from relay.config.settings.settings import ListenAddress, Settings, Shutdown, Storage, Watch
from tests.kit.exporter_yaml import Block, exporter_yaml
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.processes import eventually
from tests.kit.remote_write.write_client import WriteClient
from tests.kit.stored_relay import AT_ONCE
from tests.own_time import own_time, slowness

ACCESS = {"authentication": {"type": "bearerToken", "secretRef": {"name": "credentials"}}}


class Directory:
    """Manifests of exporters that send to one endpoint, replaced as careful tools do it."""

    def __init__(self, path: Path, endpoint: str) -> None:
        self.path = path / "exporters"
        self.path.mkdir()
        self.secrets = path / "secrets"
        self.secrets.mkdir()
        self._endpoint = endpoint

    def write(
        self, name: str, query: str = "", *, timeout: str = "50ms", access: Block | None = None
    ) -> None:
        """An exporter, new or in place of the one of its name, by an atomic rename."""
        text = exporter_yaml(
            name,
            self._endpoint,
            metrics=query,
            sink="s",
            otlp_http={"compression": "none", **(access or {})},
            batch={"timeout": timeout, "maxSize": 10_000},
        )
        fresh = self.path / f".{name}"
        fresh.write_text(text)
        fresh.rename(self.path / f"{name}.yaml")


@asynccontextmanager
async def watching_relay(
    directory: Directory, *, watch: bool = True, storage: Storage | None = None
) -> AsyncIterator[Relay]:
    relay = Relay(
        Settings(
            translation=AT_ONCE,
            listen=ListenAddress("127.0.0.1", 0),
            admin_listen=ListenAddress("127.0.0.1", 0),
            exporters=(ExporterPath(directory.path),),
            secrets=directory.secrets,
            watch=Watch(enabled=watch, interval_s=0.1),
            shutdown=Shutdown(drain_timeout_s=0.5),
            storage=storage,
        )
    )
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


@asynccontextmanager
async def endpoint(tmp_path: Path) -> AsyncIterator[tuple[OtlpServer, Directory]]:
    async with OtlpServer() as server:
        yield server, Directory(tmp_path, server.url.removesuffix("/v1/metrics"))


def client_of(relay: Relay) -> WriteClient:
    address = relay.ingest_address
    return WriteClient(f"http://{address.host}:{address.port}/api/v1/write")


def running_names(relay: Relay) -> set[str]:
    return {exporter.name for exporter in relay.facts().exporters}


def worker_of(relay: Relay, name: str) -> object:
    assert relay._reconciler is not None
    return relay._reconciler._entries[f"default/{name}", "s"].worker


@pytest.mark.slow
async def test_changes_are_applied_as_they_come_and_touch_nothing_else(tmp_path: Path) -> None:
    async with endpoint(tmp_path) as (server, directory):
        directory.write("steady", "up", timeout="10m")
        directory.write("edited", "up")
        async with watching_relay(directory) as relay, client_of(relay) as client:
            steady = worker_of(relay, "steady")
            assert await client.send("up", series=10) == 204
            directory.write("edited", "down")
            directory.write("added", "up")
            await eventually("added", lambda: "added" in running_names(relay), timeout_s=5)
            await eventually(
                "edited",
                lambda: (
                    {s.query for e in relay.facts().exporters for s in e.sources} == {"up", "down"}
                ),
                timeout_s=5,
            )
            assert await client.send("up", series=10) == 204
            (directory.path / "added.yaml").unlink()
            await eventually("removed", lambda: "added" not in running_names(relay), timeout_s=5)
            assert await client.send("up", series=10) == 204
            assert worker_of(relay, "steady") is steady
            reports = {report.exporter: report for report in relay.facts().sinks}
            assert all(report.balanced for report in reports.values())
            assert reports["default/steady"].open == 30, "one batch, open through all of it"
            assert reports["default/edited"].matched == 10
            assert len(server.values) >= 10


@pytest.mark.slow
async def test_a_faulty_edit_leaves_the_last_good_version_and_is_reported(tmp_path: Path) -> None:
    async with endpoint(tmp_path) as (_, directory):
        directory.write("one", "up")
        async with watching_relay(directory) as relay, client_of(relay) as client:
            worker = worker_of(relay, "one")
            directory.write("one", "up{")
            await eventually("reported", lambda: len(relay.facts().faults) == 1, timeout_s=5)
            assert relay.snapshot().reloads == {"good": 0, "faulty": 1, "failed": 0}
            assert running_names(relay) == {"one"}
            assert worker_of(relay, "one") is worker
            assert await client.send("up", series=5) == 204
            assert next(iter(relay.facts().sinks)).matched == 5
            directory.write("one", "up")
            await eventually("mended", lambda: not relay.facts().faults, timeout_s=5)
            assert worker_of(relay, "one") is worker
            assert relay.snapshot().reloads == {"good": 1, "faulty": 1, "failed": 0}


async def test_a_reload_that_the_relay_fails_at_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with endpoint(tmp_path) as (_, directory):
        directory.write("one", "up")
        async with watching_relay(directory, watch=False) as relay:

            def fail(*_: object) -> None:
                raise RuntimeError("bug")

            with monkeypatch.context() as patched:
                patched.setattr("relay.control.reconcile.reconciler.SinkReconciler.compare", fail)
                with pytest.raises(RuntimeError, match="bug"):
                    await relay.reload()
            assert relay.snapshot().reloads == {"good": 0, "faulty": 0, "failed": 1}
            await relay.reload()
            assert relay.snapshot().reloads == {"good": 1, "faulty": 0, "failed": 1}


@pytest.mark.slow
async def test_secrets_rotate_without_a_reload(tmp_path: Path) -> None:
    """The old token is refused, the new one is read from the mounted file: nothing is lost."""
    wanted = "old"

    def answer(request: Received) -> Reply:
        sent = request.headers["Authorization"]
        return Reply() if sent == f"Bearer {wanted}" else Reply(401)

    async with OtlpServer(answer) as server:
        directory = Directory(tmp_path, server.url.removesuffix("/v1/metrics"))
        token = directory.secrets / "default/credentials/token"
        token.parent.mkdir(parents=True)
        token.write_text("old")
        directory.write("one", "up", access=ACCESS)
        async with watching_relay(directory, watch=False) as relay, client_of(relay) as client:
            assert await client.send("up", series=5) == 204
            await eventually("delivered", lambda: _delivered(relay) == 5, timeout_s=5)
            wanted = "new"
            token.write_text("new")
            assert await client.send("up", series=5) == 204
            await eventually("delivered anew", lambda: _delivered(relay) == 10, timeout_s=10)


async def test_a_rotated_secret_is_used_although_the_old_one_still_works(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        directory = Directory(tmp_path, server.url.removesuffix("/v1/metrics"))
        token = directory.secrets / "default/credentials/token"
        token.parent.mkdir(parents=True)
        token.write_text("old")
        directory.write("one", "up", access=ACCESS)
        async with watching_relay(directory) as relay, client_of(relay) as client:

            async def sends(value: str) -> bool:
                assert await client.send("up", series=1) == 204
                return server.received[-1:] and (
                    server.received[-1].headers["Authorization"] == f"Bearer {value}"
                )

            await eventually("the first token is used", lambda: sends("old"), timeout_s=5)
            token.write_text("new!")
            await eventually("the second token is used", lambda: sends("new!"), timeout_s=5)


async def test_the_log_says_what_runs_after_each_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="relay.control.reconcile")
    async with endpoint(tmp_path) as (_, directory):
        directory.write("one", "up")

        def said() -> list[str]:
            lines = [record.getMessage() for record in caplog.records]
            caplog.clear()
            return lines

        async with watching_relay(directory, watch=False) as relay:
            said()
            await relay.reload()
            assert said() == ["reloaded: no exporter has changed, secrets are read again"]
            directory.write("one", "up{")
            directory.write("two", "up{")
            await relay.reload()
            lines = said()
            assert "exporter default/one: its last good version goes on running" in lines
            assert "exporter default/two: it does not run" in lines
            assert sum(line.startswith("faulty: ") for line in lines) == 2
            directory.write("one", "up")
            (directory.path / "two.yaml").unlink()
            await relay.reload()
            good = "exporter default/one: its manifest is good again"
            assert good in said()
            directory.write("one", "up{")
            await relay.reload()
            (directory.path / "one.yaml").write_text("a: [")
            said()
            await relay.reload()
            lines = said()
            assert good not in lines
            assert any(line.endswith("its last good contents stay in effect") for line in lines)
            directory.write("one", "up")
            await relay.reload()
            assert any(line.endswith("can be read again") for line in said())
            (directory.path / "one.yaml").unlink()
            await relay.reload()
            assert "no exporter is left: received samples are not exported" in said()


def _delivered(relay: Relay) -> int:
    return next(iter(relay.facts().sinks)).ledger.delivered


@pytest.mark.slow
async def test_thousands_of_changes_do_not_hold_up_the_loop(tmp_path: Path) -> None:
    """Adding, changing and removing many exporters while requests are answered all the time."""
    count = 1_000
    async with endpoint(tmp_path) as (_, directory):
        directory.write("steady", "up")
        async with watching_relay(directory, watch=False) as relay, client_of(relay) as client:
            for queries in (("x",), ("y",), ()):
                for number in range(count):
                    for query in queries:
                        directory.write(f"many-{number}", f"{query}{number % 50}", timeout="10m")
                if not queries:
                    for number in range(count):
                        (directory.path / f"many-{number}.yaml").unlink()
                reload = asyncio.ensure_future(relay.reload())
                worst_s = 0.0
                while not reload.done():
                    before = own_time()
                    await asyncio.sleep(0)
                    worst_s = max(worst_s, own_time() - before)
                    assert await client.send("up", series=1) == 204
                changes = await reload
                assert len(changes.added) + len(changes.changed) + len(changes.removed) == count
                if queries:  # so that no collection has to look at all that is new
                    # Statuses are judged in looks after it, and frozen at their end.
                    await eventually(
                        "frozen",
                        lambda: len(gc.get_objects(0)) + len(gc.get_objects(1)) < 10 * count,
                        timeout_s=30,
                    )
                print(f"worst hold-up: {worst_s * 1e3:.0f} ms")
                # 50 ms are asked for.
                assert worst_s < 0.25 * slowness()
            assert running_names(relay) == {"steady"}
            report = next(iter(relay.facts().sinks))
            assert report.balanced
            assert report.matched == client.sent


@pytest.mark.slow
async def test_a_stop_in_the_middle_of_a_reload(tmp_path: Path) -> None:
    async with endpoint(tmp_path) as (_, directory):
        directory.write("steady", "up")
        async with watching_relay(directory, watch=False) as relay:
            for number in range(500):
                directory.write(f"many-{number}", "x")
            reload = asyncio.ensure_future(relay.reload())
            await eventually(
                "begun", lambda: len(running_names(relay)) > 1 or reload.done(), timeout_s=10
            )
        await reload


@pytest.mark.slow
async def test_accounts_drawn_up_in_slices_balance_while_everything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look gives others a turn after each sink: samples arrive, exporters come and go."""
    monkeypatch.setattr("relay.runtime.event_loop.WORK_S", 0.0)
    async with endpoint(tmp_path) as (_, directory):
        for number in range(20):
            directory.write(f"e{number}", "up")
        async with watching_relay(directory, watch=False) as relay, client_of(relay) as client:
            for turn in range(4):
                sending = asyncio.create_task(send_on(client))
                directory.write(f"new{turn}", "up")
                (directory.path / f"e{turn}.yaml").unlink()
                reload = asyncio.create_task(relay.reload())
                before = running_names(relay)
                facts = await relay.look()
                assert all(report.balanced for report in facts.sinks)
                assert {exporter.name for exporter in facts.exporters} == before
                document = facts.status()
                assert {one["name"] for one in document["exporters"]} == {
                    f"default/{name}" for name in before
                }
                for _ in range(3):
                    assert all(report.balanced for report in (await relay.look()).sinks)
                await reload
                assert await sending == {204}


async def send_on(client: WriteClient) -> set[int]:
    """Some requests, one after the other."""
    return {await client.send("up", series=10) for _ in range(10)}


async def test_a_sink_without_data_is_not_looked_after(tmp_path: Path) -> None:
    async with endpoint(tmp_path) as (server, directory):
        directory.write("busy", "up")
        directory.write("idle", "down")
        async with watching_relay(directory, watch=False) as relay, client_of(relay) as client:
            assert relay._reconciler is not None
            awake = relay._reconciler.awake
            await eventually("all rest", lambda: not awake, timeout_s=5)
            assert await client.send("up", series=10) == 204
            await eventually("sent", lambda: len(server.values) == 10, timeout_s=5)
            assert list(awake) == [worker_of(relay, "busy")]
            await eventually("all rest", lambda: not awake, timeout_s=5)


@pytest.mark.parametrize("durable", [False, True])
async def test_a_removed_sink_goes_with_its_last_reference(tmp_path: Path, durable: bool) -> None:
    """Neither the collector of garbage nor the log of changes is needed, or in the way."""
    async with endpoint(tmp_path) as (server, directory):
        directory.write("steady", "up")
        directory.write("leaves", "up")
        storage = Storage(tmp_path / "data") if durable else None
        async with (
            watching_relay(directory, watch=False, storage=storage) as relay,
            client_of(relay) as client,
        ):
            assert await client.send("up", series=10) == 204
            await eventually("sent", lambda: len(server.values) == 20, timeout_s=5)
            workers = weakref.WeakSet([worker_of(relay, "steady"), worker_of(relay, "leaves")])
            gc.collect()
            gc.disable()
            try:
                (directory.path / "leaves.yaml").unlink()
                await relay.reload()
                # Until then, what it had last leads to it.
                assert await client.send("up", series=10) == 204
                await eventually("gone", lambda: len(workers) == 1, timeout_s=5)
            finally:
                gc.enable()
