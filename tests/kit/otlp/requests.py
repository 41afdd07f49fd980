"""Requests of logs and traces, drawn by hypothesis and read back by the official classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
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


_names = st.sampled_from(["service.name", "service_name", "milo.project.id", "a", "", "k8s.pod"])
_texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["svc-1", "svc-2"])
values = st.recursive(
    st.none()
    | _texts
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)
attributes = st.dictionaries(_names | _texts, values, max_size=4)
unknown = st.sampled_from(
    [b"", b"\xf8\x3f\x07", b"\xfa\x3f\x03abc", b"\xfd\x3f1234", b"\x90\x3f\x01"]
)
"""Encoded fields that no message of OTLP has."""


def with_fields(message: Any, fields: bytes) -> Any:
    """Return a message with these encoded fields behind its own."""
    return type(message).FromString(message.SerializeToString() + fields)


@st.composite
def log_records(draw: st.DrawFn) -> LogRecord:
    """Any log record."""
    record = LogRecord(
        time_unix_nano=draw(st.integers(0, (1 << 64) - 1)),
        severity_number=draw(st.sampled_from([0, 1, 9, 13, 17, 24])),
        body=any_value(draw(values)),
        attributes=[attribute(*pair) for pair in draw(attributes).items()],
        trace_id=draw(st.sampled_from([b"", bytes(16)])),
    )
    return with_fields(record, draw(unknown))


@st.composite
def spans(draw: st.DrawFn) -> Span:
    """Any span."""
    span = Span(
        trace_id=draw(st.binary(min_size=16, max_size=16) | st.binary(max_size=3)),
        name=draw(_texts),
        attributes=[attribute(*pair) for pair in draw(attributes).items()],
    )
    return with_fields(span, draw(unknown))


@st.composite
def requests(draw: st.DrawFn, kind: Kind) -> bytes:
    """Any request of a signal, with unknown fields, empty resources and empty scopes."""
    record = log_records() if kind is LOGS else spans()
    request = kind.request()
    for _ in range(draw(st.integers(0, 3))):
        resource = kind.resource(schema_url=draw(_texts))
        if draw(st.booleans()):
            resource.resource.attributes.extend(
                attribute(*pair) for pair in draw(attributes).items()
            )
        for _ in range(draw(st.integers(0, 2))):
            scope = kind.scope(schema_url=draw(_texts))
            if draw(st.booleans()):
                scope.scope.name = draw(_texts)
            getattr(scope, kind.records).extend(draw(st.lists(record, max_size=4)))
            getattr(resource, kind.scopes).append(with_fields(scope, draw(unknown)))
        getattr(request, kind.resources).append(with_fields(resource, draw(unknown)))
    return bytes(with_fields(request, draw(unknown)).SerializeToString())


Requests = Callable[[Kind], st.SearchStrategy[bytes]]
