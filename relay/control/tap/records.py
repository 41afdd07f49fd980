"""Read some log records or spans of an encoded batch, for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.codec.otlp.any_value import value_text
from relay.control.tap.tapped_point import TappedPoint

TEXT_CHARS_MAX: Final = 500
"""Longest text of a body or an attribute that is shown."""


def read_logs(body: bytes) -> Iterator[TappedPoint]:
    """Yield log records: the body is the name, the severity the value."""
    for of_resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        resource = _texts(of_resource.resource.attributes)
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                yield TappedPoint(
                    _short(value_text(record.body)),
                    "log record",
                    _texts(record.attributes),
                    resource,
                    record.severity_text or str(int(record.severity_number)),
                    (record.time_unix_nano or record.observed_time_unix_nano) / 1e9,
                )


def read_spans(body: bytes) -> Iterator[TappedPoint]:
    """Yield spans: the value is the duration and the trace id."""
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _texts(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                duration_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
                yield TappedPoint(
                    _short(span.name),
                    "span",
                    _texts(span.attributes),
                    resource,
                    f"{duration_ms:g} ms, trace {span.trace_id.hex()}",
                    span.start_time_unix_nano / 1e9,
                )


def _texts(attributes: Iterable[Any]) -> dict[str, str]:
    return {one.key: _short(value_text(one.value)) for one in attributes}


def _short(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"
