"""The HTTP client's interface: a request in, a response or a failure out.

Every implementation passes ``test_http_answers`` and ``test_http_connections`` in
``tests/contract``. Rules for all of them:

* An answer costs at most :data:`~relay.sink.http.response.RESPONSE_BYTES_MAX` of memory and the
  request's timeout, whatever the endpoint sends.
* No decompression, no redirects, no cookies, no proxy from the environment.
* Nothing is sent twice: a request that failed is the caller's to retry.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Protocol

import msgspec

from relay.sink.http.response import HttpFailure, HttpResponse
from relay.sink.http.tls import TlsMaterial


class Destination:
    """Target of POSTs, and their header fields besides the body's length; reused for many requests.

    ``tls`` comes from :meth:`HttpClient.context`; None for plain ``http``, and for ``https`` by the
    system's authorities. ``server_name`` is checked in the certificate instead of the URL's host if
    it is set.
    """

    __slots__ = ("headers", "prepared", "server_name", "tls", "url")

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
    ) -> None:
        self.url = url
        self.headers = headers
        self.tls = tls
        self.server_name = server_name
        self.prepared: object = None
        """The client's: what it computes once for a destination."""

    def __repr__(self) -> str:
        # Not the headers: they hold credentials.
        return f"<Destination {self.url}>"


class HttpRequest(msgspec.Struct, frozen=True):
    """One POST. ``timeout_s`` bounds all of it: name resolution, connection, sending and answer."""

    to: Destination
    body: bytes
    timeout_s: float

    def __repr__(self) -> str:
        return f"<HttpRequest POST {self.to.url} {len(self.body)} bytes>"


class HttpClient(Protocol):
    """Sends requests to endpoints; made inside the running loop."""

    def context(self, material: TlsMaterial) -> ssl.SSLContext:
        """Return the TLS context for some material; keep it. Raises SecretError for faulty PEM."""

    async def post(self, request: HttpRequest) -> HttpResponse | HttpFailure:
        """Send a request and read its whole answer.

        Raises ValueError for a header field that is not one; everything else is a Failure.
        """

    async def close(self) -> None:
        """Close every connection; requests under way fail."""
