"""Requests to an endpoint, and why they failed."""

from __future__ import annotations

from relay.sink.http.client import Destination, HttpRequest, Transport
from relay.sink.http.response import HttpFailure


def http_request(url: str, timeout_s: float = 2.0, **more: object) -> HttpRequest:
    """A request with an empty body; ``more`` are parts of its destination."""
    return HttpRequest(Destination(url, {}, **more), b"", timeout_s)  # type: ignore[arg-type]


async def failure_of(transport: Transport, sent: HttpRequest) -> HttpFailure:
    """Send a request, and return why there is no answer."""
    answer = await transport.post(sent)
    assert isinstance(answer, HttpFailure), answer
    return answer
