"""What the newest vmagent writes to a receiver by itself and through the relay is the same.

The relay runs the objects that Datum's portal makes. It is stopped in order once and killed once
while the agent goes on; a target dies as well, so that there are stale markers.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import cramjam
import pytest

from bench import newest
from tests.kit.processes import Process, binary, eventually, free_port, get_json, relay, started
from tests.kit.remote_write import prompb
from tests.kit.remote_write.raw import STALE, bits_of, snappy
from tests.kit.sink import real_receivers

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest, pytest.mark.alone]

Samples = Mapping[tuple[tuple[str, str], ...], list[tuple[int, int]]]
"""By series: its samples as (time in ms, bits of the value), in order of time."""

NOT_EQUAL = 1
"""LabelMatcher.Type.NEQ of Prometheus' remote read."""
SAMPLES_MIN = 4_000

SETTINGS = """
storage: {path: data}
exporters: [{path: policy.yaml}]
"""

# The portal's wizard for Grafana Cloud, with another endpoint.
POLICY = """
apiVersion: v1
kind: Secret
metadata: {name: grafana-cloud}
type: kubernetes.io/basic-auth
stringData: {username: "1234567", password: not-a-real-token}
---
apiVersion: telemetry.miloapis.com/v1alpha1
kind: ExportPolicy
metadata: {name: grafana-cloud}
spec:
  sources:
    - name: all-metrics
      metrics:
        metricsql: "{}"
  sinks:
    - name: grafana-cloud
      sources: [all-metrics]
      target:
        prometheusRemoteWrite:
          endpoint: $endpoint
          authentication:
            basicAuth: {secretRef: {name: grafana-cloud}}
          batch: {maxSize: 100, timeout: 5s}
          retry: {maxAttempts: 3, backoffDuration: 5s}
"""

SCRAPES = """
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: vmagent
    static_configs: [{targets: ["127.0.0.1:$own"]}]
  - job_name: node
    static_configs: [{targets: ["127.0.0.1:$node"]}]
"""


@dataclass(frozen=True)
class Receiver:
    """A running receiver: where to write, and how to read everything that it has."""

    write_url: str
    read: Callable[[], Any]
    metadata_url: str


@asynccontextmanager
async def prometheus(directory: Path) -> AsyncIterator[Receiver]:
    """The newest Prometheus, which takes remote write."""
    async with real_receivers.prometheus(directory) as url:
        yield Receiver(f"{url}/api/v1/write", lambda: _remote_read(url), f"{url}/api/v1/metadata")


@asynccontextmanager
async def victoria_metrics(directory: Path) -> AsyncIterator[Receiver]:
    """The newest VictoriaMetrics, on a single node."""
    async with real_receivers.victoria_metrics(directory, "-loggerLevel=WARN") as url:
        yield Receiver(f"{url}/api/v1/write", lambda: _export(url), f"{url}/api/v1/metadata")


async def _remote_read(url: str) -> Samples:
    """Every sample of a Prometheus, stale markers included, by its remote read."""
    request = prompb.ReadRequest()
    query = request.queries.add(end_timestamp_ms=1 << 42)
    query.matchers.add(type=NOT_EQUAL, name="__name__", value="")
    body = snappy(request.SerializeToString())
    headers = {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Read-Version": "0.1.0",
    }
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(f"{url}/api/v1/read", data=body, headers=headers) as response,
    ):
        answer = await response.read()
        assert response.status == 200, answer
    found = prompb.RawReadResponse.FromString(bytes(cramjam.snappy.decompress_raw(answer)))
    (result,) = found.results
    return {
        tuple(sorted((label.name.decode(), label.value.decode()) for label in series.labels)): [
            (sample.timestamp, sample.value) for sample in series.samples
        ]
        for series in result.timeseries
    }


async def _export(url: str) -> Samples:
    """Every sample of a VictoriaMetrics. It tells stale markers as null, as it does any NaN."""
    async with aiohttp.ClientSession() as session:
        await session.get(f"{url}/internal/force_flush")
        address = f"{url}/api/v1/export"
        async with session.get(address, params={"match[]": '{__name__!=""}'}) as response:
            assert response.status == 200
            lines = (await response.text()).splitlines()
    found: dict[tuple[tuple[str, str], ...], list[tuple[int, int]]] = {}
    for line in lines:
        row = json.loads(line)
        values = [STALE if value is None else bits_of(float(value)) for value in row["values"]]
        samples = found.setdefault(tuple(sorted(row["metric"].items())), [])
        # A sample that was sent again is stored twice where the parts were not merged yet.
        samples += zip(row["timestamps"], values, strict=True)
    return {series: sorted(set(samples)) for series, samples in found.items()}


@pytest.mark.parametrize("receiver", [prometheus, victoria_metrics], ids=lambda one: one.__name__)
async def test_the_same_arrives_directly_and_through_the_relay(
    tmp_path: Path, receiver: Callable[[Path], Any]
) -> None:
    async with AsyncExitStack() as stack:
        direct: Receiver = await stack.enter_async_context(receiver(_made(tmp_path / "direct")))
        through: Receiver = await stack.enter_async_context(receiver(_made(tmp_path / "through")))
        (tmp_path / "policy.yaml").write_text(POLICY.replace("$endpoint", through.write_url))
        (tmp_path / "relay.yaml").write_text(SETTINGS)
        port = free_port()
        config = ("--config", str(tmp_path / "relay.yaml"))
        node, agent = await _senders(
            stack, tmp_path, direct.write_url, f"http://127.0.0.1:{port}/api/v1/write"
        )
        async with relay(tmp_path, *config, port=port) as (process, _, admin):
            await _received(admin, SAMPLES_MIN)
            assert await process.stop() == 0
        async with relay(tmp_path, *config, port=port) as (process, _, admin):
            await _received(admin, SAMPLES_MIN)
            await node.stop()  # stale markers
            await _received(admin, SAMPLES_MIN + 1_000)
            await process.stop(signal.SIGKILL)
        async with relay(tmp_path, *config, port=port) as (process, _, admin):
            await _received(admin, SAMPLES_MIN)
            await agent.stop(signal.SIGINT, timeout_s=60)
            await eventually("nothing is queued", lambda: _is_delivered(admin), timeout_s=60)
            ledger = (await get_json(f"{admin}/status"))["exporters"][0]["sinks"][0]["ledger"]
            assert ledger["balanced"]
            assert not ledger["dropped"]
        wanted, found = await direct.read(), await through.read()
        _check(wanted, found)
        assert await get_json(direct.metadata_url) == await get_json(through.metadata_url)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _check(wanted: Samples, found: Samples) -> None:
    assert sum(map(len, wanted.values())) > 2 * SAMPLES_MIN
    assert sum(samples[-1][1] == STALE for samples in wanted.values()) > 300
    assert found.keys() == wanted.keys()
    other = {series for series, samples in wanted.items() if found[series] != samples}
    assert not other, [(one, wanted[one], found[one]) for one in sorted(other)[:2]]


async def _senders(stack: AsyncExitStack, directory: Path, *urls: str) -> tuple[Process, Process]:
    """A node exporter, and a vmagent that scrapes it and writes to every URL."""
    own, node = free_port(), free_port()
    target = await stack.enter_async_context(
        started(
            [
                binary("prometheus-node-exporter", "prometheus-node-exporter"),
                f"--web.listen-address=127.0.0.1:{node}",
            ],
            log=directory / "node.log",
            ready_url=f"http://127.0.0.1:{node}/metrics",
        )
    )
    config = directory / "scrape.yaml"
    config.write_text(SCRAPES.replace("$own", str(own)).replace("$node", str(node)))
    agent = await stack.enter_async_context(
        started(
            [
                str(newest.binary("vmagent")),
                f"-httpListenAddr=127.0.0.1:{own}",
                f"-promscrape.config={config}",
                f"-remoteWrite.tmpDataPath={directory / 'queue'}",
                "-remoteWrite.flushInterval=200ms",
                # Prometheus takes the samples of a series in order only.
                "-remoteWrite.queues=1",
                *(f"-remoteWrite.url={url}" for url in urls),
            ],
            log=directory / "vmagent.log",
            ready_url=f"http://127.0.0.1:{own}/metrics",
        )
    )
    return target, agent


async def _received(admin: str, samples: int) -> None:
    async def enough() -> bool:
        status = await get_json(f"{admin}/status")
        return bool(status["ingest"]["receivedSamples"] >= samples)

    await eventually(f"{samples} samples were received", enough, timeout_s=40)


async def _is_delivered(admin: str) -> bool:
    await asyncio.sleep(0)
    (exporter,) = (await get_json(f"{admin}/status"))["exporters"]
    return not exporter["sinks"][0]["ledger"]["queued"]
