"""The verdict on an attempt to send a request. Pure.

Every kind of sink translates its endpoint's answers into these; nothing behind the client looks at
statuses, headers or bodies. Whether a request may be sent again is in the type, never in the text.
``message`` is one printable line for status and logs, without credentials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC

from relay.sink.http.response import HttpFailure

MESSAGE_CHARS_MAX = 200

_RETRY_AFTER_DIGITS_MAX = 10
"""Ten digits are 300 years; a longer number is capped without being converted."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Accepted, except for ``rejected`` points, which are never sent again.

    ``message`` is the endpoint's warning, or ""; ``reason`` is that of the rejected points.
    ``at_least``: the endpoint did not say how many they were, and may have refused more.
    """

    rejected: int = 0
    message: str = ""
    reason: str = "partial_success"
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Not accepted, may be sent again; ``after_s`` is the delay that the endpoint asked for."""

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
    """Too large for the endpoint: send it in smaller pieces."""

    message: str


@dataclass(frozen=True, slots=True)
class Bisect:
    """Refused for a part of its points, none of which was stored: send the halves of it.

    ``reason`` is that of the points that are refused in the end.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """The endpoint does not accept the credentials: pause, and read the secrets again."""

    message: str


Verdict = Delivered | Retry | Rejected | Split | Bisect | Unauthorized


def classify_failure(failure: HttpFailure) -> Verdict:
    """Return the verdict where there was no complete HTTP answer; the same for every kind."""
    if failure.kind == "response_too_large":
        return Rejected(failure.kind, failure.message)
    return Retry(failure.kind, failure.message)


def parse_retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return Retry-After in seconds from ``now``, None if it is absent or invalid.

    RFC 9110 10.2.3: seconds or a date. Never negative; a date in the past is 0.
    :mod:`relay.sink.retry.backoff` caps it.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= _RETRY_AFTER_DIGITS_MAX else math.inf
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - rare, and half a MiB

    try:
        date = parsedate_to_datetime(text)
        # An HTTP-date is in GMT; the parser leaves a date without a zone, or in "-0000", naive.
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def printable(text: str) -> str:
    """Return one printable line of at most :data:`MESSAGE_CHARS_MAX` characters."""
    line = " ".join(text[: 4 * MESSAGE_CHARS_MAX].split())
    return "".join(c if c.isprintable() else "�" for c in line)[:MESSAGE_CHARS_MAX]
