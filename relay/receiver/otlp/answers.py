"""Map the outcome of an OTLP request to its response. Pure.

OTLP 1.x, "OTLP/HTTP Response":

* Success is 200 with an empty ``Export<signal>ServiceResponse``. Where records were dropped it has
  a ``partial_success`` with their number and the reason; senders do not send these again.
* Any other answer has a ``google.rpc.Status``. All are in the request's own encoding.
* 503 with Retry-After where the request should be sent again; all else is for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from relay.codec.protobuf import field_bytes, varint
from relay.codec.signal_names import UNITS, SignalName
from relay.pipeline.contract import IngestResult
from relay.receiver.otlp.target import JSON, PROTOBUF
from relay.receiver.responses import Answer, Outcome, Rejection, short_text, status_and_headers

_REJECTED: Final[Mapping[SignalName, str]] = {
    "logs": "rejectedLogRecords",
    "traces": "rejectedSpans",
    "metrics": "rejectedDataPoints",
}
_CODES: Final[Mapping[int, int]] = {
    HTTPStatus.UNAUTHORIZED: 16,  # UNAUTHENTICATED
    HTTPStatus.NOT_FOUND: 5,  # NOT_FOUND
    HTTPStatus.METHOD_NOT_ALLOWED: 12,  # UNIMPLEMENTED
    HTTPStatus.SERVICE_UNAVAILABLE: 14,  # UNAVAILABLE
}
"""google.rpc.Code by HTTP status; INVALID_ARGUMENT for all others."""
_INVALID_ARGUMENT: Final = 3

# Tags; the fields have the same numbers in the responses of all signals.
_PARTIAL_SUCCESS: Final = b"\x0a"
_REJECTED_TAG: Final = b"\x08"
_ERROR_MESSAGE: Final = b"\x12"
_CODE: Final = b"\x08"
_MESSAGE: Final = b"\x12"


ALL_TAKEN: Final = Answer(200, headers={"Content-Type": PROTOBUF}, body=b"")
"""The most frequent response: all of a request in protobuf was taken."""


def otlp_answer(outcome: Outcome, signal: SignalName, media_type: str) -> Answer:
    """Return the response; ``media_type`` is that of the request."""
    is_json = media_type == JSON
    if isinstance(outcome, Rejection):
        status, headers = status_and_headers(outcome)
        code = _CODES.get(status, _INVALID_ARGUMENT)
        text = short_text(outcome.text)
        body = _json_status(code, text) if is_json else _status(code, text)
        return Answer(
            status, text, {**headers, "Content-Type": media_type}, outcome.reason, body=body
        )
    assert isinstance(outcome, IngestResult), "OTLP has no probes"
    if not outcome.dropped and not is_json:
        return ALL_TAKEN
    rejected = sum(outcome.dropped.values())
    text = _text(outcome, signal) if rejected else ""
    body = _json_partial(rejected, text, signal) if is_json else _partial(rejected, text)
    headers = {"Content-Type": media_type}
    return Answer(200, text, headers, partial=bool(rejected), body=body)


def _text(outcome: IngestResult, signal: SignalName) -> str:
    reasons = ", ".join(f"{reason}: {count}" for reason, count in outcome.dropped.items() if count)
    return short_text("; ".join([f"{UNITS[signal]} dropped: {reasons}", *outcome.examples]))


def _partial(rejected: int, text: str) -> bytes:
    if not rejected:
        return b""
    partial = _REJECTED_TAG + varint(rejected) + field_bytes(_ERROR_MESSAGE, text.encode())
    return field_bytes(_PARTIAL_SUCCESS, partial)


def _json_partial(rejected: int, text: str, signal: SignalName) -> bytes:
    if not rejected:
        return b"{}"
    # ProtoJSON writes int64 as a text.
    partial = {_REJECTED[signal]: str(rejected), "errorMessage": text}
    return msgspec.json.encode({"partialSuccess": partial})


def _status(code: int, text: str) -> bytes:
    return _CODE + varint(code) + field_bytes(_MESSAGE, text.encode())


def _json_status(code: int, text: str) -> bytes:
    return msgspec.json.encode({"code": code, "message": text})
