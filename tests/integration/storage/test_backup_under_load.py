"""Backups of a relay under load that is killed later: nothing acknowledged before is lost."""

from __future__ import annotations

import asyncio
import io
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from relay.control.durability.backup import back_up
from relay.control.durability.restore import restore
from tests.integration.storage.test_old_directories import FORMATS, ROOT, hashable, opened
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.processes import Process, eventually, get_json, relay
from tests.kit.remote_write.raw import HEADERS
from tests.kit.stored_relay import body_of

SAMPLES = 200
PAUSE_S = 0.002
"""Between two requests: the endpoints decode all of it."""
CHECKPOINT_S = 5.0
"""Longer than a checkpoint is old, on a machine that has other work."""
SETTINGS = """
storage: {path: data, maxBytes: 8MiB}
translation: {firstSightWait: 0s}
exporters: [{path: exporters.yaml}]
allowPrivateEndpoints: true
"""


@dataclass
class Backup:
    """A backup, what was acknowledged before, and what each endpoint had some time before."""

    archive: bytes
    acknowledged: int
    given: dict[str, set[float]]


@dataclass
class Load:
    """Sends numbered samples, one request after the other, until it is stopped."""

    url: str
    acknowledged: int = 0
    stopped: bool = False
    backups: list[Backup] = field(default_factory=list)

    async def run(self) -> None:
        async with aiohttp.ClientSession() as session:
            while not self.stopped:
                values = range(self.acknowledged, self.acknowledged + SAMPLES)
                async with session.post(self.url, data=body_of(values), headers=HEADERS) as answer:
                    assert answer.status == 204
                self.acknowledged = values.stop
                await asyncio.sleep(PAUSE_S)


def taken(server: OtlpServer, start: int = 0) -> list[float]:
    """The values that an endpoint took, from its request number ``start`` on."""
    return [value for request in server.taken[start:] for value in request.values()]


async def backup_process(data: Path) -> bytes:
    """``relay backup`` to standard output, as ``kubectl exec`` would run it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "backup", "--data", str(data), "-"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out


def configure(directory: Path, servers: dict[str, OtlpServer]) -> list[str]:
    """Write settings and Exporters; return the arguments."""
    directory.mkdir(exist_ok=True)
    manifests = [
        exporter_yaml(
            name,
            server.url,
            batch={"timeout": "20ms"},
            retry={"backoff": "50ms"},
            queue={"maxAge": "720h", "maxBytes": "64MiB"},
        )
        for name, server in servers.items()
    ]
    (directory / "exporters.yaml").write_text("".join(manifests))
    (directory / "relay.yaml").write_text(SETTINGS)
    return ["--config", str(directory / "relay.yaml")]


async def run_and_kill(
    directory: Path, servers: dict[str, OtlpServer], backups: int, seed: int
) -> list[Backup]:
    """Run a relay under load, back it up at random instants, kill it."""
    chance = random.Random(seed)
    arguments = configure(directory, servers)
    async with relay(directory, *arguments) as (process, url, admin):
        load = Load(url)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            await eventually(
                "queues are on disk and the journal was trimmed",
                lambda: _is_under_way(admin, directory / "data"),
                timeout_s=90,
            )
            for _ in range(backups):
                given = {name: set(taken(server)) for name, server in servers.items()}
                await asyncio.sleep(CHECKPOINT_S * chance.uniform(0.8, 1.2))
                acknowledged = load.acknowledged
                archive = await backup_process(directory / "data")
                load.backups.append(Backup(archive, acknowledged, given))
            load.stopped = True
        await _kill(process)
    return load.backups


async def _is_under_way(admin: str, data: Path) -> bool:
    stored = [
        sink["queue"]["storedBytes"]
        for exporter in (await get_json(f"{admin}/status"))["exporters"]
        for sink in exporter["sinks"]
        if exporter["name"].endswith("/behind")
    ]
    first = min(int(path.stem) for path in (data / "journal").glob("*.seg"))
    return all(stored) and first > 0


async def _kill(process: Process) -> None:
    await process.stop(signal.SIGKILL)


class Moody:
    """An endpoint that takes what it gets in one second of three."""

    def __call__(self, _: Received) -> Reply:
        return Reply(200 if time.monotonic() % 3 < 1 else 503)


@pytest.mark.slow
async def test_backups_under_load_have_everything_acknowledged_before(tmp_path: Path) -> None:
    async with OtlpServer() as good, OtlpServer() as behind:
        servers = {"good": good, "behind": behind}
        behind.answer = Moody()
        backups = await run_and_kill(tmp_path / "first", servers, 2, seed=1)
        behind.answer = lambda _: Reply()
        before = {name: set(taken(server)) for name, server in servers.items()}
        for number, backup in enumerate(backups):
            print(f"backup {number}:", end=" ")
            await check_restored(tmp_path / f"elsewhere-{number}", backup, servers, before)


async def check_restored(
    directory: Path,
    backup: Backup,
    servers: dict[str, OtlpServer],
    before: dict[str, set[float]],
) -> None:
    """Run a relay on the restored backup; ``before`` is what endpoints had when the first died."""
    arguments = configure(directory, servers)
    report = restore(io.BytesIO(backup.archive), directory / "data", moved=False)
    assert report.files > 3
    counts = {name: len(server.taken) for name, server in servers.items()}
    wanted = set(map(float, range(backup.acknowledged)))

    def again(name: str) -> set[float]:
        return set(taken(servers[name], counts[name]))

    async with relay(directory, *arguments) as (process, _, admin):
        for name in servers:
            await eventually(
                f"{name} has all of {len(wanted)}",
                lambda name=name: wanted <= before[name] | again(name),
                timeout_s=30,
            )
        await eventually("the queues are empty", lambda: _is_idle(admin), timeout_s=30)
        status = await get_json(f"{admin}/status")
        await process.stop()
    assert "ERROR" not in process.text(), process.text()
    # What was delivered before the last checkpoint does not come again.
    assert not again("good") & backup.given["good"]
    for exporter in status["exporters"]:
        for sink in exporter["sinks"]:
            assert sink["ledger"]["balanced"]
            assert not sink["ledger"]["dropped"], "nothing counts as damaged"
    repeated = {name: len(again(name) & before[name]) for name in servers}
    print(f"{len(backup.archive)} bytes, {len(wanted)} acknowledged, sent again {repeated}")


async def _is_idle(admin: str) -> bool:
    status = await get_json(f"{admin}/status")
    return all(
        sink["ledger"]["queued"] == 0
        for exporter in status["exporters"]
        for sink in exporter["sinks"]
    )


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["killed", "killed-tenants"])
async def test_backups_of_every_format_deliver_the_same(
    tmp_path: Path, form: str, name: str
) -> None:
    """The directories are those of ``test_old_directories``, by way of a backup."""
    stored = tmp_path / "stored"
    stored.mkdir()
    (stored / "story.json").write_bytes((ROOT / form / name / "story.json").read_bytes())
    back_up(ROOT / form / name / "data", tmp_path / "backup.tar", now=time.time())
    restore(tmp_path / "backup.tar", stored / "data", moved=False)
    (tmp_path / "run").mkdir()
    async with opened(stored, tmp_path / "run") as it:
        # The histogram of which a half was acknowledged is in test_old_directories.
        wanted: Counter[tuple] = Counter(
            {
                hashable(point): len(it.story["projects"])
                for point in it.story["acknowledged"]
                if point[0] != "latency"
            }
        )
        for endpoint in ("good", "behind"):
            await eventually(
                f"{endpoint} has everything",
                lambda endpoint=endpoint: (
                    not (wanted - (it.taken(endpoint) + it.taken_before(endpoint)))
                ),
                timeout_s=20,
            )
