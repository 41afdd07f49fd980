"""One sink's endpoint: from a payload to the verdict on it.

Rules:

* Credentials and TLS material are read before the first request, and again after the endpoint
  refused them (401, 403) or TLS failed.
* Every message from outside is cleared of credentials before it goes anywhere.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from relay.config.exporter.types import Compression, OtlpHttp
from relay.sink.http.credentials import SecretLookup, credential_headers, redact
from relay.sink.http.interface import Destination, HttpClient, HttpRequest
from relay.sink.http.response import Failure
from relay.sink.http.tls import TlsMaterial, read_material
from relay.sink.queue.payload import EncodedRequest
from relay.sink.retry.classify import Unauthorized, Verdict, classify, classify_failure

SECRET_CHARS_MIN = 12
"""Values of configured headers that are as long are kept out of messages; a tenant's name is
not."""


@dataclass(frozen=True, slots=True)
class _Access:
    """A configuration and what its secrets came to, until they are refused."""

    otlp: OtlpHttp
    credentials: Mapping[str, str] = field(repr=False)
    context: ssl.SSLContext | None
    destinations: dict[Compression, Destination] = field(default_factory=dict)
    """By the encoding of the payload, which was made with an earlier configuration perhaps."""


class Endpoint:
    """``secrets`` looks up the exporter's secrets afresh each time; ``clock`` is wall time, s.

    ``requests`` counts answers by verdict, ``bytes_sent`` bodies.
    """

    def __init__(
        self,
        otlp: OtlpHttp,
        *,
        transport: HttpClient,
        secrets: SecretLookup,
        clock: Callable[[], float],
    ) -> None:
        self._otlp = otlp
        self._transport = transport
        self._secrets = secrets
        self._clock = clock
        self._access: _Access | None = None
        self.requests: dict[str, int] = {}
        self.bytes_sent = 0

    def reconfigure(self, otlp: OtlpHttp) -> None:
        """Use another configuration from the next request on."""
        self._otlp = otlp
        self._access = None

    def reread_secrets(self) -> None:
        """Read credentials and TLS material afresh before the next request."""
        self._access = None

    async def exchange(self, payload: EncodedRequest) -> Verdict:
        """Send a payload; say what the answer means. Raises SecretError, and nothing is sent."""
        if self._access is None:
            self._access = self._read_access()
        access = self._access
        self.bytes_sent += payload.body_bytes
        to = access.destinations.get(payload.encoding)
        if to is None:
            to = access.destinations[payload.encoding] = _destination(payload.encoding, access)
        request = HttpRequest(to, payload.body, access.otlp.timeout_s)
        answer = await self._transport.post(request)
        if isinstance(answer, Failure):
            verdict = classify_failure(answer)
            refused = answer.kind == "tls_failed"
        else:
            verdict = classify(answer.status, answer.headers, answer.body, self._clock())
            refused = isinstance(verdict, Unauthorized)
        if refused and self._access is access:
            self._access = None
        result = type(verdict).__name__.lower()
        self.requests[result] = self.requests.get(result, 0) + 1
        # Only what was said can give something away; a plain success says nothing.
        if not verdict.message:
            return verdict
        return replace(verdict, message=redact(verdict.message, _secret_headers(access)))

    def _read_access(self) -> _Access:
        """Read the sink's secrets. Raises SecretError."""
        otlp = self._otlp
        credentials = credential_headers(otlp.authentication, self._secrets)
        if not otlp.url.lower().startswith("https:"):
            return _Access(otlp, credentials, None)
        material = read_material(otlp.tls, self._secrets) if otlp.tls else TlsMaterial()
        return _Access(otlp, credentials, self._transport.context(material))

    def __repr__(self) -> str:
        return f"<Endpoint {self._otlp.url}>"


def _secret_headers(access: _Access) -> dict[str, str]:
    """Every header that may hold a credential; customers write them into ``headers``, too."""
    given = {
        name: value for name, value in access.otlp.headers.items() if len(value) >= SECRET_CHARS_MIN
    }
    return {**given, **access.credentials}


def _destination(encoding: Compression, access: _Access) -> Destination:
    otlp = access.otlp
    ours = {"Content-Type": "application/x-protobuf"}
    if encoding != "none":
        ours["Content-Encoding"] = encoding
    # Names differ in case only by accident: the later one replaces the earlier.
    by_name = {
        name.lower(): (name, value)
        for name, value in itertools.chain(
            otlp.headers.items(), access.credentials.items(), ours.items()
        )
    }
    return Destination(
        otlp.url,
        dict(by_name.values()),
        tls=access.context,
        server_name=otlp.tls.server_name if otlp.tls else "",
    )
