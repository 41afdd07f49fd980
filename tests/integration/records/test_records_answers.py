"""Answers both ways: endpoints that refuse logs and traces for a while, and senders of too many."""

from __future__ import annotations

import gzip
import io
import time
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from relay.config.exporter.types import ExporterPath
from relay.config.settings.settings import ListenAddress, Memory, Settings, TenancySettings
from relay.sink.reporting.ledger import LedgerStatistics
from tests.kit.exporter_yaml import exporter_of
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.otlp.batches import request_of
from tests.kit.otlp.official import LOGS, attribute
from tests.kit.processes import eventually
from tests.kit.stored_relay import OTLP, Relay, Sender, made, running


def exporter(url: str, **sink: object) -> str:
    """An Exporter of logs and traces."""
    sources = [{"name": one, one: {}} for one in ("logs", "traces")]
    endpoint = {"endpoint": url.removesuffix("/v1/metrics")}
    own = {"name": "sink", "otlp_http": endpoint, "batch": {"timeout": "1ms"}, **sink}
    return exporter_of("all", sources, [own])


@pytest.mark.parametrize("signal", ["logs", "traces"])
@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_is_refused_for_a_while_is_sent_again(
    tmp_path: Path, signal: str, status: int
) -> None:
    refused_at: list[float] = []

    def answer(received: Received) -> Reply:
        if received.signal != signal or refused_at:
            return Reply()
        refused_at.append(time.monotonic())
        return Reply(status, headers={"Retry-After": "1"})

    async with (
        OtlpServer(answer) as server,
        running(made(tmp_path, exporter(server.url, retry={"backoff": "10ms"}))) as sender,
    ):
        assert await sender.send_records(signal, 3) == 200
        await server.wait_until(lambda: len(server.numbers(signal)) == 3)
        assert time.monotonic() - refused_at[0] >= 0.95, "Retry-After is waited for"
        assert server.numbers(signal) == [0.0, 1.0, 2.0]
        assert [one.signal for one in server.received] == [signal, signal]


async def test_a_signal_that_an_endpoint_does_not_take_is_rejected_alone(tmp_path: Path) -> None:
    def answer(received: Received) -> Reply:
        return Reply(404) if received.signal == "traces" else Reply()

    async with (
        OtlpServer(answer) as server,
        running(made(tmp_path, exporter(server.url))) as sender,
    ):
        assert await sender.send_records("traces", 3) == 200
        assert await sender.send_records("logs", 2) == 200
        await server.wait_until(lambda: len(server.numbers("logs")) == 2)
        ledgers: dict[str, LedgerStatistics] = {}

        def is_rejected() -> bool:
            ledgers.update((one.sink, one.ledger) for one in sender.relay._reconciler.reports())
            return bool(ledgers["sink/traces"].rejected)

        await eventually("it is counted", is_rejected, timeout_s=5)
        assert ledgers["sink/traces"].rejected == {"http_404": 3}
        assert ledgers["sink/logs"].rejected == {}


@pytest.mark.parametrize(
    ("signal", "made_of", "field"),
    [
        ("logs", ExportLogsServiceResponse, "rejected_log_records"),
        ("traces", ExportTraceServiceResponse, "rejected_spans"),
    ],
)
async def test_records_that_an_endpoint_rejects_are_counted(
    tmp_path: Path, signal: str, made_of: Any, field: str
) -> None:
    refusal = made_of()
    setattr(refusal.partial_success, field, 2)
    refusal.partial_success.error_message = "too old"
    body = refusal.SerializeToString()
    async with (
        OtlpServer(lambda _: Reply(200, body)) as server,
        running(made(tmp_path, exporter(server.url))) as sender,
    ):
        assert await sender.send_records(signal, 3) == 200
        await server.wait_until(lambda: len(server.received) == 1)
        name = f"sink/{signal}"

        def ledger() -> LedgerStatistics:
            return next(
                one for one in sender.relay._reconciler.reports() if one.sink == name
            ).ledger

        await eventually("it is counted", lambda: ledger().delivered == 1, timeout_s=5)
        assert ledger().rejected == {"partial_success": 2}
        assert len(server.received) == 1, "a partial success is not sent again"


async def test_a_record_that_is_too_large_is_given_up_alone(tmp_path: Path) -> None:
    def answer(received: Received) -> Reply:
        return Reply(413) if 1.0 in received.numbers() else Reply()

    async with (
        OtlpServer(answer) as server,
        running(made(tmp_path, exporter(server.url, batch={"timeout": "200ms"}))) as sender,
    ):
        request = LOGS.request.FromString(request_of(LOGS, [0.0, 1.0, 2.0]))
        large = request.resource_logs[0].scope_logs[0].log_records[1]
        large.attributes.append(attribute("pad", "x" * 200_000))
        await post(sender, gzip.compress(request.SerializeToString()))
        await server.wait_until(lambda: sorted(server.numbers("logs")) == [0.0, 2.0])
        reports = {one.sink: one for one in sender.relay._reconciler.reports()}
        assert reports["sink/logs"].ledger.rejected == {"too_large": 1}


async def delivering(sender: Sender) -> tuple[str, str]:
    """Return status and message of the exporter's condition."""
    (own,) = (await sender.status())["exporters"]
    (found,) = (one for one in own["conditions"] if one["type"] == "Delivering")
    return found["status"], found["message"]


async def is_delivering(sender: Sender, status: str) -> bool:
    """Return whether the condition has this status."""
    return (await delivering(sender))[0] == status


async def test_a_sink_without_metrics_is_judged_by_what_it_sends(tmp_path: Path) -> None:
    def answer(received: Received) -> Reply:
        return Reply(404) if received.signal == "traces" else Reply()

    async with (
        OtlpServer(answer) as server,
        running(made(tmp_path, exporter(server.url))) as sender,
    ):
        status, message = await delivering(sender)
        assert status == "Unknown"
        assert "nothing has matched yet" in message
        assert await sender.send_records("logs", 2) == 200
        await server.wait_until(lambda: len(server.numbers("logs")) == 2)
        await eventually("it delivers", partial(is_delivering, sender, "True"), timeout_s=5)
        assert await sender.send_records("traces", 1) == 200
        await eventually("it fails", partial(is_delivering, sender, "False"), timeout_s=5)
        assert "traces: " in (await delivering(sender))[1]


async def test_too_much_is_answered_503_with_retry_after(tmp_path: Path) -> None:
    async with OtlpServer(lambda _: Reply(503)) as server:
        text = exporter(server.url, queue={"maxBytes": "1GiB"})
        relay = made(tmp_path, text, stored=False, memory_bytes_max=1 << 20)
        async with running(relay) as sender:
            request = LOGS.request.FromString(request_of(LOGS, map(float, range(100))))
            for record in request.resource_logs[0].scope_logs[0].log_records:
                record.attributes.append(attribute("pad", "x" * 20_000))
            body = gzip.compress(request.SerializeToString())
            url = f"http://{relay.ingest_address}/v1/logs"
            async with sender._session.post(url, data=body, headers=OTLP) as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) >= 1
                assert answer.headers["Content-Type"] == "application/x-protobuf"
                assert b"too much data" in await answer.read()
            assert await sender.send_records("logs", 1) == 200


async def test_records_of_nobody_are_told_to_the_sender(tmp_path: Path) -> None:
    async with OtlpServer() as server:
        path = tmp_path / "e.yaml"
        path.write_text(exporter(server.url))
        relay = Relay(
            Settings(
                listen=ListenAddress("127.0.0.1", 0),
                admin_listen=ListenAddress("127.0.0.1", 0),
                exporters=(ExporterPath(path, "acme"),),
                tenancy=TenancySettings("tenant"),
                memory=Memory(1 << 30),
                allow_private_endpoints=True,
            )
        )
        async with running(relay) as sender:
            request = LOGS.request.FromString(request_of(LOGS, [1.0]))
            own = attribute("milo.project.id", "acme")
            request.resource_logs[0].resource.attributes.append(own)
            body = request.SerializeToString() + request_of(LOGS, [2.0, 3.0])
            answered = await post(sender, gzip.compress(body))
            assert answered.partial_success.rejected_log_records == 2
            assert "milo.project.id" in answered.partial_success.error_message
            await server.wait_until(lambda: server.numbers("logs") == [1.0])


async def post(sender: Sender, body: bytes) -> ExportLogsServiceResponse:
    """Send a request of logs; return the answer, which must be a success."""
    url = f"http://{sender.relay.ingest_address}/v1/logs"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=OTLP) as answer,
    ):
        assert answer.status == 200
        return ExportLogsServiceResponse.FromString(await answer.read())


@pytest.mark.parametrize("packed", [False, True])
async def test_a_large_json_body_is_to_be_protobuf(tmp_path: Path, packed: bool) -> None:
    body = b'{"resourceLogs": []' + b" " * (4 << 20) + b"}"
    headers = {"Content-Type": "application/json"}
    if packed:
        body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
    async with OtlpServer() as server, running(made(tmp_path, exporter(server.url))) as sender:
        url = f"http://{sender.relay.ingest_address}/v1/logs"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=io.BytesIO(body), headers=headers) as answer,
        ):
            text = (await answer.json())["message"]
    assert answer.status == 400
    assert text.endswith("send protobuf")
