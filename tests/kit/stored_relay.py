"""A relay with storage in this process, a sender of numbered samples, and images of a crash."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from relay.app import Relay
from relay.config.exporter.types import ExporterPath
from relay.config.settings.settings import (
    ListenAddress,
    Memory,
    Settings,
    Shutdown,
    Storage,
    TranslationSettings,
)
from relay.storage.log.filesystem import Disk
from tests.kit.exporter_yaml import Block, exporter_yaml
from tests.kit.ingest_server import eventually
from tests.kit.otlp.batches import request_of
from tests.kit.otlp.official import KINDS
from tests.kit.processes import get_json
from tests.kit.remote_write.raw import HEADERS, T0_MS, join, metadata, snappy, text_series

OTLP = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
AT_ONCE = TranslationSettings(first_sight_wait_s=0.0)
"""For tests of other things: no family waits at first sight."""


def manifest(
    name: str,
    url: str,
    *,
    query: str = "",
    timeout: str = "1ms",
    size: int = 500,
    backoff: str = "10ms",
    age: str = "24h",
    compression: str = "gzip",
    queue: Block | None = None,
) -> str:
    """An Exporter with one sink that sends at once."""
    return exporter_yaml(
        name,
        url,
        metrics=query,
        otlp_http={"timeout": "10s", "compression": compression},
        batch={"timeout": timeout, "maxSize": size},
        retry={"backoff": backoff},
        queue={"maxAge": age, **(queue or {})},
    )


def made(
    directory: Path,
    *manifests: str,
    data: Path | None = None,
    disk: Disk | None = None,
    stored: bool = True,
    memory_bytes_max: int = 1 << 30,
    clock: Callable[[], float] = time.time,
    translation: TranslationSettings = AT_ONCE,
    **storage: Any,
) -> Relay:
    """A relay with these exporters and with its data below ``directory`` (or in ``data``), where it
    is ``stored``; ``storage`` are more of its settings."""
    path = directory / "exporters.yaml"
    path.write_text("".join(manifests))
    return Relay(
        Settings(
            translation=translation,
            listen=ListenAddress("127.0.0.1", 0),
            admin_listen=ListenAddress("127.0.0.1", 0),
            exporters=(ExporterPath(path),),
            storage=Storage(data or directory / "data", **storage) if stored else None,
            memory=Memory(memory_bytes_max),
            shutdown=Shutdown(drain_timeout_s=0.2),
        ),
        disk=disk,
        clock=clock,
    )


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[Sender]:
    """The relay from start to stop, and a sender to it."""
    await relay.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Sender(relay, session)
    finally:
        await relay.stop()


async def checkpoint_saved(relay: Relay) -> None:
    """Wait until the checkpoint on disk says how things are now."""
    await eventually(lambda: relay._checkpointer.saved == relay._checkpointer.checkpoint())
    await eventually(lambda: not relay._storage.journal._saving)


def crash_image(data: Path, into: Path) -> Path:
    """A copy of a data directory as a killed process would leave it at this instant."""
    for _ in range(10):
        before = _files(data)
        # A draft that takes its file's place meanwhile makes a copy of no instant, or none.
        with contextlib.suppress(shutil.Error):
            shutil.copytree(data, into)
            if _files(data) == before:
                return into
        shutil.rmtree(into)
    raise AssertionError(f"{data} changed during each of ten copies")


def _files(data: Path) -> dict[Path, tuple[int, int, int]]:
    """Return what changes with every write to a file, of all files of a directory."""
    found = {}
    for path in data.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def body_of(values: range, *, name: str = "numbered", timestamp_ms: int = 0) -> bytes:
    """A snappy WriteRequest with a series for each number, whose sample has it as value and,
    from a fixed start on, as seconds."""
    return snappy(
        join(
            text_series(
                {"__name__": name, "n": str(value % 10)},
                (float(value), timestamp_ms or T0_MS + value * 1000),
            )
            for value in values
        )
    )


def metadata_body(family: str) -> bytes:
    """A snappy WriteRequest that says that a family is a counter, and nothing else."""
    return snappy(metadata(family, 1))


class Sender:
    """Sends numbered samples to a relay and asks it how it is."""

    def __init__(self, relay: Relay, session: aiohttp.ClientSession) -> None:
        self.relay = relay
        self._session = session
        self.following = 0
        """The number of the next sample or record."""

    async def send(self, count: int = 10, *, name: str = "numbered") -> int:
        """Send the next samples in one request; returns the status."""
        values = range(self.following, self.following + count)
        self.following += count
        return await self.post(body_of(values, name=name))

    async def send_records(self, signal: str, count: int = 10) -> int:
        """Send the next data points, log records or spans of OTLP; returns the status."""
        values = range(self.following, self.following + count)
        self.following += count
        body = request_of(KINDS[signal], map(float, values))
        return await self.post(gzip.compress(body), path=f"/v1/{signal}", headers=OTLP)

    async def post(
        self, body: bytes, *, path: str = "/api/v1/write", headers: Mapping[str, str] = HEADERS
    ) -> int:
        """Send a body; returns the status."""
        url = f"http://{self.relay.ingest_address}{path}"
        async with self._session.post(url, data=body, headers=headers) as response:
            await response.read()
            return response.status

    async def ready(self) -> list[str]:
        """What /readyz says is wrong."""
        async with self._session.get(f"http://{self.relay.admin_address}/readyz") as response:
            document = await response.json()
            assert (response.status == 200) == document["ready"]
            return list(document["reasons"])

    async def degraded(self) -> list[str]:
        """What /readyz says does not work as it should."""
        async with self._session.get(f"http://{self.relay.admin_address}/readyz") as response:
            return list((await response.json())["degraded"])

    async def status(self) -> dict[str, Any]:
        """The status document."""
        return await get_json(f"http://{self.relay.admin_address}/status")

    def ledger(self, exporter: str) -> dict[str, Any]:
        """The ledger of an exporter's one sink."""
        for each in self.relay.status()["exporters"]:  # type: ignore[attr-defined]
            if each["name"] == f"default/{exporter}":
                return dict(each["sinks"][0]["ledger"])
        raise AssertionError(exporter)
