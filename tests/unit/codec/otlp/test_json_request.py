"""JSON requests of OTLP that senders get wrong, or that are made to be dear."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.codec.otlp.json_request import PATHS, VALUES_MAX, protobuf_of
from relay.codec.signal_names import SignalName
from relay.runtime.errors import DecodeError, TooLargeError

TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"


def logs(*records: Any) -> bytes:
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()


def test_ids_are_hexadecimal_under_the_names_of_fields_too() -> None:
    link = {"trace_id": TRACE, "span_id": SPAN}
    span = {"trace_id": TRACE, "span_id": SPAN, "parent_span_id": SPAN, "links": [link]}
    document = {"resource_spans": [{"scope_spans": [{"spans": [span]}]}]}
    body = protobuf_of(json.dumps(document).encode(), "traces")
    (of_resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    (found,) = of_resource.scope_spans[0].spans
    assert (found.trace_id.hex(), found.span_id.hex()) == (TRACE, SPAN)
    assert (found.parent_span_id.hex(), found.links[0].trace_id.hex()) == (SPAN, TRACE)


def test_ids_of_exemplars_likewise() -> None:
    point = {"exemplars": [{"trace_id": TRACE}]}
    metric = {"exponential_histogram": {"data_points": [point]}}
    document = {"resourceMetrics": [{"scope_metrics": [{"metrics": [metric]}]}]}
    body = protobuf_of(json.dumps(document).encode(), "metrics")
    (of_resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    found = of_resource.scope_metrics[0].metrics[0].exponential_histogram.data_points[0]
    assert found.exemplars[0].trace_id.hex() == TRACE


@pytest.mark.parametrize(
    ("signal", "record", "fault"),
    [
        ("logs", {"traceId": "abcd"}, r"logRecords\[0\].traceId has 4 digits and not 32"),
        ("logs", {"spanId": TRACE}, r"logRecords\[0\].spanId has 32 digits and not 16"),
        ("traces", {"parent_span_id": "ab"}, r"parent_span_id has 2 digits and not 16"),
        ("traces", {"links": [{"traceId": SPAN}]}, r"links\[0\].traceId has 16 digits"),
        (
            "metrics",
            {"sum": {"dataPoints": [{"exemplars": [{"spanId": "ab"}]}]}},
            r"exemplars\[0\].spanId has 2 digits",
        ),
    ],
)
def test_ids_of_another_length_are_a_fault(signal: SignalName, record: Any, fault: str) -> None:
    """A receiver would refuse all of the batch that such a record is in."""
    first, second, third = PATHS[signal]
    body = json.dumps({first: [{second: [{third: [record]}]}]}).encode()
    with pytest.raises(DecodeError, match=fault):
        protobuf_of(body, signal)


def test_empty_ids_are_none() -> None:
    body = protobuf_of(logs({"traceId": "", "spanId": None}), "logs")
    (found,) = ExportLogsServiceRequest.FromString(body).resource_logs[0].scope_logs[0].log_records
    assert (found.trace_id, found.span_id) == (b"", b"")


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (
            {"timeUnixNano": "-1"},
            "resourceLogs.scopeLogs.logRecords.timeUnixNano: it is out of range",
        ),
        ({"body": {"intValue": ""}}, "logRecords.body.intValue: it is no whole number"),
        (None, "resourceLogs.scopeLogs.logRecords: null is not allowed"),
    ],
)
def test_a_fault_is_told_with_the_path_to_its_field(record: Any, fault: str) -> None:
    with pytest.raises(DecodeError, match=fault):
        protobuf_of(logs(record), "logs")


def test_a_number_that_no_float_has_is_a_fault() -> None:
    with pytest.raises(DecodeError, match="a value is out of range"):
        protobuf_of(logs({"body": {"doubleValue": 10**400}}), "logs")


@pytest.mark.parametrize("value", [{}, []])
def test_too_many_objects_and_lists_are_refused(value: Any) -> None:
    body = logs().replace(b"[]", b"[], " + b'"x": ' + json.dumps([value] * VALUES_MAX).encode())
    with pytest.raises(TooLargeError, match="over 250000 objects and lists"):
        protobuf_of(body, "logs")


def test_braces_in_texts_are_no_objects() -> None:
    text = "{" * (VALUES_MAX + 1)
    body = protobuf_of(logs({"body": {"stringValue": text}}), "logs")
    (of_resource,) = ExportLogsServiceRequest.FromString(body).resource_logs
    assert of_resource.scope_logs[0].log_records[0].body.string_value == text


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({"timeUnixNano": "secret"}, "timeUnixNano: it is no whole number"),
        ({"timeUnixNano": "secret word"}, "timeUnixNano: it is no whole number"),
        ({"timeUnixNano": 123456.5}, "timeUnixNano: it is no whole number"),
        ({"timeUnixNano": "123456.5"}, "timeUnixNano: it is no whole number"),
        ({"timeUnixNano": -123456}, "timeUnixNano: it is out of range"),
        ({"timeUnixNano": "123456" * 9}, "timeUnixNano: it is out of range"),
        ({"body": {"intValue": "secret"}}, "body.intValue: it is no whole number"),
        ({"body": {"doubleValue": "secret"}}, "body.doubleValue: it is no number"),
        ({"body": {"boolValue": "secret"}}, "body.boolValue: it is neither true nor false"),
        ({"body": {"stringValue": 123456}}, "body.stringValue: it is no text"),
        ({"attributes": "secret"}, "attributes: it is no list"),
    ],
)
def test_a_value_that_does_not_fit_is_named_and_not_quoted(
    record: dict[str, Any], fault: str
) -> None:
    with pytest.raises(DecodeError) as raised:
        protobuf_of(logs(record), "logs")
    told = str(raised.value)
    assert told.endswith(fault)
    assert "resourceLogs" in told
    assert "secret" not in told
    assert "123456" not in told
