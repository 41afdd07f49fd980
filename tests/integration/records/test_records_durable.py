"""Logs and traces that were acknowledged are delivered: beside each other, and after a crash."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import aiohttp
import pytest

from tests.kit.http.otlp_server import OtlpServer, Received, Reply, partial_success
from tests.kit.ingest_server import eventually
from tests.kit.otlp.batches import request_of
from tests.kit.otlp.official import LOGS, TRACES
from tests.kit.processes import get_json, get_metrics
from tests.kit.stored_relay import OTLP, Sender, crash_image, made, running

SIGNALS = ("logs", "traces")
EXPORTER = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: all}}
spec:
  sources:
    - {{name: metrics, metrics: {{metricsql: ""}}}}
    - {{name: logs, logs: {{{logs}}}}}
    - {{name: traces, traces: {{}}}}
  sinks:
    - name: sink
      otlp_http: {{endpoint: "{url}"}}
      batch: {{timeout: 1ms}}
      retry: {{backoff: 10ms}}
"""


POLICY = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: ExportPolicy
metadata: {{name: all}}
spec:
  sources:
    - name: everything
      metrics: {{metricsql: ""}}
      logs: {{categories: ["*"]}}
      traces: {{}}
  sinks:
    - name: sink
      sources: [everything]
      target:
        openTelemetry:
          http: {{endpoint: "{url}"}}
          batch: {{timeout: 1ms, maxSize: 10}}
"""


def exporter(url: str, logs: str = "") -> str:
    """An Exporter of all three signals to one sink."""
    return EXPORTER.format(url=url.removesuffix("/v1/metrics"), logs=logs)


def ledger_of(sender: Sender, output: str) -> dict[str, object]:
    """Return the ledger of an output of the exporter's sink."""
    reports = {one.sink: one for one in sender.relay._reconciler.reports()}
    report = reports[output]
    ledger = report.ledger
    assert report.matched == ledger.offered + report.open, report
    return {"matched": report.matched, "delivered": ledger.delivered, "queued": ledger.queued}


async def test_every_signal_goes_to_its_own_path(tmp_path: Path) -> None:
    async with OtlpServer() as server, running(made(tmp_path, exporter(server.url))) as sender:
        assert await sender.send(4) == 204
        assert await sender.send_records("logs", 3) == 200
        assert await sender.send_records("traces", 2) == 200
        await server.wait_until(lambda: {one.signal for one in server.taken} >= {*SIGNALS})
        await server.wait_until(lambda: len(server.values) == 4)
        assert server.numbers("logs") == [4.0, 5.0, 6.0]
        assert server.numbers("traces") == [7.0, 8.0]
        await eventually(lambda: ledger_of(sender, "sink/logs")["delivered"] == 3)
        assert ledger_of(sender, "sink/traces")["matched"] == 2


async def test_no_signal_waits_for_another(tmp_path: Path) -> None:
    def answer(received: Received) -> Reply:
        return Reply(503) if received.signal == "logs" else Reply()

    async with (
        OtlpServer(answer) as server,
        running(made(tmp_path, exporter(server.url))) as sender,
    ):
        assert await sender.send_records("logs") == 200
        assert await sender.send_records("traces") == 200
        await server.wait_until(lambda: len(server.numbers("traces")) == 10)
        assert server.numbers("logs") == []
        assert ledger_of(sender, "sink/logs")["queued"] == 10


async def test_what_a_crash_left_undelivered_is_delivered_in_order(tmp_path: Path) -> None:
    async with OtlpServer(lambda _: Reply(503)) as server:
        async with running(made(tmp_path, exporter(server.url))) as sender:
            for _ in range(5):
                for signal in SIGNALS:
                    assert await sender.send_records(signal) == 200
                assert await sender.send() == 204
            image = crash_image(tmp_path / "data", tmp_path / "image")
        server.answer = lambda _: Reply()
        server.taken.clear()
        again = made(tmp_path, exporter(server.url), data=image)
        async with running(again) as sender:
            await server.wait_until(lambda: len(server.values) >= 50, timeout_s=10)
            for at, signal in enumerate(SIGNALS):
                await server.wait_until(lambda s=signal: len(server.numbers(s)) >= 50)
                wanted = [float(30 * n + 10 * at + i) for n in range(5) for i in range(10)]
                assert server.numbers(signal) == wanted
                output = f"sink/{signal}"
                await eventually(lambda o=output: ledger_of(sender, o)["delivered"] == 50)
            assert await sender.send_records("logs") == 200
            await server.wait_until(lambda: len(server.numbers("logs")) == 60)


async def test_a_stopped_relay_keeps_what_it_could_not_send(tmp_path: Path) -> None:
    async with OtlpServer(lambda _: Reply(503)) as server:
        async with running(made(tmp_path, exporter(server.url))) as sender:
            assert await sender.send_records("traces", 7) == 200
        server.answer = lambda _: Reply()
        async with running(made(tmp_path, exporter(server.url))) as sender:
            await server.wait_until(lambda: len(server.numbers("traces")) == 7)
            assert sorted(server.numbers("traces")) == [float(n) for n in range(7)]


@pytest.mark.parametrize("signal", SIGNALS)
async def test_what_the_endpoint_rejects_is_counted(tmp_path: Path, signal: str) -> None:
    answer = partial_success(4, "too old")
    async with (
        OtlpServer(lambda _: answer) as server,
        running(made(tmp_path, exporter(server.url))) as sender,
    ):
        assert await sender.send_records(signal) == 200
        await eventually(lambda: ledger_of(sender, f"sink/{signal}")["delivered"] == 6)
        assert len(server.received) == 1, "never sent again"


async def test_too_large_a_request_is_halved(tmp_path: Path) -> None:
    def answer(received: Received) -> Reply:
        return Reply(413) if len(received.numbers()) > 3 else Reply()

    async with (
        OtlpServer(answer) as server,
        running(made(tmp_path, exporter(server.url))) as sender,
    ):
        assert await sender.send_records("logs", 20) == 200
        await server.wait_until(lambda: len(server.numbers("logs")) == 20)
        assert server.numbers("logs") == [float(n) for n in range(20)]


async def test_a_reload_adds_and_removes_signals(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        relay = made(tmp_path, exporter(server.url, "selector: '{service_name=\"other\"}'"))
        async with running(relay) as sender:
            assert await sender.send_records("logs", 5) == 200
            path = tmp_path / "exporters.yaml"
            path.write_text(exporter(server.url))
            await relay.reload()
            assert await sender.send_records("logs", 5) == 200
            await server.wait_until(lambda: len(server.numbers("logs")) == 5)
            assert server.numbers("logs") == [5.0, 6.0, 7.0, 8.0, 9.0]
            text = exporter(server.url)
            path.write_text("".join(one for one in text.splitlines(True) if "logs:" not in one))
            await relay.reload()
            assert await sender.send_records("logs", 5) == 200
            assert await sender.send_records("traces", 1) == 200
            await server.wait_until(lambda: len(server.numbers("traces")) == 1)
            assert len(server.numbers("logs")) == 5
            assert relay._signals.logs.statistics().unmatched == 10


async def test_a_request_that_cannot_be_decoded_costs_nobody_else_anything(
    tmp_path: Path,
) -> None:
    async with OtlpServer() as server, running(made(tmp_path, exporter(server.url))) as sender:
        damaged = gzip.compress(request_of(LOGS, [1.0]) + b"\x0a\xff")
        assert await sender.post(damaged, path="/v1/logs", headers=OTLP) == 400
        wrong = gzip.compress(request_of(TRACES, [1.0])[:-2])
        assert await sender.post(wrong, path="/v1/traces", headers=OTLP) == 400
        assert await sender.send_records("logs", 2) == 200
        await server.wait_until(lambda: len(server.numbers("logs")) == 2)
        assert server.numbers("logs") == [0.0, 1.0]


@pytest.mark.parametrize("has_metrics", [True, False])
async def test_a_sink_is_in_the_state_of_its_logs(tmp_path: Path, has_metrics: bool) -> None:
    text = exporter("http://127.0.0.1:1/v1/metrics")
    if not has_metrics:
        text = "".join(line for line in text.splitlines(True) if "metricsql" not in line)
    async with running(made(tmp_path, text)) as sender:
        assert await sender.send_records("logs", 3) == 200
        admin = f"http://{sender.relay.admin_address}"

        def logs_fail() -> bool:
            reports = {one.sink: one for one in sender.relay._reconciler.reports()}
            return reports["sink/logs"].worker.state == "failing"

        await eventually(logs_fail)
        status = await get_json(f"{admin}/status?state=failing")
        assert status["summary"]["sinks"] == {"healthy": 0, "behind": 0, "failing": 1, "paused": 0}
        (sink,) = status["exporters"][0]["sinks"]
        assert sink["endpoint"] == f"http://127.0.0.1:1/v1/{'metrics' if has_metrics else 'logs'}"
        told = "check the address http://127.0.0.1:1/v1/logs, and"
        await eventually(lambda: told in str(sender.relay.status()["exporters"]))
        healthy = await get_json(f"{admin}/status?state=healthy")
        assert bool(healthy["exporters"])  # traces


async def test_the_running_relay_explains_and_shows_records(tmp_path: Path) -> None:
    async with OtlpServer() as server, running(made(tmp_path, exporter(server.url))) as sender:
        assert await sender.send_records("logs", 3) == 200
        await server.wait_until(lambda: len(server.numbers("logs")) == 3)
        await eventually(lambda: ledger_of(sender, "sink/logs")["delivered"] == 3)
        status = await sender.status()
        assert status["ingest"]["records"]["logs"]["received"] == 3
        (own,) = status["exporters"]
        assert {one["name"]: one.get("matchedRecords") for one in own["sources"]} == {
            "metrics": None,
            "logs": 3,
            "traces": 0,
        }
        (sink,) = own["sinks"]
        assert sink["endpoint"] == server.url
        assert [one["signal"] for one in sink["signals"]] == ["logs", "traces"]
        assert sink["signals"][0]["ledger"]["delivered"] == 3
        assert sink["signals"][0]["ledger"]["balanced"]
        admin = f"http://{sender.relay.admin_address}"
        metrics = await get_metrics(f"{admin}/metrics")
        assert metrics['relay_received_records_total{signal="logs"}'] == 3
        labels = 'exporter="default/all",source="logs",signal="logs"'
        assert metrics[f"relay_matched_records_total{{{labels}}}"] == 3
        question = {"signal": "logs", "series": '{service.name="api"}'}
        lines = await get_text(f"{admin}/explain", question)
        assert "  logs: yes, all records to sink" in lines.splitlines()
        url = f"{admin}/preview?exporter=default/all"
        async with aiohttp.ClientSession() as session, session.post(url) as answer:
            events = [json.loads(line) for line in (await answer.text()).splitlines()]
        records = events[-1]["records"]
        assert [(one["name"], one["resources"], one["records"]) for one in records] == [
            ("logs", 1, 3),
            ("traces", 0, 0),
        ]
        assert "there is no 'x'" in await get_text(f"{admin}/explain", {"signal": "x"})


async def test_an_export_policy_exports_logs_and_traces(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        text = POLICY.format(url=server.url.removesuffix("/v1/metrics"))
        async with running(made(tmp_path, text)) as sender:
            assert await sender.send_records("logs", 3) == 200
            assert await sender.send_records("traces", 2) == 200
            await server.wait_until(lambda: len(server.numbers("traces")) == 2)
            await server.wait_until(lambda: len(server.numbers("logs")) == 3)


async def get_text(url: str, query: dict[str, str]) -> str:
    """Return the body of an answer, whatever its status."""
    async with aiohttp.ClientSession() as session, session.get(url, params=query) as answer:
        return await answer.text()
