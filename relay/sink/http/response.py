"""The outcome of a request: a response or a failure, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

RESPONSE_BYTES_MAX = 4 * 1024 * 1024
"""OTLP 1.11, "OTLP/HTTP Response": clients should accept no more; above it is not retryable."""

FailureKind = Literal[
    "timeout",
    "connect_failed",
    "disconnected",
    "tls_failed",
    "invalid_http",
    "forbidden_address",
    "response_too_large",
    "unread_request",
]
"""Reasons for a missing response.

In order: no answer in time; no connection (DNS included); connection ended before a whole answer;
no TLS; bytes that are not HTTP; forbidden address; body over the limit; a success before all of the
request was read. Only ``response_too_large`` is permanent, see :mod:`relay.sink.retry.verdict`.
"""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer. Header names are in lower case; of a repeated header the last is kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpFailure:
    """A missing answer; ``message`` is one line, without credentials or resolved addresses."""

    kind: FailureKind
    message: str


class RequestFailedError(Exception):
    """Carries a failure from where it is found to the client's caller."""

    def __init__(self, failure: HttpFailure) -> None:
        self.failure = failure
        super().__init__(failure)


def status_line(status: int) -> str:
    """Return a status with its registered phrase, if it has one: ``HTTP 404 Not Found``."""
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"
