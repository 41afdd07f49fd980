"""One bad endpoint hurts nobody else: a healthy sink beside three bad ones is as good as alone."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relay.app import Relay
from relay.config.exporter.types import ExporterPath
from relay.config.settings.settings import ListenAddress, Settings, Shutdown
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.hostile_server import Behaviour, HostileServer, never_answer
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.http.remote_write_server import RemoteWriteServer
from tests.kit.processes import eventually, free_port
from tests.kit.remote_write.write_client import WriteClient
from tests.kit.stored_relay import AT_ONCE

ROUNDS = 3
REQUESTS = 40
SERIES = 250
POINTS = REQUESTS * SERIES


@dataclass
class Run:
    """What a run showed: seconds from sending a request to its batch's delivery, and ledgers."""

    latencies_s: list[float] = field(default_factory=list)
    delivered: int = 0
    balanced: bool = False
    others: dict[str, dict] = field(default_factory=dict)


@asynccontextmanager
async def running_relay(
    directory: Path, endpoints: dict[str, tuple[str, str]], version: str
) -> AsyncIterator[Relay]:
    """A relay in this process with an exporter for each (endpoint, queue size)."""
    manifests = directory / f"exporters-{len(endpoints)}.yaml"
    manifests.write_text(
        "".join(
            exporter_yaml(
                name,
                endpoint,
                metrics="requests_total",
                version=version,
                otlp_http={"timeout": "300ms", **({} if version else {"compression": "none"})},
                batch={"timeout": "50ms", "maxSize": 500},
                retry={"backoff": "100ms"},
                queue={"maxBytes": queue},
            )
            for name, (endpoint, queue) in endpoints.items()
        )
    )
    relay = Relay(
        Settings(
            translation=AT_ONCE,
            listen=ListenAddress("127.0.0.1", 0),
            admin_listen=ListenAddress("127.0.0.1", 0),
            exporters=(ExporterPath(manifests),),
            shutdown=Shutdown(drain_timeout_s=0.2),
        )
    )
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


async def run_beside(
    directory: Path,
    endpoints: dict[str, tuple[str, str]],
    healthy: OtlpServer | RemoteWriteServer,
    version: str,
) -> Run:
    """Send the load; measure the healthy sink; check every ledger."""
    result = Run()
    if isinstance(healthy, RemoteWriteServer):
        healthy.storage.series.clear()  # each run sends the same, and it refuses what is old
    start = len(healthy.values)
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(running_relay(directory, endpoints, version))
        address = relay.ingest_address
        url = f"http://{address.host}:{address.port}/api/v1/write"
        client = await stack.enter_async_context(WriteClient(url))
        for number in range(1, REQUESTS + 1):
            sent_at = time.perf_counter()
            assert await client.send(series=SERIES) == 204
            if number % 2 == 0:  # two requests make one full batch
                wanted = start + number * SERIES
                await healthy.wait_until(lambda wanted=wanted: len(healthy.values) >= wanted)
                result.latencies_s.append(time.perf_counter() - sent_at)
        await eventually(
            "the healthy sink has counted everything",
            lambda: _sink(relay, "healthy")["ledger"]["queued"] == 0,
            timeout_s=5,
        )
        for name in endpoints:
            if name != "healthy":
                await eventually(
                    f"{name} has been tried",
                    lambda name=name: _sink(relay, name)["requests"] != {},
                    timeout_s=5,
                )
        status = {
            exporter["name"].removeprefix("default/"): exporter["sinks"][0]
            for exporter in relay.status()["exporters"]
        }
        result.delivered = status["healthy"]["ledger"]["delivered"]
        result.balanced = all(sink["ledger"]["balanced"] for sink in status.values())
        result.others = {name: sink for name, sink in status.items() if name != "healthy"}
    for report in relay.facts().sinks:
        assert report.balanced, report
        assert report.ledger.queued == 0
    return result


def _sink(relay: Relay, name: str) -> dict:
    for exporter in relay.status()["exporters"]:
        if exporter["name"] == f"default/{name}":
            return exporter["sinks"][0]
    raise AssertionError(name)


async def answer_each(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str
) -> None:
    """Read each request of a connection whole, at hardly any cost, and answer it with ``head``."""
    while True:
        request = await reader.readuntil(b"\r\n\r\n")
        size = int(re.search(rb"(?i)content-length: *(\d+)", request)[1])
        await reader.readexactly(size)
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()


def answering(head: str) -> Behaviour:
    """A behaviour that answers everything alike."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await answer_each(reader, writer, head)

    return behave


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("version", ["", "1.0", "2.0"], ids=lambda one: one or "otlp")
async def test_a_healthy_sink_beside_three_bad_ones(tmp_path: Path, version: str) -> None:
    roomy = "64MiB"
    good_answer = "204 No Content\r\nX-Prometheus-Remote-Write-Samples-Written: 1000000"
    async with (
        RemoteWriteServer() if version else OtlpServer() as healthy,
        HostileServer(answering(good_answer if version else "200 OK")) as good,
        HostileServer(answering("503 Service Unavailable\r\nRetry-After: 1")) as overloaded,
        HostileServer(never_answer) as silent,
    ):
        mine = (healthy.origin, roomy)
        neighbours = {
            "alone": {},
            # Four sinks are four times the work: what bad ones cost is told beside good ones.
            "good": dict.fromkeys(("second", "third", "fourth"), (good.url, roomy)),
            "bad": {
                "overloaded": (overloaded.url, roomy),
                "silent": (silent.url, roomy),
                # A queue that must overflow: losses are its own, and on record.
                "refusing": (f"http://127.0.0.1:{_closed_port()}", "64KiB"),
            },
        }
        latencies: dict[str, list[float]] = {kind: [] for kind in neighbours}
        for _ in range(ROUNDS):
            # In turn, because the machine's speed drifts.
            for kind, others in neighbours.items():
                result = await run_beside(tmp_path, {"healthy": mine, **others}, healthy, version)
                latencies[kind].append(statistics.median(result.latencies_s))
                assert result.delivered == POINTS
                assert result.balanced
                if kind == "bad":
                    _check_bad(result)
    best = {kind: min(medians) for kind, medians in latencies.items()}
    print("median delivery, ms:", {kind: round(best[kind] * 1e3, 1) for kind in best})
    # One time-out of a bad endpoint alone would be 300 ms, one backoff 100 ms.
    assert best["bad"] < best["good"] + 0.025
    assert best["bad"] < best["alone"] + 0.050


def _check_bad(result: Run) -> None:
    """Nothing was delivered, nothing was lost unrecorded, and the queues did what they must."""
    for name, sink in result.others.items():
        assert sink["ledger"]["delivered"] == 0, name
        assert sink["ledger"]["matched"] == POINTS, name
        assert sink["lastError"], name
    assert result.others["overloaded"]["ledger"]["queued"] == POINTS
    assert result.others["silent"]["ledger"]["queued"] == POINTS
    assert result.others["refusing"]["ledger"]["dropped"]["queue_full"] > 0


def _closed_port() -> int:
    port = free_port()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)), "somebody took the port"
    return port
