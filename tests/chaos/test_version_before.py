"""This version after, before and beside the released one before it, built from git's history."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from relay.storage.log.data_directory import UNFINISHED, write_format
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer, Reply
from tests.kit.kubernetes.real_api import real_api
from tests.kit.kubernetes.rendering import Cluster
from tests.kit.paths import ROOT
from tests.kit.processes import Process, eventually, free_port, get_json, started
from tests.kit.remote_write.raw import HEADERS
from tests.kit.storage.previous_version import PreviousVersion, run
from tests.kit.stored_relay import body_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

PRESENT = ["env", "-C", str(ROOT), sys.executable, "-m", "relay"]
SAMPLES = 200
SETTINGS = """
storage: {path: data, maxBytes: 64MiB}
translation: {firstSightWait: 0s}
exporters: [{path: exporters.yaml}]
allowPrivateEndpoints: true
shutdown: {drainTimeout: 1s}
"""


@pytest.fixture(scope="module")
def before() -> PreviousVersion:
    """The version before, built."""
    return PreviousVersion()


def settings(folder: Path, server: OtlpServer, name: str = "one") -> Path:
    """Settings with one Exporter to an endpoint; returns their path."""
    folder.mkdir(exist_ok=True)
    text = exporter_yaml(
        name, server.url, batch={"timeout": "20ms"}, retry={"backoff": "50ms"},
        queue={"maxAge": "720h", "maxBytes": "64MiB"},
    )  # fmt: skip
    (folder / "exporters.yaml").write_text(text)
    (folder / "relay.yaml").write_text(SETTINGS)
    return folder / "relay.yaml"


@asynccontextmanager
async def running(command: list[str], config: Path) -> AsyncIterator[tuple[Process, str, str]]:
    """Run a relay; gives the process, its remote-write URL and its admin URL."""
    port, admin = free_port(), free_port()
    command = [*command, "run", "--config", str(config), "--listen", f"127.0.0.1:{port}"]
    command += ["--admin-listen", f"127.0.0.1:{admin}"]
    url = f"http://127.0.0.1:{admin}"
    log = config.with_suffix(".log")
    async with started(command, log=log, ready_url=f"{url}/readyz") as process:
        yield process, f"http://127.0.0.1:{port}/api/v1/write", url


async def send(url: str, values: range) -> None:
    """Send numbered samples, a request for each :data:`SAMPLES`."""
    async with aiohttp.ClientSession() as session:
        for start in range(values.start, values.stop, SAMPLES):
            body = body_of(range(start, min(start + SAMPLES, values.stop)))
            async with session.post(url, data=body, headers=HEADERS) as answer:
                assert answer.status == 204


def taken(server: OtlpServer) -> list[float]:
    """The values that an endpoint took."""
    return [value for request in server.taken for value in request.values()]


async def everything(server: OtlpServer, values: range) -> None:
    """Wait until an endpoint has all values."""
    wanted = set(map(float, values))
    await eventually("everything arrives", lambda: wanted <= set(taken(server)), timeout_s=60)


async def left_by(command: list[str], config: Path, server: OtlpServer, values: range) -> None:
    """Let a relay take values of which its endpoint takes none, and kill it."""
    server.answer = lambda _: Reply(503)
    async with running(command, config) as (process, url, admin):
        await send(url, values)

        async def stored() -> bool:
            (exporter,) = (await get_json(f"{admin}/status"))["exporters"]
            return bool(exporter["sinks"][0]["queue"]["storedBytes"])

        await eventually("the queue is on disk", stored, timeout_s=60)
        await process.stop(signal.SIGKILL)
    server.answer = lambda _: Reply()
    assert not taken(server)


async def test_a_rolling_update_goes_on_with_the_volume(
    before: PreviousVersion, tmp_path: Path
) -> None:
    values = range(60_000)
    async with OtlpServer() as server:
        config = settings(tmp_path / "relay", server)
        await left_by(before.command, config, server, values)
        async with running(PRESENT, config) as (process, _, _):
            await everything(server, values)
            assert "ERROR" not in process.text(), process.text()


async def test_the_version_before_refuses_a_later_format_and_touches_nothing(
    before: PreviousVersion, tmp_path: Path
) -> None:
    values = range(60_000)
    async with OtlpServer() as server:
        config = settings(tmp_path / "relay", server)
        await left_by(PRESENT, config, server, values)
        data = tmp_path / "relay/data"
        was = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
        done = await asyncio.to_thread(run, before.command, "run", "--config", config)
        assert done.returncode == 1
        (line,) = (line for line in done.stderr.splitlines() if "format" in line)
        assert "has format 3 and this build reads formats 1 to 2" in line
        now = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
        was.pop(data / "lock")
        now.pop(data / "lock")
        assert now == was
        async with running(PRESENT, config):
            await everything(server, values)


async def test_a_backup_from_before_the_upgrade_leads_back(
    before: PreviousVersion, tmp_path: Path
) -> None:
    """Made by this version of a volume on which the version before runs, restored for that."""
    values = range(60_000)
    archive = tmp_path / "backup.tar"
    async with OtlpServer() as server:
        config = settings(tmp_path / "relay", server)
        await left_by(before.command, config, server, values)
        done = await asyncio.to_thread(run, PRESENT, "backup", "--config", config, archive)
        assert done.returncode == 0, done.stderr
        async with running(PRESENT, config):
            await everything(server, values)
        server.taken.clear()
        again = settings(tmp_path / "again", server)
        done = await asyncio.to_thread(run, PRESENT, "restore", "--config", again, archive)
        assert done.returncode == 0, done.stderr
        async with running(before.command, again) as (process, _, _):
            await everything(server, values)
            assert "ERROR" not in process.text(), process.text()


async def test_the_version_before_refuses_an_unfinished_restore(
    before: PreviousVersion, tmp_path: Path
) -> None:
    async with OtlpServer() as server:
        config = settings(tmp_path / "relay", server)
        (tmp_path / "relay/data").mkdir()
        write_format(tmp_path / "relay/data", UNFINISHED)
        done = await asyncio.to_thread(run, before.command, "run", "--config", config)
        assert done.returncode == 1
        assert f"has format {UNFINISHED}" in done.stderr


async def test_both_versions_beside_each_other_at_one_endpoint(
    before: PreviousVersion, tmp_path: Path
) -> None:
    """One Exporter in both, and the series shared out: the endpoint gets each once."""
    shares = (range(40_000), range(40_000, 80_000))
    async with OtlpServer() as server, AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(running(command, settings(tmp_path / name, server)))
            for name, command in (("before", before.command), ("present", PRESENT))
        ]
        async with asyncio.TaskGroup() as tasks:
            for (_, url, _), values in zip(relays, shares, strict=True):
                tasks.create_task(send(url, values))
        await everything(server, range(80_000))
        assert sorted(taken(server)) == list(map(float, range(80_000)))
        for _, _, admin in relays:
            (exporter,) = (await get_json(f"{admin}/status"))["exporters"]
            ledger = exporter["sinks"][0]["ledger"]
            assert ledger["balanced"]
            assert ledger["delivered"] == 40_000


async def test_senders_move_from_files_of_the_version_before_to_objects_of_a_cluster(
    before: PreviousVersion, tmp_path: Path
) -> None:
    """The same Exporter is a file there and an object here; the endpoint gets everything once."""
    (tmp_path / "api").mkdir()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(OtlpServer())
        api = await stack.enter_async_context(real_api(tmp_path / "api"))
        cluster = Cluster(api.kubeconfig)
        old = settings(tmp_path / "before", server)
        new = settings(tmp_path / "present", server)
        exporter = new.with_name("exporters.yaml").read_text()
        new.write_text(
            SETTINGS.replace(
                "exporters: [{path: exporters.yaml}]",
                f"kubernetes: {{kubeconfig: {api.kubeconfig}}}",
            )
        )
        await asyncio.to_thread(cluster, "apply", "--server-side", "-k", "config/crds")
        established = ("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        await asyncio.to_thread(cluster, *established)
        await asyncio.to_thread(cluster, "apply", "--server-side", "-f", "-", given=exporter)
        _, first, _ = await stack.enter_async_context(running(before.command, old))
        _, second, _ = await stack.enter_async_context(running(PRESENT, new))
        programmed = ("wait", "--for=condition=Programmed", "exporter/one", "--timeout=60s")
        await asyncio.to_thread(cluster, *programmed)
        await send(first, range(40_000))
        reason = ("get", "exporter", "one", "-o")
        reason += ("jsonpath={.status.conditions[?(@.type=='Delivering')].reason}",)
        assert await asyncio.to_thread(cluster, *reason) == "NoData"
        await send(second, range(40_000, 80_000))
        await everything(server, range(80_000))
        assert sorted(taken(server)) == list(map(float, range(80_000)))
        delivering = ("wait", "--for=condition=Delivering", "exporter/one", "--timeout=60s")
        await asyncio.to_thread(cluster, *delivering)
