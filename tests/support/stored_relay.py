"""A relay with storage in this process, a sender of numbered samples, and images of a crash."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import cramjam

from relay.app import Relay
from relay.config.exporter.types import ExporterPath
from relay.config.settings.settings import Address, Memory, Settings, Shutdown, Storage, Translation
from relay.storage.log.filesystem import Disk
from tests.support import prompb
from tests.support.processes import get_json

AT_ONCE = Translation(first_sight_wait_s=0.0)
"""For tests of other things: no family waits at first sight."""

MANIFEST = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata:
  name: {name}
spec:
  sources:
    - name: all
      metrics:
        metricsql: '{query}'
  sinks:
    - name: endpoint
      otlp_http:
        endpoint: "{endpoint}"
        timeout: 1s
      batch:
        timeout: {timeout}
        maxSize: {size}
      retry:
        backoff: {backoff}
      queue:
        maxAge: {age}
---
"""


def manifest(
    name: str,
    url: str,
    *,
    query: str = "",
    timeout: str = "1ms",
    size: int = 500,
    backoff: str = "10ms",
    age: str = "24h",
) -> str:
    """An Exporter with one sink that sends at once."""
    return MANIFEST.format(
        name=name,
        endpoint=url.removesuffix("/v1/metrics"),
        query=query,
        timeout=timeout,
        size=size,
        backoff=backoff,
        age=age,
    )


def made(
    directory: Path,
    *manifests: str,
    data: Path | None = None,
    disk: Disk | None = None,
    memory_bytes_max: int = 1 << 30,
    clock: Callable[[], float] = time.time,
    **storage: Any,
) -> Relay:
    """A relay with these exporters and with its data below ``directory`` (or in ``data``)."""
    path = directory / "exporters.yaml"
    path.write_text("".join(manifests))
    return Relay(
        Settings(
            translation=AT_ONCE,
            listen=Address("127.0.0.1", 0),
            admin_listen=Address("127.0.0.1", 0),
            exporters=(ExporterPath(path),),
            storage=Storage(data or directory / "data", **storage),
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


def crash_image(data: Path, into: Path) -> Path:
    """A copy of a data directory as a killed process would leave it at this instant."""
    shutil.copytree(data, into)
    return into


def body_of(values: range, *, name: str = "numbered", timestamp_ms: int = 0) -> bytes:
    """A snappy WriteRequest with a series for each number, whose sample has it as value and,
    from a fixed start on, as seconds."""
    message: Any = prompb.WriteRequest()
    for value in values:
        entry = message.timeseries.add()
        entry.labels.add(name="__name__", value=name)
        entry.labels.add(name="n", value=str(value % 10))
        at = timestamp_ms or 1_700_000_000_000 + value * 1000
        entry.samples.add(value=float(value), timestamp=at)
    return bytes(cramjam.snappy.compress_raw(message.SerializeToString()))


def metadata_body(family: str) -> bytes:
    """A snappy WriteRequest that says that a family is a counter, and nothing else."""
    message: Any = prompb.WriteRequest()
    entry = message.metadata.add()
    entry.metric_family_name = family
    entry.type = 1
    return bytes(cramjam.snappy.compress_raw(message.SerializeToString()))


class Sender:
    """Sends numbered samples to a relay and asks it how it is."""

    def __init__(self, relay: Relay, session: aiohttp.ClientSession) -> None:
        self.relay = relay
        self._session = session
        self._next = 0

    async def send(self, count: int = 10, *, name: str = "numbered") -> int:
        """Send the next samples in one request; returns the status."""
        values = range(self._next, self._next + count)
        self._next += count
        return await self.post(body_of(values, name=name))

    async def post(self, body: bytes) -> int:
        """Send a body; returns the status."""
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
        url = f"http://{self.relay.ingest_address}/api/v1/write"
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
