"""Translates the answers of remote-write endpoints into verdicts. Pure.

    =================================  ============================================================
    answer                             verdict
    =================================  ============================================================
    2xx with a page of HTML            Rejected ``invalid_response`` (a captive portal)
    2xx, 1.0                           Delivered
    2xx, 2.0, counts of what is        Delivered, less what is not among them
    written
    2xx, 2.0, none written, no counts  Rejected ``not_version_2``
    5xx, 429, 408                      Retry, after Retry-After if it is longer
    413, 400 for its size              Split
    401, 403                           Unauthorized
    400, 409 with counts (2.0)         Delivered, less what is not among them
    400, 409, the rest was stored      Delivered, less at least one point
    400, 409, the rest was not stored  Bisect
    400, not even read                 Rejected ``http_400``
    every other status                 Rejected ``http_<status>``
    =================================  ============================================================

Sources: remote write 1.0 and 2.0, "Retries & Backoff", "Partial Write", "Required Written Response
Headers"; what becomes of the rest of a request is in no specification, see
:mod:`relay.codec.remote_write.response`. 408 and 413 are this project's design. A reason that says
what is wrong with points is one of that module's; an endpoint does not choose label values.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from relay.codec.otlp.response import parse_status_message
from relay.codec.remote_write.response import Refusal, parse_refusal, parse_written
from relay.codec.remote_write.v1 import WriteProtocol
from relay.config.exporter.types import BadRequest
from relay.sink.http.response import HttpResponse, status_line
from relay.sink.retry.verdict import (
    Bisect,
    Delivered,
    Rejected,
    Retry,
    Split,
    Unauthorized,
    Verdict,
    parse_retry_after_s,
    printable,
)

_KNOWN_STATUSES = frozenset(int(status) for status in HTTPStatus)
_REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT)
_ALL_TAKEN: Final = Delivered()
_SET_VERSION_1: Final = 'set protocolVersion: "1.0"'


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was answered; ``bad_request`` is what 400 means by the endpoint's profile."""

    protocol: WriteProtocol
    points: int
    bad_request: BadRequest = "unknown"


def classify(sent: Sent, answer: HttpResponse, now: float) -> Verdict:
    """Return the verdict on a whole answer; ``now``: wall clock, s."""
    status, headers = answer.status, answer.headers
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if 200 <= status < 300:
        return _classify_success(sent, answer, content_type)
    message = _describe(status, answer.body, content_type)
    reason = f"http_{status}" if status in _KNOWN_STATUSES else "http_other"
    if _is_retryable(status):
        return Retry(reason, message, parse_retry_after_s(headers, now))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Split(message)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Unauthorized(message)
    if status in _REFUSALS:
        return _classify_refusal(sent, answer, reason, message)
    if status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE and sent.protocol == "remote_write_v2":
        message = printable(f"HTTP 415: the endpoint speaks 1.0 alone: {_SET_VERSION_1}")
    return Rejected(reason, message)


def _is_retryable(status: int) -> bool:
    is_fault_of_server = 500 <= status < 600
    return is_fault_of_server or status in (
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.REQUEST_TIMEOUT,
    )


def _classify_success(sent: Sent, answer: HttpResponse, content_type: str) -> Verdict:
    if content_type == "text/html" and answer.body:
        what = "success status with a page of HTML: this is no remote-write endpoint"
        return Rejected("invalid_response", what)
    if sent.protocol == "remote_write_v1":
        return _ALL_TAKEN
    written = parse_written(answer.headers)
    if written is None or not written.points:
        return Rejected(
            "not_version_2",
            printable(
                f"HTTP {answer.status}, but nothing was stored: the endpoint does not speak remote "
                f"write 2.0; {_SET_VERSION_1}"
            ),
        )
    return _written(sent, written.points, "partial_success", f"HTTP {answer.status}")


def _classify_refusal(sent: Sent, answer: HttpResponse, reason: str, message: str) -> Verdict:
    refusal = parse_refusal(answer.status, answer.body, sent.protocol)
    if refusal.reason != "other":
        reason = refusal.reason
    if sent.protocol == "remote_write_v2":
        written = parse_written(answer.headers)
        if written is not None:
            return _written(sent, written.points, reason, message)
    if refusal.rest == "too_large":
        return Split(message)
    match _meaning(sent, refusal):
        case "partial" if sent.points > 1:
            return Delivered(1, message, reason, at_least=True)
        case "partial" | "unreadable":
            return Rejected(reason, message)
        case _:
            return Bisect(reason, message)


def _meaning(sent: Sent, refusal: Refusal) -> BadRequest:
    """Return what a refusal means: by its text, else by the profile."""
    if refusal.rest == "stored":
        return "partial"
    if refusal.rest == "rolled_back":
        return "rollback"
    return "unreadable" if refusal.rest == "unreadable" else sent.bad_request


def _written(sent: Sent, written: int, reason: str, message: str) -> Verdict:
    """Return the verdict where the endpoint tells how many points it has written."""
    rejected = max(0, sent.points - written)
    if rejected == sent.points:
        return Rejected(reason, message)
    return Delivered(rejected, message if rejected or reason != "partial_success" else "", reason)


def _describe(status: int, body: bytes, content_type: str) -> str:
    head = status_line(status)
    if 300 <= status < 400:
        return f"{head}: redirects are not followed"
    text = parse_status_message(body, content_type)
    return printable(f"{head}: {text}" if text else head)
