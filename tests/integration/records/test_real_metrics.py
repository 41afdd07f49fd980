"""OTLP metrics between real Collectors, and into Prometheus, over kill -9 of the relay.

Prometheus gets one service's metrics from the relay, by remote write, and the same of another one
directly, by its own receiver of OTLP: both must become the same series.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import signal as signals
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.protobuf import json_format

from tests.integration.sink.test_real_records import RECEIVER, SENDER
from tests.kit.otlp.metrics_requests import points_of, read, rows
from tests.kit.otlp.official import METRICS, attribute
from tests.kit.processes import Process, eventually, free_port, get_json, relay
from tests.kit.sink.real_receivers import collector, prometheus

EXPORTER = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: all}}
spec:
  sources:
    - {{name: wanted, metrics: {{metricsql: '{{"service.name"="relayed"}}'}}}}
  sinks:
    - name: collector
      otlp_http: {{endpoint: "http://127.0.0.1:{collector}"}}
      batch: {{timeout: 50ms}}
      retry: {{backoff: 100ms}}
    - name: prometheus
      prometheusRemoteWrite: {{endpoint: "{prometheus}/api/v1/write"}}
      batch: {{timeout: 50ms}}
      retry: {{backoff: 100ms}}
"""
REQUESTS = 25

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]


def with_metrics(config: str) -> str:
    """Return the configuration of a Collector with a pipeline of metrics besides."""
    line = next(one for one in config.splitlines() if "traces: " in one)
    return config + line.replace("traces:", "metrics:") + "\n"


def request(service: str, number: int, time_ns: int) -> bytes:
    """Return the metrics of a service, of every kind, after so many observations."""
    made = METRICS.request()
    resource = made.resource_metrics.add(schema_url="https://example.com/r")
    resource.resource.attributes.extend(
        [attribute("service.name", service), attribute("host.name", "h")]
    )
    scope = resource.scope_metrics.add()
    scope.scope.name = "scope"
    times = {"time_unix_nano": time_ns, "start_time_unix_nano": time_ns - (number + 1) * 10**9}
    own = {"attributes": [attribute("http.method", "GET"), attribute("n", 7)], **times}
    counter = scope.metrics.add(name="http.requests", unit="1").sum
    counter.aggregation_temporality, counter.is_monotonic = 2, True
    counter.data_points.add(as_int=number, **own)
    scope.metrics.add(name="mem.used", unit="By").gauge.data_points.add(as_double=number / 4, **own)
    scope.metrics.add(name="cpu.share", unit="1").gauge.data_points.add(as_double=0.5, **own)
    up_and_down = scope.metrics.add(name="in.flight", unit="{call}").sum
    up_and_down.aggregation_temporality = 2
    up_and_down.data_points.add(as_int=-number, **own)
    histogram = scope.metrics.add(name="http.duration", unit="s").histogram
    histogram.aggregation_temporality = 2
    histogram.data_points.add(
        count=3 * number,
        sum=1.5 * number,
        explicit_bounds=[0.1, 2.5],
        bucket_counts=[number, number, number],
        **own,
    )
    exponential = scope.metrics.add(name="rpc.size", unit="By").exponential_histogram
    exponential.aggregation_temporality = 2
    point = exponential.data_points.add(
        count=4 * number, sum=9.0, scale=2, zero_count=number, **own
    )
    point.negative.SetInParent()  # the Collector writes them into every point
    point.positive.offset = -3
    point.positive.bucket_counts.extend([number, 0, 0, 0, 2 * number])
    summary = scope.metrics.add(name="gc.pause", unit="ms").summary
    quantiles = summary.data_points.add(count=number, sum=2.0, **own).quantile_values
    quantiles.add(quantile=0.5, value=number)
    quantiles.add(quantile=0.99, value=2 * number)
    return bytes(made.SerializeToString())


async def post(url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=gzip.compress(body), headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()


def received(file: Path) -> Iterator[bytes]:
    """Yield every request that a Collector wrote to its file, as protobuf."""
    for line in file.read_bytes().splitlines(keepends=True) if file.exists() else ():
        if line.endswith(b"\n") and b"resourceMetrics" in line:
            message = json_format.ParseDict(json.loads(line), METRICS.request())
            yield bytes(message.SerializeToString())


async def series_of(store: str, job: str) -> dict[str, Any]:
    """Return the latest value of every series of a job, by its other labels."""
    url = f"{store}/api/v1/query?query=%7Bjob%3D%22{job}%22%7D"
    found = {}
    for one in (await get_json(url))["data"]["result"]:
        labels = {name: text for name, text in one["metric"].items() if name != "job"}
        key = json.dumps(labels, sort_keys=True)
        found[key] = one.get("histogram", one.get("value"))[1]
    return {key: value for key, value in found.items() if '"target_info"' not in key}


async def test_collectors_and_prometheus_get_all_over_kill_9(tmp_path: Path) -> None:
    file = tmp_path / "received.jsonl"
    port, data = free_port(), tmp_path / "data"
    bodies: list[bytes] = []
    async with (
        collector(tmp_path, "receiver", with_metrics(RECEIVER), file=file) as receiver,
        prometheus(tmp_path, "--web.enable-otlp-receiver") as store,
        collector(tmp_path, "sender", with_metrics(SENDER), to=port) as sender,
    ):
        path = tmp_path / "exporter.yaml"
        path.write_text(EXPORTER.format(collector=receiver, prometheus=store))
        arguments = ("--exporters", str(path), "--data", str(data))

        async def send() -> None:
            for number in range(1, REQUESTS + 1):
                time_ns = time.time_ns()
                body = request("relayed", number, time_ns)
                bodies.append(body)
                await post(f"http://127.0.0.1:{sender}/v1/metrics", body)
                await post(
                    f"http://127.0.0.1:{sender}/v1/metrics", request("other", number, time_ns)
                )
                await post(
                    f"{store}/api/v1/otlp/v1/metrics",
                    request("direct", number, time_ns),
                )
                await asyncio.sleep(0.05)

        async def crash(process: Process) -> None:
            process.send_signal(signals.SIGKILL)
            await process.wait()

        sending = asyncio.ensure_future(send())
        for pause_s in (0.6, 0.4):
            async with relay(tmp_path, *arguments, port=port) as (process, _, _):
                await asyncio.sleep(pause_s)
                await crash(process)
        async with relay(tmp_path, *arguments, port=port):
            await sending
            wanted = {row for body in bodies for row in rows(body)}

            async def everything() -> bool:
                got = {row for body in received(file) for row in rows(body)}
                return len(got) >= len(wanted) and await series_of(
                    store, "relayed"
                ) == await series_of(store, "direct")

            await eventually("all has arrived", everything, timeout_s=60)
    assert {row for body in received(file) for row in rows(body)} == wanted
    for body in received(file):
        for resource, *_ in points_of(read(body)):
            assert resource.resource.attributes[0].value.string_value == "relayed"
