"""The steps of a sink test, its verdict, and what to do about it. Pure.

Where no complete answer came, the step that failed follows from the kind of the failure and the
steps that were done before it; where one came, from the verdict of the sink's kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

from relay.sink.http.response import HttpFailure
from relay.sink.retry.verdict import Delivered, Unauthorized, Verdict

StepName = Literal[
    "credentials", "name", "address", "connection", "tunnel", "tls", "answer", "body"
]
"""In order: secrets are read and the point is encoded; the host's name is resolved; its address is
allowed; a connection is made; the proxy opens a tunnel; TLS; the request is sent and answered; the
answer's body is understood."""


@dataclass(frozen=True, slots=True)
class TestStep:
    """One step; ``seconds`` is its own duration. ``message`` holds no secret."""

    __test__ = False

    name: StepName
    ok: bool
    seconds: float
    message: str = ""

    def document(self) -> dict[str, Any]:
        """Return the form in JSON."""
        return {
            "name": self.name,
            "ok": self.ok,
            "seconds": round(self.seconds, 4),
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class TestVerdict:
    """The end of a test: ``ok`` if the endpoint took the point; ``advice`` says what to do."""

    __test__ = False

    ok: bool
    message: str
    advice: str = ""
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        """Return the form in JSON."""
        return {
            "ok": self.ok,
            "message": self.message,
            "advice": self.advice,
            "seconds": round(self.seconds, 4),
        }


_FAILED_ADVICE: Final[dict[StepName, str]] = {
    "credentials": "add the Secret to the exporter's namespace, or correct the reference to it",
    "name": "check the host in the sink's endpoint; the relay's own DNS has to know it",
    "address": (
        "use an endpoint with a public address, or let the operator set allowPrivateEndpoints"
    ),
    "connection": "check host and port of the endpoint, and firewalls between the relay and it",
    "tunnel": "ask the operator of the relay: its proxy does not let this endpoint through",
    "tls": (
        "check that the endpoint speaks TLS at this port, and set tls.ca or tls.serverName where "
        "its certificate is of an authority or name of its own"
    ),
    "answer": "check that the endpoint is the one for this protocol, and that it is well",
    "body": "check that the endpoint is the one for this protocol: something else answered",
}

_STATUS_ADVICE: Final[dict[int, str]] = {
    400: "the endpoint does not understand the point: check that its protocol is the sink's",
    401: "the endpoint does not know the credentials: put the right ones into the sink's Secret",
    403: "the credentials may not write there: give them the right to, or use other ones",
    404: "nothing is at this path: check the path of the endpoint",
    405: "this path does not take POST: check the path of the endpoint",
    408: "the endpoint was too slow; the relay would try again",
    413: "the endpoint refuses a request of one point: check what stands before it",
    415: "the endpoint does not take this format: check the sink's kind, version and compression",
    429: "the endpoint works and limits the rate; the relay would try again later",
}


def failed_step(failure: HttpFailure, done: frozenset[str], *, has_tls: bool) -> StepName:
    """Return the step that failed, by what was done before."""
    if failure.kind == "forbidden_address":
        return "address"
    if failure.kind == "tls_failed":
        return "tls"
    if failure.kind not in ("connect_failed", "timeout"):
        return "answer"
    if "name" not in done:
        return "name"
    if "connection" not in done:
        return "connection"
    if failure.kind == "connect_failed":
        return "connection" if "tunnel" in done or not has_tls else "tunnel"
    return "tls" if has_tls and "tls" not in done else "answer"


def failure_verdict(step: StepName, message: str, seconds: float) -> TestVerdict:
    """Return the verdict where a step failed and there was no complete answer."""
    return TestVerdict(False, message, _FAILED_ADVICE[step], seconds)


def answer_verdict(status: int, verdict: Verdict, seconds: float) -> TestVerdict:
    """Return the verdict on a complete answer."""
    message = verdict.message or f"HTTP {status}"
    if isinstance(verdict, Delivered) and not verdict.rejected:
        return TestVerdict(True, f"delivered: {message}", "", seconds)
    if isinstance(verdict, Delivered):
        return TestVerdict(False, f"the point was rejected: {message}", _BODY_REJECTED, seconds)
    if isinstance(verdict, Unauthorized) or status in _STATUS_ADVICE:
        advice = _STATUS_ADVICE.get(status, _STATUS_ADVICE[401])
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        advice = "the endpoint has a fault of its own: ask its operator; the relay would try again"
    elif 300 <= status < 400:
        advice = "write the address that it redirects to as the endpoint"
    else:
        advice = _FAILED_ADVICE["body" if status < 300 else "answer"]
    return TestVerdict(False, message, advice, seconds)


_BODY_REJECTED: Final = (
    "the endpoint is right and refuses this point: read its message, as it may refuse others, too"
)
