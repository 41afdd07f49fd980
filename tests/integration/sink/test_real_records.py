"""Logs and traces between real Collectors, and into VictoriaLogs, over kill -9 of the relay."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import signal as signals
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.protobuf import json_format

from tests.kit.otlp.official import LOGS, TRACES, Kind, any_value, attribute
from tests.kit.processes import Process, eventually, free_port, relay
from tests.kit.sink.real_receivers import collector, victoria_logs

SENDER = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters:
  otlp_http:
    endpoint: "http://127.0.0.1:{to}"
    retry_on_failure: {{initial_interval: 100ms, max_interval: 500ms, max_elapsed_time: 120s}}
extensions: {{health_check: {{endpoint: "127.0.0.1:{health}"}}}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    logs: {{receivers: [otlp], exporters: [otlp_http]}}
    traces: {{receivers: [otlp], exporters: [otlp_http]}}
"""
RECEIVER = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{file: {{path: "{file}", flush_interval: 100ms}}}}
extensions: {{health_check: {{endpoint: "127.0.0.1:{health}"}}}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    logs: {{receivers: [otlp], exporters: [file]}}
    traces: {{receivers: [otlp], exporters: [file]}}
"""
EXPORTER = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: all}}
spec:
  sources:
    - {{name: logs, logs: {{selector: '{{service_name="wanted"}}'}}}}
    - {{name: traces, traces: {{selector: '{{service_name="wanted"}}'}}}}
  sinks:
    - name: collector
      otlp_http: {{endpoint: "http://127.0.0.1:{collector}"}}
      batch: {{timeout: 50ms}}
      retry: {{backoff: 100ms}}
    - name: victoria
      sources: [logs]
      otlp_http: {{endpoint: "{victoria}/insert/opentelemetry"}}
      batch: {{timeout: 50ms}}
      retry: {{backoff: 100ms}}
"""
pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

VALUES = ["text", 7, 2.5, True, b"bytes", ["a", 1], {"k": {"n": [None, "x"]}}]
REQUESTS, RECORDS = 40, 25


def request(kind: Kind, service: str, first: int) -> bytes:
    """Return a request of one service with records numbered from ``first`` on."""
    made = kind.request()
    resource = getattr(made, kind.resources).add(schema_url="https://example.com/r")
    resource.resource.attributes.append(attribute("service.name", service))
    scope = getattr(resource, kind.scopes).add()
    scope.scope.name = "scope"
    for number in range(first, first + RECORDS):
        own = [attribute("number", number), attribute("value", VALUES[number % len(VALUES)])]
        record = getattr(scope, kind.records).add(attributes=own)
        if kind is LOGS:
            record.time_unix_nano = record.observed_time_unix_nano = 1_700_000_000_000_000_000
            record.body.CopyFrom(any_value(f"line {number}"))
        else:
            record.trace_id, record.span_id = os.urandom(16), os.urandom(8)
            record.name = f"span {number}"
            record.status.SetInParent()  # the Collector writes one into every span
    return bytes(made.SerializeToString())


def received(file: Path, kind: Kind) -> Iterator[tuple[str, int, Any]]:
    """Yield service, number and record of everything that a Collector wrote to its file."""
    for line in file.read_bytes().splitlines(keepends=True) if file.exists() else ():
        if not line.endswith(b"\n"):  # it is being written
            return
        document = json.loads(line)
        if ("resourceLogs" in document) != (kind is LOGS):
            continue
        message = json_format.ParseDict(_with_base64_ids(document), kind.request())
        for resource in getattr(message, kind.resources):
            (service,) = (one.value.string_value for one in resource.resource.attributes)
            for scope in getattr(resource, kind.scopes):
                for record in getattr(scope, kind.records):
                    yield service, record.attributes[0].value.int_value, record


def _with_base64_ids(value: Any) -> Any:
    """Write hex ids in base64, as the library reads them."""
    if isinstance(value, list):
        return [_with_base64_ids(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(one)).decode()
        if key in ("traceId", "spanId", "parentSpanId")
        else _with_base64_ids(one)
        for key, one in value.items()
    }


async def send(port: int, wanted: dict[str, dict[int, Any]]) -> None:
    """Send all requests to a Collector; note the records that must arrive, by signal."""
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    async with aiohttp.ClientSession() as session:
        for number in range(REQUESTS):
            for name, kind in (("logs", LOGS), ("traces", TRACES)):
                for service in ("wanted", "other"):
                    body = request(kind, service, number * RECORDS)
                    url = f"http://127.0.0.1:{port}/v1/{name}"
                    data = gzip.compress(body)
                    async with session.post(url, data=data, headers=headers) as answer:
                        assert answer.status == 200, await answer.text()
                    if service == "wanted":
                        message = kind.request.FromString(body)
                        (resource,) = getattr(message, kind.resources)
                        (scope,) = getattr(resource, kind.scopes)
                        for record in getattr(scope, kind.records):
                            wanted[name][record.attributes[0].value.int_value] = record
            await asyncio.sleep(0.02)


async def count_of_victoria(url: str) -> Counter[str]:
    """Return how often VictoriaLogs has each line."""
    path, query = "/select/logsql/query", {"query": "*", "limit": "100000"}
    async with aiohttp.ClientSession() as session, session.post(url + path, data=query) as answer:
        assert answer.status == 200, await answer.text()
        lines = (await answer.text()).splitlines()
    return Counter(json.loads(line)["_msg"] for line in lines)


async def test_collectors_and_victoria_logs_get_all_over_kill_9(tmp_path: Path) -> None:
    file = tmp_path / "received.jsonl"
    port, data = free_port(), tmp_path / "data"
    wanted: dict[str, dict[int, Any]] = {"logs": {}, "traces": {}}
    async with (
        collector(tmp_path, "receiver", RECEIVER, file=file) as receiver,
        victoria_logs(tmp_path, "-retentionPeriod=100y") as victoria,
        collector(tmp_path, "sender", SENDER, to=port) as sender,
    ):
        path = tmp_path / "exporter.yaml"
        path.write_text(EXPORTER.format(collector=receiver, victoria=victoria))
        arguments = ("--exporters", str(path), "--data", str(data))

        async def crash(process: Process) -> None:
            process.send_signal(signals.SIGKILL)
            await process.wait()

        sending = asyncio.ensure_future(send(sender, wanted))
        for pause_s in (0.5, 0.4, 0.3):
            async with relay(tmp_path, *arguments, port=port) as (process, _, _):
                await asyncio.sleep(pause_s)
                await crash(process)
        async with relay(tmp_path, *arguments, port=port):
            await sending

            async def everything() -> bool:
                lines = await count_of_victoria(victoria)
                return len(lines) == REQUESTS * RECORDS and all(
                    len({number for _, number, _ in received(file, kind)}) == REQUESTS * RECORDS
                    for kind in (LOGS, TRACES)
                )

            await eventually("all has arrived", everything, timeout_s=60)
    for name, kind in (("logs", LOGS), ("traces", TRACES)):
        found = list(received(file, kind))
        assert {service for service, _, _ in found} == {"wanted"}
        for _, number, record in found:
            assert record == wanted[name][number]


async def test_a_record_that_the_collector_cannot_read_costs_no_other_one(tmp_path: Path) -> None:
    """It answers 400 to the whole request, the relay passed all of its records on as they came."""
    file, port = tmp_path / "received.jsonl", free_port()
    bad = 11
    async with collector(tmp_path, "receiver", RECEIVER, file=file) as receiver:
        path = tmp_path / "exporter.yaml"
        path.write_text(EXPORTER.format(collector=receiver, victoria="http://127.0.0.1:1"))
        async with (
            relay(tmp_path, "--exporters", str(path), port=port) as (_, _, admin),
            aiohttp.ClientSession() as session,
        ):
            for name, kind in (("logs", LOGS), ("traces", TRACES)):
                message = kind.request.FromString(request(kind, "wanted", 0))
                (resource,) = getattr(message, kind.resources)
                (scope,) = getattr(resource, kind.scopes)
                getattr(scope, kind.records)[bad].trace_id = b"short"
                url, data = f"http://127.0.0.1:{port}/v1/{name}", message.SerializeToString()
                headers = {"Content-Type": "application/x-protobuf"}
                async with session.post(url, data=data, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()

            async def all_others() -> bool:
                return all(
                    {number for _, number, _ in received(file, kind)} == {*range(RECORDS)} - {bad}
                    for kind in (LOGS, TRACES)
                )

            await eventually("the others have arrived", all_others, timeout_s=30)
            async with session.get(f"{admin}/metrics") as answer:
                text = await answer.text()
    lost = [line for line in text.splitlines() if 'reason="http_400"' in line]
    assert sorted(line.rpartition(" ")[2] for line in lost) == ["1", "1"], lost
