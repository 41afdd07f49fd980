"""Read some log records or spans of an encoded batch, for people. Pure.

Records leave unread, so a part of one may be no UTF-8, or no protobuf: what can be read is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError as ProtobufDecodeError
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relay.codec.otlp.any_value import AttributeTexts, resource_attributes, text_of, texts_of
from relay.codec.otlp.envelope import Envelope, scan
from relay.codec.otlp.record_fields import attributes_of, field_of, message_of
from relay.control.tap.tapped_point import TappedPoint
from relay.pipeline.records.selecting import LOG_RECORD, SPAN, RecordFields
from relay.runtime.errors import DecodeError
from relay.runtime.excerpt import clipped

TEXT_CHARS_MAX: Final = 500
"""Longest text of a body or an attribute that is shown."""

UNREADABLE: Final = "cannot be read"
"""Value of a record of which only a part can be read."""

_SPAN_NAME: Final = 5


def read_logs(body: bytes) -> Iterator[TappedPoint]:
    """Yield log records: the body is the name, the severity the value."""
    for envelope, number, resource in _records(body):
        record = _message(LogRecord, envelope, number)
        value, time_s = UNREADABLE, 0.0
        if record is not None:
            value = record.severity_text or str(int(record.severity_number))
            time_s = (record.time_unix_nano or record.observed_time_unix_nano) / 1e9
        yield TappedPoint(
            _short(text_of(message_of(envelope, number, LOG_RECORD.body) or b"")),
            "log record",
            _attributes(envelope, number, LOG_RECORD),
            resource,
            value,
            time_s,
        )


def read_spans(body: bytes) -> Iterator[TappedPoint]:
    """Yield spans: the value is the duration and the trace id."""
    for envelope, number, resource in _records(body):
        span = _message(Span, envelope, number)
        value, time_s = UNREADABLE, 0.0
        if span is not None:
            duration_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            value = f"{duration_ms:g} ms, trace {span.trace_id.hex()}"
            time_s = span.start_time_unix_nano / 1e9
        name = field_of(envelope, number, _SPAN_NAME) or b""
        yield TappedPoint(
            _short(name.decode(errors="replace")),
            "span",
            _attributes(envelope, number, SPAN),
            resource,
            value,
            time_s,
        )


def _records(body: bytes) -> Iterator[tuple[Envelope, int, dict[str, str]]]:
    """Yield the records of a request by their number, with the attributes of their resource."""
    envelope = scan(body)
    for head, scopes in envelope.resources:
        resource = _shown(resource_attributes(head))
        for _, first, stop in scopes:
            for number in range(first, stop):
                yield envelope, number, resource


def _message(kind: Any, envelope: Envelope, number: int) -> Any:
    try:
        return kind.FromString(envelope.record(number))
    except ProtobufDecodeError:
        return None


def _attributes(envelope: Envelope, number: int, fields: RecordFields) -> dict[str, str]:
    try:
        return _shown(texts_of(attributes_of(envelope, number, fields.attributes), "a record"))
    except DecodeError:
        return {}


def _shown(attributes: AttributeTexts) -> dict[str, str]:
    return {name: _short(text) for name, text in attributes}


def _short(text: str) -> str:
    return clipped(text, TEXT_CHARS_MAX)
