"""Convert the JSON form of OTLP requests to protobuf.

OTLP 1.x, "JSON Protobuf Encoding": ProtoJSON with these differences: trace and span ids are hex,
keys are lowerCamelCase, enumerations are numbers, unknown keys are ignored. Numbers of 64 bits may
be texts, as in ProtoJSON, and keys the names of the fields, as the Collector has it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from google.protobuf import json_format
from google.protobuf.message import EncodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.codec.signal_names import SignalName
from relay.runtime.errors import DecodeError, TooLargeError

JSON_BYTES_MAX: Final = 4 << 20
"""Largest JSON body; bytes. A parser of JSON holds the interpreter: 20 ms for so many."""

VALUES_MAX: Final = 250_000
"""Objects and lists in a JSON body: 6 s of a thread and 100 MB. A small attribute is two."""

_REQUESTS: Final[Mapping[SignalName, Any]] = {
    "logs": ExportLogsServiceRequest,
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
PATHS: Final[Mapping[SignalName, tuple[str, str, str]]] = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}
"""Names in JSON of the lists that lead from a request to its records."""
_NESTED: Final = (
    ("links",),
    *(
        (kind, "dataPoints", "exemplars")
        for kind in ("gauge", "sum", "histogram", "exponentialHistogram")
    ),
)
"""Paths from a record to messages with ids of their own."""
_IDS: Final = {
    "traceId": 16,
    "spanId": 8,
    "parentSpanId": 8,
    "trace_id": 16,
    "span_id": 8,
    "parent_span_id": 8,
}
"""Length of each id, bytes; it may be empty. A Collector refuses a request with another length."""
FIELD_NAMES: Final = {
    key: re.sub("([A-Z])", r"_\1", key).lower()
    for path in (*PATHS.values(), *_NESTED)
    for key in path
}
"""By such names those that protobuf has, which its JSON may use, too."""
_FAILED: Final = re.compile(r"Failed to parse (\w+) field: ")
_PLACE: Final = re.compile(r" at \w+Request\.([\w.\[\]]+)$")
_REASONS: Final = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        ("invalid literal for int|Couldn't parse (non-)?integer|Bool value", "is no whole number"),
        ("Couldn't parse (float|NaN|-?Infinity)|could not convert", "is no number"),
        ("Value out of range|int too large|Float value too", "is out of range"),
        ("Expected .?true.? or .?false", "is neither true nor false"),
        ("expected string or bytes-like|bad argument type for built-in", "is no text"),
        ("repeated field .* must be in", "is no list"),
    )
)
"""Words of the library and of Python, which quote a value, and those that senders are told."""


def protobuf_of(body: bytes, signal: SignalName) -> bytes:
    """Return a JSON request as protobuf. Raise DecodeError and TooLargeError."""
    if len(body) > JSON_BYTES_MAX:
        raise TooLargeError(f"a JSON body has at most {JSON_BYTES_MAX} bytes; send protobuf")
    document = _decoded(body)
    if body.count(b"{") + body.count(b"[") > VALUES_MAX and _has_more_values(document):
        raise TooLargeError(f"over {VALUES_MAX} objects and lists in one JSON body; send protobuf")
    request = _REQUESTS[signal]()
    if not isinstance(document, dict):
        raise DecodeError(f"the JSON is no {type(request).__name__}, but another value")
    try:
        for where, record in _records(document, PATHS[signal]):
            _convert_ids(where, record)
        json_format.ParseDict(document, request, ignore_unknown_fields=True)
        return bytes(request.SerializeToString())
    except (
        json_format.ParseError,
        EncodeError,
        TypeError,
        ValueError,
        OverflowError,  # of an integer that no float has: 1 and 400 zeros
        AttributeError,
        RecursionError,
    ) as error:
        name = type(request).__name__
        raise DecodeError(f"the JSON is no {name}: {_line(error)}") from error


def check_json(body: bytes) -> None:
    """Raise DecodeError where a body, or the first line of one, is not JSON."""
    try:
        _decoded(body)
    except DecodeError:
        _decoded(body.partition(b"\n")[0])


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the body is not JSON: {_line(error)}") from error


def _records(document: Any, path: tuple[str, str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every record, and what it has with ids, with its place.

    What has another form is left to the library.
    """
    for where, record in _children([("", document)], path):
        yield where, record
        for nested in _NESTED:
            if nested[0] in record or FIELD_NAMES[nested[0]] in record:
                yield from _children([(where, record)], nested)


def _children(
    found: list[tuple[str, Any]], path: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects at the end of a path of lists and objects, with their places."""
    for key in path:
        found = [
            (f"{where}{key}{mark}.", child)
            for where, parent in found
            if isinstance(parent, dict)
            for mark, child in _elements(parent.get(key, parent.get(FIELD_NAMES[key])))
        ]
    return (one for one in found if isinstance(one[1], dict))


def _elements(value: Any) -> list[tuple[str, Any]]:
    """Return the elements of a list with their marks, or an object by itself."""
    if isinstance(value, dict):
        return [("", value)]
    return (
        [(f"[{index}]", child) for index, child in enumerate(value)]
        if isinstance(value, list)
        else []
    )


def _convert_ids(where: str, record: dict[str, Any]) -> None:
    """Write the ids of a record in base64, as the library wants bytes."""
    for key, size in _IDS.items():
        value = record.get(key)
        if value is None:
            continue
        try:
            found = binascii.unhexlify(value)
        except (TypeError, ValueError) as error:
            raise DecodeError(f"{where}{key} is not a text of hexadecimal digits") from error
        if len(found) not in (0, size):
            raise DecodeError(f"{where}{key} has {2 * len(found)} digits and not {2 * size}")
        record[key] = base64.b64encode(found).decode()


def _has_more_values(document: Any) -> bool:
    """Return whether a document has more than :data:`VALUES_MAX` objects and lists."""
    left, found = [document], 0
    while left and found <= VALUES_MAX:
        value = left.pop()
        if isinstance(value, dict):
            value = list(value.values())
        elif not isinstance(value, list):
            continue
        found += 1
        left += value
    return found > VALUES_MAX


def _line(error: Exception) -> str:
    """Return the error in one line: the path to the field is short, and no value is quoted."""
    text = " ".join(str(error).split()) or type(error).__name__
    path, end = "", 0
    while (found := _FAILED.match(text, end)) is not None:
        path, end = f"{path}{found[1]}.", found.end()
    said = text[end:].rstrip(".")
    for pattern, reason in _REASONS:
        if pattern.match(said):
            # The library names the field in one of the two, or in both.
            where, place = path.removesuffix("."), _PLACE.search(said)
            if place is not None and place[1].count(".") >= where.count("."):
                where = place[1]
            return f"{where}: it {reason}"[:300] if where else f"a value {reason}"
    return f"{path.removesuffix('.')}: {said}"[:300] if path else text[:200]
