"""Convert the JSON form of OTLP requests of logs and traces to protobuf.

OTLP 1.x, "JSON Protobuf Encoding": ProtoJSON with these differences: trace and span ids are hex,
keys are lowerCamelCase, enumerations are numbers, unknown keys are ignored. Numbers of 64 bits may
be texts, as in ProtoJSON.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import msgspec
from google.protobuf import json_format
from google.protobuf.message import EncodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.runtime.errors import DecodeError, TooLargeError

JSON_BYTES_MAX: Final = 4 << 20
"""Largest JSON body; bytes. A parser of JSON holds the interpreter: 20 ms for so many."""

_REQUESTS: Final[Mapping[str, Any]] = {
    "logs": ExportLogsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
_PATHS: Final[Mapping[str, tuple[str, str, str]]] = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "traces": ("resourceSpans", "scopeSpans", "spans"),
}
_IDS: Final = ("traceId", "spanId", "parentSpanId")


def protobuf_of(body: bytes, signal: Literal["logs", "traces"]) -> bytes:
    """Return a JSON request as protobuf. Raise DecodeError and TooLargeError."""
    if len(body) > JSON_BYTES_MAX:
        raise TooLargeError(f"a JSON body has at most {JSON_BYTES_MAX} bytes; send protobuf")
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the body is not JSON: {_line(error)}") from error
    request = _REQUESTS[signal]()
    if not isinstance(document, dict):
        raise DecodeError(f"the JSON is no {type(request).__name__}, but another value")
    try:
        for where, record in _records(document, _PATHS[signal]):
            _convert_ids(where, record)
        json_format.ParseDict(document, request, ignore_unknown_fields=True)
        return bytes(request.SerializeToString())
    except (
        json_format.ParseError,
        EncodeError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        name = type(request).__name__
        raise DecodeError(f"the JSON is no {name}: {_line(error)}") from error


def _records(document: Any, path: tuple[str, str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every record with its place; what has another form is left to the library."""
    found: list[tuple[str, Any]] = [("", document)]
    for key in path:
        found = [
            (f"{where}{key}[{index}].", child)
            for where, parent in found
            if isinstance(parent, dict)
            for index, child in enumerate(_list(parent.get(key)))
        ]
    for where, record in found:
        if isinstance(record, dict):
            yield where, record
            for index, link in enumerate(_list(record.get("links"))):
                if isinstance(link, dict):
                    yield f"{where}links[{index}].", link


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _convert_ids(where: str, record: dict[str, Any]) -> None:
    """Write the ids of a record in base64, as the library wants bytes."""
    for key in _IDS:
        value = record.get(key)
        if value is None:
            continue
        try:
            record[key] = base64.b64encode(binascii.unhexlify(value)).decode()
        except (TypeError, ValueError) as error:
            raise DecodeError(f"{where}{key} is not a text of hexadecimal digits") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
