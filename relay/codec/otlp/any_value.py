"""Attributes of OTLP as text.

A value's text is that of the OpenTelemetry Collector (``pdata/pcommon/value.go``, ``AsString``): a
text as it is, ``true`` and ``false``, decimal numbers, base64 of bytes, JSON of lists and mappings;
"" without a value.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from decimal import Decimal

from google.protobuf.message import DecodeError as ProtobufDecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs, ScopeLogs

from relay.runtime.errors import DecodeError

Attributes = list[tuple[str, str]]
"""Key and text of each attribute, in their order."""


def resource_attributes(head: bytes) -> Attributes:
    """Return the attributes in the head of a resource of any signal. Raise DecodeError."""
    try:
        return _texts(ResourceLogs.FromString(head).resource.attributes)
    except ProtobufDecodeError as error:
        raise DecodeError("a resource cannot be read") from error


def scope_attributes(head: bytes) -> Attributes:
    """Return the attributes in the head of a scope of any signal. Raise DecodeError."""
    try:
        return _texts(ScopeLogs.FromString(head).scope.attributes)
    except ProtobufDecodeError as error:
        raise DecodeError("a scope cannot be read") from error


def text_of(encoded: bytes) -> str:
    """Return the text of an encoded AnyValue; "" where it cannot be read."""
    try:
        return value_text(AnyValue.FromString(encoded))
    except ProtobufDecodeError:
        return ""


def value_text(value: AnyValue) -> str:
    """Return the text of a value."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    if kind == "int_value":
        return str(value.int_value)
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "double_value":
        return _number(value.double_value)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind in ("array_value", "kvlist_value"):
        plain = _plain(value)
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return ""


def _texts(attributes: Iterable[KeyValue]) -> Attributes:
    return [(one.key, value_text(one.value)) for one in attributes]


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {one.key: _plain(one.value) for one in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind == "double_value" and not math.isfinite(value.double_value):
        return str(value.double_value)
    return getattr(value, kind) if kind else None


def _number(value: float) -> str:
    """Return a number as JSON writes it in ECMAScript: 1, not 1.0; 1e-7, not 1e-07."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text, mark, exponent = repr(value).partition("e")
    if not mark:
        return text
    if -7 < int(exponent) < 0:
        return format(Decimal(repr(value)), "f")
    return f"{text.removesuffix('.0')}e{int(exponent):+d}"
