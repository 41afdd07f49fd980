"""Encode the synthetic log record or span of a sink test."""

from __future__ import annotations

import secrets
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.config.exporter.types import OtlpHttp, Sink
from relay.sink.kinds import encoders_for
from relay.sink.queue.payload import EncodedRequest

NAME: Final = "telemetry_relay_sink_test"
"""Body of the log record, name of the span, and scope of both."""
_INFO: Final = 9
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
_DURATION_NS: Final = 1_000_000


def record_request(exporter: str, sink: Sink, now: float) -> EncodedRequest:
    """Return the request with one record for an output; ``now``: wall clock, s."""
    endpoint = sink.endpoint
    assert isinstance(endpoint, OtlpHttp)
    time_ns = int(now * 1e9)
    message = _logs(time_ns) if endpoint.signal == "logs" else _traces(time_ns)
    resource, scope, record = message[1:]
    _add(resource.resource, "service.name", "telemetry-relay")
    scope.scope.name = NAME
    _add(record, "exporter", exporter)
    _add(record, "sink", sink.name)
    body = message[0].SerializeToString()
    encoder = encoders_for(endpoint).new
    return EncodedRequest(
        body=encoder.compress(body, endpoint.compression),
        encoding=endpoint.compression,
        points=1,
        encoded_bytes=len(body),
        position=0,
        shard=0,
        created_at=now,
        kind=encoder.kind,
    )


def _logs(time_ns: int) -> tuple[Any, Any, Any, Any]:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    scope = resource.scope_logs.add()
    record = scope.log_records.add(
        time_unix_nano=time_ns,
        observed_time_unix_nano=time_ns,
        severity_number=_INFO,
        severity_text="INFO",
    )
    record.body.string_value = NAME
    return request, resource, scope, record


def _traces(time_ns: int) -> tuple[Any, Any, Any, Any]:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    scope = resource.scope_spans.add()
    span = scope.spans.add(
        trace_id=secrets.token_bytes(_TRACE_ID_BYTES),
        span_id=secrets.token_bytes(_SPAN_ID_BYTES),
        name=NAME,
        start_time_unix_nano=time_ns - _DURATION_NS,
        end_time_unix_nano=time_ns,
    )
    return request, resource, scope, span


def _add(holder: Any, name: str, text: str) -> None:
    holder.attributes.add(key=name).value.string_value = text
