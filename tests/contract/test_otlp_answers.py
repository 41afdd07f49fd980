"""What senders of OTLP are told, in the request's own encoding, read by the official classes."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import zstandard
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from relay.codec.compression import OwnEncoding, compress
from relay.config.settings.settings import Ingest
from relay.pipeline.contract import IngestResult, Tenant
from relay.receiver.remote_write import JSON_AT_ONCE
from relay.runtime.errors import DecodeError, OverloadedError, TooLargeError
from tests.kit.ingest_server import NOW, Reply, Running, Taker, running
from tests.kit.otlp.batches import request_of
from tests.kit.otlp.official import KINDS, LOGS, METRICS, TRACES, Kind

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}
LOGS_BODY = request_of(LOGS, [1.0, 2.0])
SIGNALS = pytest.mark.parametrize("signal", ["logs", "metrics", "traces"])
RESPONSES = {
    "logs": ExportLogsServiceResponse,
    "metrics": ExportMetricsServiceResponse,
    "traces": ExportTraceServiceResponse,
}
REJECTED = {
    "logs": "rejected_log_records",
    "metrics": "rejected_data_points",
    "traces": "rejected_spans",
}


def _status_class() -> Any:
    """Return the class of google.rpc.Status, which is in a package of its own."""
    file = descriptor_pb2.FileDescriptorProto(
        name="status.proto", package="google.rpc", syntax="proto3"
    )
    message = file.message_type.add(name="Status")
    message.field.add(name="code", number=1, type=5, label=1)
    message.field.add(name="message", number=2, type=9, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("google.rpc.Status"))


Status = _status_class()


def read(reply: Reply, message: Any) -> Any:
    """Return a reply's body, by its content type."""
    if reply.headers["Content-Type"] == "application/json":
        return json_format.Parse(reply.body, message())
    assert reply.headers["Content-Type"] == "application/x-protobuf"
    return message.FromString(reply.body)


@pytest.fixture
async def served() -> AsyncIterator[Running]:
    async with running() as made:
        yield made


def body_of(kind: Kind, *, as_json: bool) -> bytes:
    body = request_of(kind, [1.0, 2.0])
    if not as_json:
        return body
    return json_format.MessageToJson(kind.request.FromString(body)).encode()


@SIGNALS
@pytest.mark.parametrize("headers", [PROTOBUF, JSON], ids=["protobuf", "json"])
async def test_success_is_an_empty_response(
    served: Running, signal: str, headers: dict[str, str]
) -> None:
    body = body_of(KINDS[signal], as_json=headers is JSON)
    reply = await served.send(body, path=f"/v1/{signal}", headers=headers)
    assert reply.status == 200
    assert not read(reply, RESPONSES[signal]).HasField("partial_success")
    (request,) = served.taker.calls
    assert request.protocol == f"otlp_{signal}"
    assert KINDS[signal].rows(request.body) == KINDS[signal].rows(
        request_of(KINDS[signal], [1.0, 2.0])
    )
    assert (request.tenant, request.received_at) == (None, NOW)


@SIGNALS
@pytest.mark.parametrize("headers", [PROTOBUF, JSON], ids=["protobuf", "json"])
async def test_partial_success_has_the_number_and_the_reason(
    signal: str, headers: dict[str, str]
) -> None:
    outcome = IngestResult(3, {"no_tenant": 2}, ("the resource names no project",))
    async with running(taker=Taker(outcome)) as served:
        body = body_of(KINDS[signal], as_json=headers is JSON)
        reply = await served.send(body, path=f"/v1/{signal}", headers=headers)
    assert reply.status == 200
    partial = read(reply, RESPONSES[signal]).partial_success
    assert getattr(partial, REJECTED[signal]) == 2
    assert "no_tenant: 2" in partial.error_message
    assert "the resource names no project" in partial.error_message


@pytest.mark.parametrize(
    ("outcome", "status", "code", "retry"),
    [
        (DecodeError("truncated varint", offset=7), 400, 3, None),
        (TooLargeError("over 500000 records"), 400, 3, None),
        (OverloadedError("full", retry_after_s=7), 503, 14, "7"),
        (ValueError("secret internals"), 503, 14, "1"),
    ],
)
@pytest.mark.parametrize("headers", [PROTOBUF, JSON], ids=["protobuf", "json"])
async def test_errors_are_a_status_in_the_requests_own_encoding(
    outcome: Exception,
    status: int,
    code: int,
    retry: str | None,
    headers: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(taker=Taker(outcome)) as served:
        body = body_of(LOGS, as_json=headers is JSON)
        reply = await served.send(body, path="/v1/logs", headers=headers)
    assert (reply.status, reply.headers.get("Retry-After")) == (status, retry)
    told = read(reply, Status)
    assert told.code == code
    assert "secret" not in told.message
    if isinstance(outcome, DecodeError):
        assert told.message == "truncated varint at byte 7"


@pytest.mark.parametrize(
    ("path", "headers", "method", "status", "code"),
    [
        ("/v1/logs", {"Content-Type": "text/plain"}, "POST", 415, 3),
        ("/v1/logs", {}, "POST", 415, 3),
        ("/v1/logs", {**PROTOBUF, "Content-Encoding": "snappy"}, "POST", 415, 3),
        ("/v1/logs", {**PROTOBUF, "Content-Encoding": "gzip, gzip"}, "POST", 415, 3),
        ("/v1/traces", PROTOBUF, "PUT", 405, 12),
        ("/v1/metrics", {**PROTOBUF, "Content-Encoding": "snappy"}, "POST", 415, 3),
        ("/insert/x/opentelemetry/v1/logs", PROTOBUF, "POST", 400, 3),
    ],
)
async def test_what_the_head_says_is_refused_before_the_body(
    served: Running, path: str, headers: dict[str, str], method: str, status: int, code: int
) -> None:
    reply = await served.send(LOGS_BODY, path=path, headers=headers, method=method)
    assert reply.status == status
    assert read(reply, Status).code == code
    assert not served.taker.calls


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(LOGS_BODY)),
        ("gzip", gzip.compress(LOGS_BODY[:9]) + gzip.compress(LOGS_BODY[9:])),
        ("zstd", zstandard.ZstdCompressor().compress(LOGS_BODY)),
        ("identity", LOGS_BODY),
        ("", LOGS_BODY),
    ],
)
async def test_every_encoding_is_taken_and_kept_as_it_came(
    served: Running, encoding: str, packed: bytes
) -> None:
    headers = PROTOBUF | ({"Content-Encoding": encoding} if encoding else {})
    reply = await served.send(packed, path="//v1/logs/", headers=headers)
    assert reply.status == 200
    (request,) = served.taker.calls
    assert request.body == LOGS_BODY
    assert request.raw == packed


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(LOGS_BODY)[:-4]),
        ("gzip", b""),
        ("gzip", LOGS_BODY),
        ("zstd", LOGS_BODY),
        ("zstd", zstandard.ZstdCompressor().compress(LOGS_BODY)[:-1]),
    ],
)
async def test_what_is_not_compressed_as_it_says_is_refused(
    served: Running, encoding: str, packed: bytes
) -> None:
    headers = {**PROTOBUF, "Content-Encoding": encoding}
    reply = await served.send(packed, path="/v1/logs", headers=headers)
    assert reply.status == 400
    assert read(reply, Status).code == 3
    assert not served.taker.calls


async def test_a_bomb_is_refused() -> None:
    async with running(Ingest(decoded_bytes_max=8 << 20)) as served:
        for size in (9 << 20, 5 << 20):
            packed = gzip.compress(bytes(size)) + gzip.compress(bytes(4 << 20))
            headers = {**PROTOBUF, "Content-Encoding": "gzip"}
            reply = await served.send(packed, path="/v1/logs", headers=headers)
            assert reply.status == 400
            assert "over the limit" in read(reply, Status).message


@SIGNALS
async def test_a_path_may_name_the_tenant(served: Running, signal: str) -> None:
    path = f"/insert/42:7/opentelemetry/v1/{signal}"
    assert (await served.send(b"", path=path, headers=PROTOBUF)).status == 200
    assert served.taker.calls[0].tenant == Tenant(42, 7)


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ("[]", "the JSON is no ExportLogsServiceRequest"),
        ("{", "the body is not JSON"),
        ("[" * 100_000, "the body is not JSON"),
        ('{"resourceLogs": 3}', "the JSON is no ExportLogsServiceRequest"),
        (
            json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": "xyz"}]}]}]}),
            "resourceLogs[0].scopeLogs[0].logRecords[0].traceId is not a text of hexadecimal",
        ),
    ],
)
async def test_faulty_json_is_told_where(served: Running, document: str, fault: str) -> None:
    reply = await served.send(document.encode(), path="/v1/logs", headers=JSON)
    assert reply.status == 400
    assert fault in read(reply, Status).message


async def test_json_has_hex_ids_texts_for_numbers_and_unknown_keys(served: Running) -> None:
    span = {
        "traceId": "5B8EFFF798038103D269B633813FC60C",
        "spanId": "EEE19B7EC3C1B174",
        "parentSpanId": "",
        "startTimeUnixNano": "1544712660000000000",
        "endTimeUnixNano": 1544712661000000000,
        "kind": 2,
        "later": {"a": 1},
        "links": [{"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"}],
        "attributes": [{"key": "n", "value": {"intValue": "9007199254740993"}}],
    }
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}], "more": []}
    reply = await served.send(json.dumps(document).encode(), path="/v1/traces", headers=JSON)
    assert reply.status == 200
    request = TRACES.request.FromString(served.taker.calls[0].body)
    (found,) = request.resource_spans[0].scope_spans[0].spans
    assert found.trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    assert found.links[0].span_id.hex() == found.span_id.hex() == "eee19b7ec3c1b174"
    assert found.parent_span_id == b""
    assert found.start_time_unix_nano == 1544712660000000000
    assert found.attributes[0].value.int_value == 9007199254740993
    assert found.kind == 2


async def test_json_is_converted_for_few_requests_at_once(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    active: list[int] = []
    most = 0

    def convert(body: bytes, signal: str) -> bytes:
        nonlocal most
        active.append(1)
        most = max(most, len(active))
        time.sleep(0.01)
        active.pop()
        return body

    monkeypatch.setattr("relay.codec.otlp.json_request.protobuf_of", convert)
    sending = [served.send(b"", path="/v1/logs", headers=JSON) for _ in range(6)]
    assert {reply.status for reply in await asyncio.gather(*sending)} == {200}
    assert most <= JSON_AT_ONCE


async def test_json_has_hex_ids_in_exemplars_of_every_kind(served: Running) -> None:
    exemplar = {"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "EEE19B7EC3C1B174"}
    metrics = [
        {"name": kind, kind: {"dataPoints": [{"exemplars": [exemplar]}]}}
        for kind in ("gauge", "sum", "histogram", "exponentialHistogram")
    ]
    document = {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}
    reply = await served.send(json.dumps(document).encode(), path="/v1/metrics", headers=JSON)
    assert reply.status == 200
    request = METRICS.request.FromString(served.taker.calls[0].body)
    for metric in request.resource_metrics[0].scope_metrics[0].metrics:
        (point,) = getattr(metric, metric.WhichOneof("data")).data_points
        (found,) = point.exemplars
        assert found.trace_id.hex() == "5b8efff798038103d269b633813fc60c"
        assert found.span_id.hex() == "eee19b7ec3c1b174"
    exemplar["spanId"] = "x"
    reply = await served.send(json.dumps(document).encode(), path="/v1/metrics", headers=JSON)
    fault = "resourceMetrics[0].scopeMetrics[0].metrics[0].gauge.dataPoints[0].exemplars[0].spanId"
    assert fault in read(reply, Status).message


async def test_json_is_compressed_in_the_thread_that_converts_it(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def noted(data: bytes, encoding: OwnEncoding) -> bytes:
        threads.append(threading.current_thread())
        return compress(data, encoding)

    monkeypatch.setattr("relay.receiver.remote_write.compress", noted)
    assert (await served.send(b"{}", path="/v1/logs", headers=JSON)).status == 200
    (thread,) = threads
    assert thread is not threading.current_thread()
