"""What to answer a sender, decided from what happened and who is asking. Pure.

Senders act on the status alone, and not as HTTP's text suggests:

* Prometheus sends again on 5xx and drops the batch on any 4xx, **429 included**
  (``storage/remote/queue_manager.go``, ``retry_on_http_429`` is off by default).
* vmagent drops on 409, and on 400 and 415 for a snappy block; on 400 and 415 for a zstd block it
  sends the block again as snappy and stays with snappy; on everything else, 401, 404 and **413
  included**, it sends the same block again until it is taken
  (``app/vmagent/remotewrite/client.go``).

Hence:

1. What may pass by itself is 503 with Retry-After, never 4xx: our overload, our bugs, a slow
   network.
2. A fault of the body is 400, and 413 only for those on whom it does not wedge a queue's worker
   for good.
3. A good request with a bad series in it: the rest is kept. Remote write 1.0 forbids 2xx then, so
   Prometheus gets 400 with the reason, which it logs. vmagent gets 204: to it a 400 means to send
   the whole block once more, as snappy, and to compress worse from then on.
4. A wrong path, method or credential is the operator's to mend: 404, 405, 401, as HTTP has it.
5. ``X-Prometheus-Remote-Write-*-Written`` belongs to remote write 2.0: exact in every answer to a
   2.0 request, refusals included (they wrote nothing), and never sent for 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum

from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.contract import IngestResult
from relay.runtime.errors import (
    OverloadedError,
    RelayError,
    TooLargeError,
    UnsupportedMediaError,
    WireError,
)

TEXT_BYTES_MAX = 1024
"""Prometheus reads no more of an answer (``storage/remote/client.go``, maxErrMsgLen)."""


_WRITTEN = "X-Prometheus-Remote-Write"


class Sender(Enum):
    """Who is asking, as far as it changes the answer."""

    VMAGENT = "vmagent"
    OTHER = "other"
    """Prometheus, and whatever we do not know: those get what the specification says."""


def sender_of(*, user_agent: str, vm_version: str) -> Sender:
    """Recognise vmagent by ``User-Agent`` or ``X-VictoriaMetrics-Remote-Write-Version``.

    Both are "" where the header is absent.
    """
    if vm_version or user_agent.strip().lower().startswith("vmagent"):
        return Sender.VMAGENT
    return Sender.OTHER


class Reason(StrEnum):
    """Why a request was refused whole: the label of ``relay_refused_requests_total``."""

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
    # HTTP has 408 for this, but Prometheus drops on it, and a slow network may be faster next time.
    Reason.READ_TIMEOUT: 503,
    Reason.CONCURRENCY: 503,
    Reason.OVERLOADED: 503,
    Reason.STOPPING: 503,
    # Not 500: both senders treat it alike, and 503 says truthfully that sending again is right.
    Reason.INTERNAL: 503,
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """Nothing of the request was taken. ``text`` is for the sender's log: nothing internal."""

    reason: Reason
    text: str
    retry_after_s: int = 1
    """Only said where the status is 503."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the status requires besides: ``Allow``, ``WWW-Authenticate``."""


class RefusedError(RelayError):
    """Carries a refusal out of the depths of a request."""

    def __init__(self, refusal: Rejection) -> None:
        self.refusal = refusal
        super().__init__(refusal.text)


@dataclass(frozen=True, slots=True)
class VersionProbe:
    """An old vmagent asked whether we speak VictoriaMetrics' remote write."""


Outcome = IngestResult | Rejection | VersionProbe


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and headers. ``refused`` is why, None where at least a part was taken."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    refused: Reason | None = None
    partial: bool = False
    """Whether a part of the request was dropped, whatever the status says."""


NO_CONTENT = Answer(204)
"""The answer to nearly every request."""


def refusal_of(error: Exception) -> Rejection:
    """Which refusal an error stands for; the type decides, the message only explains."""
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
    # Nothing else has any business here: a bug, whose text may be about something internal.
    return Rejection(Reason.INTERNAL, "internal error; the request was not taken, send it again")


def answer_to(
    outcome: Outcome, sender: Sender, protocol: WriteProtocol | None = "remote_write_v1"
) -> Answer:
    """The answer; see the module's rules. ``protocol`` None: we do not speak it."""
    answer = _answer(outcome, sender)
    if protocol != "remote_write_v2":
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
    return Answer(400, _short(_partial_text(outcome)), partial=True)


def _refuse(refusal: Rejection, sender: Sender) -> Answer:
    status = _STATUS[refusal.reason]
    if status == 413 and sender is Sender.VMAGENT:
        status = 400
    headers = dict(refusal.headers)
    if status == 503:
        headers["Retry-After"] = str(max(1, refusal.retry_after_s))
    return Answer(status, _short(refusal.text), headers, refused=refusal.reason)


def _partial_text(accepted: IngestResult) -> str:
    reasons = ", ".join(f"{reason}: {count}" for reason, count in accepted.dropped.items() if count)
    text = f"{accepted.samples} samples taken; dropped {reasons}"
    return "; ".join([text, *accepted.examples])


def _short(text: str) -> str:
    """One line within :data:`TEXT_BYTES_MAX`, nothing unprintable: it ends in others' logs."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    encoded = line.encode("utf-8")
    if len(encoded) <= TEXT_BYTES_MAX:
        return line
    return encoded[: TEXT_BYTES_MAX - 3].decode("utf-8", "ignore") + "…"
