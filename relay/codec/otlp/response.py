"""Parse the responses of OTLP/HTTP endpoints: partial success and error messages.

Response texts come from customers' endpoints: every text returned here is one short printable line.
The transport bounds how much of a body is read.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from relay.codec.protobuf import (
    BYTES,
    field_bytes,
    iter_fields,
    read_length,
    read_varint,
    varint,
)
from relay.runtime.errors import DecodeError
from relay.runtime.excerpt import clipped

MESSAGE_CHARS_MAX = 200
"""Longest text returned, in characters."""

_READ_BYTES_MAX = 4096  # bytes of an error body that are shown as text
_ALL_TAKEN = (b"", b"\x0a\x00")  # without and with an empty partial_success
_PARTIAL_SUCCESS_TAG, _REJECTED_TAG, _MESSAGE_TAG = b"\x0a", b"\x08", b"\x12"
_INT64_MAX = (1 << 63) - 1
_STATUS_MESSAGE = 2  # google.rpc.Status.message
_TAG = re.compile(r"<[^<>]*>")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")


class PartialSuccess(msgspec.Struct, frozen=True):
    """A partial success: ``rejected`` points were refused; 0 if ``message`` is only a warning."""

    rejected: int
    message: str


def parse_response(body: bytes) -> PartialSuccess | None:
    """Parse an ExportMetricsServiceResponse; None if everything was accepted without remark.

    An empty body is a success, as is an empty partial_success (opentelemetry-proto,
    ``docs/specification.md``, "Partial Success"). Raise DecodeError for anything else.
    """
    if body in _ALL_TAKEN:
        return None
    rejected, message = _usual_parts(body) or _official_parts(body)
    if rejected < 0:
        raise DecodeError(f"the answer rejects {rejected} data points")
    if not rejected and not message:
        return None
    return PartialSuccess(rejected, _one_line(message))


def _usual_parts(body: bytes) -> tuple[int, str] | None:
    """Return number and text of a response as encoders write it; None for any other."""
    rejected, text = 0, b""
    try:
        at, stop = read_length(body, 1, len(body))
        if body[at : at + 1] == _REJECTED_TAG:
            rejected, at = read_varint(body, at + 1, stop)
        if body[at : at + 1] == _MESSAGE_TAG:
            start, at = read_length(body, at + 1, stop)
            text = body[start:at]
        message = text.decode()
    except (DecodeError, UnicodeDecodeError):
        return None
    partial = _REJECTED_TAG + varint(rejected) if rejected else b""
    partial += field_bytes(_MESSAGE_TAG, text) if text else b""
    is_usual = rejected <= _INT64_MAX and body == field_bytes(_PARTIAL_SUCCESS_TAG, partial)
    return (rejected, message) if is_usual else None


def _official_parts(body: bytes) -> tuple[int, str]:
    """Return the same as the official class reads it. Raise DecodeError."""
    # 4 MiB, and the event loop waits 80 ms for the import: for no usual answer.
    from google.protobuf.message import (
        DecodeError as ProtobufDecodeError,
    )
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceResponse,
    )

    try:
        partial = ExportMetricsServiceResponse.FromString(body).partial_success
    except ProtobufDecodeError as error:
        raise DecodeError("the answer is not an ExportMetricsServiceResponse") from error
    return partial.rejected_data_points, partial.error_message


def parse_status_message(body: bytes, content_type: str) -> str:
    """Extract the message of an error response, "" if there is none.

    Accepts google.rpc.Status as protobuf (as OTLP requires) or JSON, the JSON errors of common
    backends, and anything else as text. Returns one printable line of at most MESSAGE_CHARS_MAX
    characters.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    text: str | None = None
    if media_type in ("application/x-protobuf", "application/protobuf"):
        text = _protobuf_message(body)
    elif media_type.endswith("json"):
        text = _json_message(body)
    elif not media_type.startswith("text/") and _CONTROL.search(body[:_READ_BYTES_MAX]):
        # Mimir labels its Status application/octet-stream. Text has no control characters.
        text = _protobuf_message(body) or None
    if text is None:
        text = body[:_READ_BYTES_MAX].decode(errors="replace")
        if media_type == "text/html":
            text = _TAG.sub(" ", text)
    return _one_line(collapsed(text))


def collapsed(text: str) -> str:
    """Replace repeated lines by one with its count: Prometheus repeats a line for each metric."""
    lines = [line for line in (part.strip() for part in text.split("\n")) if line]
    counts = Counter(lines)
    if len(counts) == len(lines):
        return text
    return "; ".join(
        f"{line} ({count} times)" if count > 1 else line for line, count in counts.items()
    )


def _protobuf_message(body: bytes) -> str | None:
    """Return the message of a google.rpc.Status; None if the body is something else.

    Parsed by hand: the official class would need another package.
    """
    message = b""
    try:
        for number, wire_type, _, start, stop in iter_fields(body, 0, len(body)):
            if number == _STATUS_MESSAGE and wire_type == BYTES:
                message = body[start : min(stop, start + _READ_BYTES_MAX)]
    except DecodeError:
        return None  # mislabelled: the caller shows it as text
    return message.decode(errors="replace")


class _Inner(msgspec.Struct):
    message: str = ""


class _JsonError(msgspec.Struct):
    """Keys of the message in errors of OTLP, Prometheus, Google's gateways and Datadog."""

    message: str = ""
    error: str | _Inner = ""
    errors: list[str] = msgspec.field(default_factory=list)


def _json_message(body: bytes) -> str | None:
    """Return the message of a JSON error; None if the body is no such JSON."""
    try:
        found = msgspec.json.decode(body, type=_JsonError)
    except (ValueError, RecursionError):
        return None  # the caller shows it as text
    inner = found.error if isinstance(found.error, str) else found.error.message
    return found.message or inner or "; ".join(found.errors) or None


def _one_line(text: str) -> str:
    line = " ".join(text[:_READ_BYTES_MAX].split())
    line = "".join(char if char.isprintable() else "\ufffd" for char in line)
    return clipped(line, MESSAGE_CHARS_MAX)
