"""The official classes of each signal's requests, and plain attributes and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, ResourceMetrics, ScopeMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

Row = tuple[bytes, bytes, bytes]
"""A record with the heads of its resource and scope, each as the official class writes it."""


@dataclass(frozen=True)
class Kind:
    """The classes of one signal, and the names of their repeated fields."""

    request: Any
    resource: Any
    scope: Any
    record: Any
    resources: str
    scopes: str
    records: str

    def rows(self, body: bytes) -> list[Row]:
        """Return every record of a request, in order."""
        found = []
        for resource in getattr(self.request.FromString(body), self.resources):
            scopes = list(getattr(resource, self.scopes))
            resource.ClearField(self.scopes)
            head = resource.SerializeToString(deterministic=True)
            for scope in scopes:
                records = list(getattr(scope, self.records))
                scope.ClearField(self.records)
                scope_head = scope.SerializeToString(deterministic=True)
                found += [
                    (head, scope_head, record.SerializeToString(deterministic=True))
                    for record in records
                ]
        return found


LOGS = Kind(
    ExportLogsServiceRequest,
    ResourceLogs,
    ScopeLogs,
    LogRecord,
    "resource_logs",
    "scope_logs",
    "log_records",
)
TRACES = Kind(
    ExportTraceServiceRequest,
    ResourceSpans,
    ScopeSpans,
    Span,
    "resource_spans",
    "scope_spans",
    "spans",
)
METRICS = Kind(
    ExportMetricsServiceRequest,
    ResourceMetrics,
    ScopeMetrics,
    Metric,
    "resource_metrics",
    "scope_metrics",
    "metrics",
)
KINDS = {"logs": LOGS, "metrics": METRICS, "traces": TRACES}


def grouped(rows: list[Row]) -> list[Row]:
    """Return the rows as one request holds them: resources and scopes by first appearance."""
    resources: dict[bytes, dict[bytes, list[Row]]] = {}
    for row in rows:
        resources.setdefault(row[0], {}).setdefault(row[1], []).append(row)
    return [row for scopes in resources.values() for at in scopes.values() for row in at]


def attribute(key: str, value: Any) -> KeyValue:
    """Return an attribute of a text, a boolean, a number, bytes, a list or a mapping."""
    return KeyValue(key=key, value=any_value(value))


def any_value(value: Any) -> AnyValue:
    """Return a value of OTLP; None is one without a value."""
    made = AnyValue()
    if isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, str):
        made.string_value = value
    elif isinstance(value, int):
        made.int_value = value
    elif isinstance(value, float):
        made.double_value = value
    elif isinstance(value, bytes):
        made.bytes_value = value
    elif isinstance(value, list):
        made.array_value.values.extend(map(any_value, value))
        made.array_value.SetInParent()
    elif isinstance(value, dict):
        made.kvlist_value.values.extend(attribute(*pair) for pair in value.items())
        made.kvlist_value.SetInParent()
    return made
