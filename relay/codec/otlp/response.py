"""What an OTLP/HTTP endpoint answered: partial success, and error texts fit for status and logs.

Answers are a customer's endpoint's words. Whatever they are, the texts given out here are one short
printable line; how much of a body is read at all is the transport's to bound.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import msgspec
from google.protobuf.message import DecodeError as ProtobufDecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from relay.codec.protobuf import BYTES, iter_fields
from relay.runtime.errors import DecodeError

MESSAGE_CHARS_MAX = 200
"""Longest text that is given out."""

_READ_BYTES_MAX = 4096  # of an error body that is shown as text
_STATUS_MESSAGE = 2  # google.rpc.Status.message
_TAG = re.compile(r"<[^<>]*>")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")


@dataclass(frozen=True, slots=True)
class PartialSuccess:
    """The endpoint kept a part: ``rejected`` points were not, 0 where ``message`` only warns."""

    rejected: int
    message: str


def parse_response(body: bytes) -> PartialSuccess | None:
    """Read an ExportMetricsServiceResponse; None where everything was accepted without remark.

    An empty body is such a success, as is a partial_success that says nothing (opentelemetry-proto,
    ``docs/specification.md``, "Partial Success"). Raises DecodeError for anything else.
    """
    try:
        partial = ExportMetricsServiceResponse.FromString(body).partial_success
    except ProtobufDecodeError as error:
        raise DecodeError("the answer is not an ExportMetricsServiceResponse") from error
    if partial.rejected_data_points < 0:
        raise DecodeError(f"the answer rejects {partial.rejected_data_points} data points")
    if not partial.rejected_data_points and not partial.error_message:
        return None
    return PartialSuccess(partial.rejected_data_points, _one_line(partial.error_message))


def parse_status_message(body: bytes, content_type: str) -> str:
    """Read the text out of an error's body, "" where there is none.

    Understands google.rpc.Status as protobuf (what OTLP asks for) or JSON, the JSON errors of
    common backends, and takes anything else as text. At most MESSAGE_CHARS_MAX characters on one
    line, all printable.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    text: str | None = None
    if media_type in ("application/x-protobuf", "application/protobuf"):
        text = _protobuf_message(body)
    elif media_type.endswith("json"):
        text = _json_message(body)
    elif not media_type.startswith("text/") and _CONTROL.search(body[:_READ_BYTES_MAX]):
        # Mimir labels its Status application/octet-stream. Text holds no control characters.
        text = _protobuf_message(body) or None
    if text is None:
        text = body[:_READ_BYTES_MAX].decode(errors="replace")
        if media_type == "text/html":
            text = _TAG.sub(" ", text)
    return _one_line(collapsed(text))


def collapsed(text: str) -> str:
    """Say a repeated line once, with how often it comes: Prometheus repeats one for each metric."""
    lines = [line for line in (part.strip() for part in text.split("\n")) if line]
    counts = Counter(lines)
    if len(counts) == len(lines):
        return text
    return "; ".join(
        f"{line} ({count} times)" if count > 1 else line for line, count in counts.items()
    )


def _protobuf_message(body: bytes) -> str | None:
    """The message of a google.rpc.Status; None where the body is something else.

    Read by hand: its official class is in a package that nothing else here needs.
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
    """The keys that OTLP, Prometheus, Google's gateways and Datadog put their text under."""

    message: str = ""
    error: str | _Inner = ""
    errors: list[str] = msgspec.field(default_factory=list)


def _json_message(body: bytes) -> str | None:
    """The text of a JSON error; None where the body is another JSON, or none."""
    try:
        found = msgspec.json.decode(body, type=_JsonError)
    except (ValueError, RecursionError):
        return None  # the caller shows it as text
    inner = found.error if isinstance(found.error, str) else found.error.message
    return found.message or inner or "; ".join(found.errors) or None


def _one_line(text: str) -> str:
    line = " ".join(text[:_READ_BYTES_MAX].split())
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
    if len(line) <= MESSAGE_CHARS_MAX:
        return line
    return line[: MESSAGE_CHARS_MAX - 1] + "…"
