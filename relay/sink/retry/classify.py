"""What an answer means for the payload that was sent. Pure; a table test covers every row.

========================================  =================================================
answer                                    verdict
========================================  =================================================
2xx, decodable or empty body              Delivered; less what partial_success rejects
2xx, protobuf or JSON that is neither     Delivered with a warning
2xx, other non-empty undecodable body     Rejected ``invalid_response`` (a captive portal)
429, 502, 503, 504                        Retry, after Retry-After if it is longer
413                                       Split 401, 403
Unauthorized: pause, read the secret again every other status, redirects included    Rejected
``http_<status>`` timeout, no connection, disconnect …      Retry, reason is the failure's kind
response body over the limit              Rejected ``response_too_large`` 2xx before all of the
request was read    Retry ``unread_request`` ========================================
=================================================

Sources: OTLP 1.11, "OTLP/HTTP Response" (retryable codes; partial success "MUST NOT" be retried; a
response above 4 MiB is not retryable) and, for 413, 401 and 403, this project's design. OTLP names
200 as the only success; gateways answer 202 and 204 too, and to send again what they took would
double it.

``forbidden_address`` is retryable, bounded by the queue's age: a name that resolves to a private
address for a minute must not cost a customer's data. An answer that is not HTTP is a broken
connection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import msgspec

from relay.codec.otlp.response import PartialSuccess, parse_response, parse_status_message
from relay.runtime.errors import DecodeError
from relay.sink.http.response import Failure

MESSAGE_CHARS_MAX = 200
RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})

_KNOWN_STATUSES = frozenset(int(status) for status in HTTPStatus)
_RETRY_AFTER_DIGITS_MAX = 10
"""Ten digits are 300 years; longer numbers are not worth converting, only capping."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Taken, but for ``rejected`` points; ``message`` is the endpoint's warning or ""."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not taken, may be sent again; ``after_s`` is what the endpoint asked for, if it did."""

    reason: str
    message: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for good."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Split:
    """Too large for the endpoint."""

    message: str


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """The endpoint does not accept our credentials."""

    message: str


Verdict = Delivered | Retry | Rejected | Split | Unauthorized

_ALL_TAKEN = Delivered()


def classify(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Verdict:
    """The verdict on a whole answer. ``headers`` in lower case; ``now`` is wall clock, s."""
    if not body and 200 <= status < 300:
        return _ALL_TAKEN
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if 200 <= status < 300:
        return _classify_success(content_type, body)
    message = _describe(status, body, content_type)
    if status in RETRYABLE_STATUSES:
        return Retry(f"http_{status}", message, parse_retry_after_s(headers, now))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Split(message)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Unauthorized(message)
    # Only registered codes are a reason of their own: an endpoint must not choose label values.
    return Rejected(f"http_{status}" if status in _KNOWN_STATUSES else "http_other", message)


def classify_failure(failure: Failure) -> Verdict:
    """The verdict where there was no whole answer."""
    if failure.kind == "response_too_large":
        return Rejected(failure.kind, failure.message)
    return Retry(failure.kind, failure.message)


def parse_retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Retry-After in seconds from ``now`` (RFC 9110 10.2.3: seconds or a date), None if unusable.

    Never negative; a date in the past is 0. :mod:`relay.sink.retry.backoff` caps it.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= _RETRY_AFTER_DIGITS_MAX else math.inf
    try:
        date = parsedate_to_datetime(text)
        # An HTTP-date is in GMT; the parser leaves a date without a zone, or in "-0000", naive.
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _classify_success(content_type: str, body: bytes) -> Verdict:
    is_json = content_type == "application/json"
    try:
        partial = _parse_json_response(body) if is_json else parse_response(body)
    except DecodeError as error:
        if is_json or "protobuf" in content_type:
            return Delivered(message=f"the endpoint's response cannot be read: {error}")
        kind = printable(content_type) or "no content type"
        return Rejected(
            "invalid_response", f"success status with a body that is not an OTLP response ({kind})"
        )
    if partial is None:
        return _ALL_TAKEN
    return Delivered(max(0, partial.rejected), printable(partial.message))


class _JsonPartialSuccess(msgspec.Struct, rename="camel"):
    # ProtoJSON writes int64 as a string and readers accept both.
    rejected_data_points: int | str | None = 0
    error_message: str | None = ""


class _JsonResponse(msgspec.Struct, rename="camel"):
    partial_success: _JsonPartialSuccess | None = None


def _parse_json_response(body: bytes) -> PartialSuccess | None:
    try:
        partial = msgspec.json.decode(body, type=_JsonResponse).partial_success
        if partial is None:
            return None
        return PartialSuccess(int(partial.rejected_data_points or 0), partial.error_message or "")
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not a JSON ExportMetricsServiceResponse: {error}") from error


def _describe(status: int, body: bytes, content_type: str) -> str:
    phrase = HTTPStatus(status).phrase if status in _KNOWN_STATUSES else ""
    head = f"HTTP {status} {phrase}".rstrip()
    if 300 <= status < 400:
        return f"{head}: redirects are not followed"
    text = printable(parse_status_message(body, content_type))
    return f"{head}: {text}" if text else head


def printable(text: str) -> str:
    """One printable line of at most :data:`MESSAGE_CHARS_MAX` characters, for status and logs."""
    line = " ".join(text[: 4 * MESSAGE_CHARS_MAX].split())
    return "".join(c if c.isprintable() else "�" for c in line)[:MESSAGE_CHARS_MAX]
