"""Map the outcome of a request to the HTTP response, by kind of sender. Pure.

* Senders act on the status alone. Prometheus retries 5xx and drops the batch on any 4xx, **429
  included** (``storage/remote/queue_manager.go``; ``retry_on_http_429`` is off by default). vmagent
  drops on 409, and on 400 and 415 for snappy; for zstd it then resends as snappy for good; on any
  other status, **413 included**, it retries forever (``app/vmagent/remotewrite/client.go``).
* A temporary failure is 503 with Retry-After: overload, bugs, a slow network.
* A faulty body is 400; 413 only for senders that do not retry it forever.
* A valid request with an invalid series keeps the rest. Remote write 1.0 forbids 2xx then, so
  Prometheus gets 400 with the reason. vmagent gets 204, because it would resend the block as
  snappy.
* A wrong path, method or credential is 404, 405 or 401: the operator must correct it.
* ``X-Prometheus-Remote-Write-*-Written`` is sent in every response to a 2.0 request, refusals
  included, and never for 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum

import msgspec

from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.contract import IngestResult
from relay.pipeline.metrics.decoders import DECODERS, DEFAULT_PROTOCOL
from relay.runtime.errors import (
    OverloadedError,
    RelayError,
    TooLargeError,
    UnsupportedMediaError,
    WireError,
)

TEXT_BYTES_MAX = 1024
"""Longest response text in bytes; Prometheus reads no more (``storage/remote/client.go``,
maxErrMsgLen)."""


INCOMPLETE = "the body is incomplete"
"""Text of the refusal of a request whose body ended before it was whole."""
_WRITTEN = "X-Prometheus-Remote-Write"


class Sender(Enum):
    """Kind of a sender, as far as it changes the response."""

    VMAGENT = "vmagent"
    OTHER = "other"
    """Prometheus and unknown senders: they get what the specification says."""


def sender_of(*, user_agent: str, vm_version: str) -> Sender:
    """Recognise vmagent by ``User-Agent`` or ``X-VictoriaMetrics-Remote-Write-Version``.

    Pass "" for an absent header.
    """
    if vm_version or user_agent.strip().lower().startswith("vmagent"):
        return Sender.VMAGENT
    return Sender.OTHER


class Reason(StrEnum):
    """Reason for refusing a whole request: the label of ``relay_refused_requests_total``."""

    NOT_FOUND = "not_found"
    METHOD = "method"
    TENANT = "tenant"
    UNAUTHENTICATED = "unauthenticated"
    MEDIA_TYPE = "media_type"
    BODY_TOO_LARGE = "body_too_large"
    DECODED_TOO_LARGE = "decoded_too_large"
    UNDECODABLE = "undecodable"
    INCOMPLETE_BODY = "incomplete_body"
    MALFORMED_HTTP = "malformed_http"
    READ_TIMEOUT = "read_timeout"
    CONCURRENCY = "concurrency"
    OVERLOADED = "overloaded"
    STOPPING = "stopping"
    INTERNAL = "internal"


_STATUS: Mapping[Reason, int] = {
    Reason.NOT_FOUND: 404,
    Reason.METHOD: 405,
    Reason.TENANT: 400,
    Reason.UNAUTHENTICATED: 401,
    Reason.MEDIA_TYPE: 415,
    Reason.BODY_TOO_LARGE: 413,
    Reason.DECODED_TOO_LARGE: 400,
    Reason.UNDECODABLE: 400,
    Reason.INCOMPLETE_BODY: 400,
    Reason.MALFORMED_HTTP: 400,
    # 408 in HTTP, but Prometheus drops on it, and a slow network may recover.
    Reason.READ_TIMEOUT: 503,
    Reason.CONCURRENCY: 503,
    Reason.OVERLOADED: 503,
    Reason.STOPPING: 503,
    # Senders treat 500 alike, but 503 says that a retry is right.
    Reason.INTERNAL: 503,
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """Nothing of the request was accepted. ``text`` goes to the sender: no internals."""

    reason: Reason
    text: str
    retry_after_s: int = 1
    """Sent only with status 503; seconds."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that the status requires: ``Allow``, ``WWW-Authenticate``."""


class RefusedError(RelayError):
    """Carry a rejection out of a nested call."""

    def __init__(self, refusal: Rejection) -> None:
        self.refusal = refusal
        super().__init__(refusal.text)


class VersionProbe(msgspec.Struct, frozen=True):
    """An old vmagent asked for the version of VictoriaMetrics' remote write."""


Outcome = IngestResult | Rejection | VersionProbe


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and headers. ``refused`` is the reason, None if at least a part was accepted."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    refused: Reason | None = None
    partial: bool = False
    """True if a part of the request was dropped, whatever the status is."""
    body: bytes | None = None
    """Of a response that is no text, whose type is among the headers."""


NO_CONTENT = Answer(204)
"""The most frequent response."""


def refusal_of(error: Exception) -> Rejection:
    """Map an error to a rejection, by its type alone."""
    match error:
        case RefusedError():
            return error.refusal
        case OverloadedError():
            return Rejection(Reason.OVERLOADED, str(error), retry_after_s=error.retry_after_s)
        case UnsupportedMediaError():
            return Rejection(Reason.MEDIA_TYPE, str(error))
        case TooLargeError():
            return Rejection(Reason.DECODED_TOO_LARGE, str(error))
        case WireError():
            return Rejection(Reason.UNDECODABLE, str(error))
    # Anything else is a bug, and its text may contain internals.
    return Rejection(Reason.INTERNAL, "internal error; the request was not taken, send it again")


def answer_to(
    outcome: Outcome, sender: Sender, protocol: WriteProtocol | None = DEFAULT_PROTOCOL
) -> Answer:
    """Return the response; ``protocol`` None means an unsupported one."""
    answer = _answer(outcome, sender)
    if protocol is None or not DECODERS[protocol].reports_written:
        return answer
    return replace(answer, headers={**answer.headers, **_written(outcome)})


def _written(outcome: Outcome) -> Mapping[str, str]:
    taken = outcome if isinstance(outcome, IngestResult) else IngestResult(0)
    return {
        f"{_WRITTEN}-Samples-Written": str(taken.samples),
        f"{_WRITTEN}-Histograms-Written": str(taken.histograms),
        f"{_WRITTEN}-Exemplars-Written": str(taken.exemplars),
    }


def _answer(outcome: Outcome, sender: Sender) -> Answer:
    if isinstance(outcome, Rejection):
        return _refuse(outcome, sender)
    if isinstance(outcome, VersionProbe):
        # VictoriaMetrics, lib/protoparser/protoparserutil/vmproto_handshake.go
        return Answer(200, "1")
    if not any(outcome.dropped.values()):
        return NO_CONTENT
    if sender is Sender.VMAGENT:
        return Answer(204, partial=True)
    return Answer(400, short_text(_partial_text(outcome)), partial=True)


def _refuse(refusal: Rejection, sender: Sender) -> Answer:
    status, headers = status_and_headers(refusal)
    if status == 413 and sender is Sender.VMAGENT:
        status = 400
    return Answer(status, short_text(refusal.text), headers, refused=refusal.reason)


def status_and_headers(refusal: Rejection) -> tuple[int, dict[str, str]]:
    """Return the status of a rejection, and the headers that go with it."""
    status, headers = _STATUS[refusal.reason], dict(refusal.headers)
    if status == 503:
        headers["Retry-After"] = str(max(1, refusal.retry_after_s))
    return status, headers


def _partial_text(accepted: IngestResult) -> str:
    reasons = ", ".join(f"{reason}: {count}" for reason, count in accepted.dropped.items() if count)
    text = f"{accepted.samples} samples taken; dropped {reasons}"
    return "; ".join([text, *accepted.examples])


def short_text(text: str) -> str:
    """Return one printable line of at most :data:`TEXT_BYTES_MAX` bytes."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    encoded = line.encode("utf-8")
    if len(encoded) <= TEXT_BYTES_MAX:
        return line
    return encoded[: TEXT_BYTES_MAX - 3].decode("utf-8", "ignore") + "…"
