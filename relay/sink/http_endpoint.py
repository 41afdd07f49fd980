"""A client over HTTP POST, for every kind of sink whose requests are one POST each.

Rules:

* Credentials and TLS material are read before the first request, and again after the endpoint
  refused them (401, 403) or TLS failed.
* Of a deleted object they are those of before: its Secrets may be deleted with it.
* Credentials are removed from every message that comes from outside.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from relay.config.exporter.types import Compression, Endpoint
from relay.runtime.errors import SecretError
from relay.sink.http.credentials import SecretLookup, credential_headers, redact
from relay.sink.http.interface import Destination, HttpRequest
from relay.sink.http.response import HttpFailure, HttpResponse
from relay.sink.http.tls import TlsMaterial, read_material
from relay.sink.interface import ClientDependencies
from relay.sink.queue.payload import EncodedRequest
from relay.sink.retry.verdict import Delivered, Unauthorized, Verdict, classify_failure

SECRET_CHARS_MIN = 12
"""Values of configured headers from this length on are kept out of messages; a tenant's name is
shorter."""

NO_HEADERS: Mapping[str, str] = {}
_NO_ANSWERS: Mapping[str, int] = {}
"""Shared: most sinks have no other verdict than that all was delivered."""
SHARED_HEADERS_MAX = 64
"""Kinds of body and compressions, with what a sink kind adds: a handful."""

Classify = Callable[[Endpoint, EncodedRequest, HttpResponse, float], Verdict]
"""(configuration, request, complete answer, wall clock in s) -> verdict."""


@dataclass(slots=True, eq=False)
class _Access:
    """A configuration with its secrets, until they are refused."""

    endpoint: Endpoint
    credentials: Mapping[str, str] = field(repr=False)
    context: ssl.SSLContext | None
    destinations: tuple[tuple[str, Compression, Destination], ...] = ()
    """By a body's kind and compression: one, but for queued bodies of an earlier configuration."""

    def find(self, kind: str, compression: Compression) -> Destination | None:
        """Return the destination of such bodies, None before the first."""
        for known_kind, known_compression, to in self.destinations:
            if known_kind == kind and known_compression == compression:
                return to
        return None


class HttpEndpoint:
    """Implements :class:`relay.sink.interface.Client`.

    ``headers`` are those of bodies, by their kind; ``classify`` translates answers. ``defaults``
    are headers that a configuration may replace.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        dependencies: ClientDependencies,
        *,
        headers: Mapping[str, Mapping[str, str]],
        classify: Classify,
        defaults: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        self._endpoint = endpoint
        self._transport = dependencies.transport
        self._secrets = dependencies.secrets
        self._clock = dependencies.clock
        self._headers = headers
        self._defaults = defaults
        self._classify = classify
        self._access: _Access | None = None
        self._last: _Access | None = None
        """Secrets of the present configuration as they could be read last, if they could."""
        self._keeps_secrets = False
        self._delivered = 0
        self._otherwise: Mapping[str, int] = _NO_ANSWERS
        self.bytes_sent = 0
        self.points_resent = 0

    def reconfigure(self, endpoint: Endpoint) -> None:
        """Use another configuration from the next request on."""
        self._endpoint = endpoint
        self._access = self._last = None

    def reread_secrets(self) -> None:
        """Read credentials and TLS material again before the next request."""
        self._access = None

    def keep_secrets(self, secrets: SecretLookup) -> None:
        """Read them there from now on; what cannot be read any more stays as it was."""
        self._secrets = secrets
        self._keeps_secrets = True

    async def send(self, request: EncodedRequest) -> Verdict:
        """Send a request and translate the answer. Raises SecretError; nothing was sent then."""
        if self._access is None:
            self._access = self._last = self._last_or_read()
        access = self._access
        self.bytes_sent += request.body_bytes
        if request.was_sent or request.attempts:
            self.points_resent += request.points
        request.was_sent = True
        to = access.find(request.kind, request.encoding)
        if to is None:
            to = self._destination(request.kind, request.encoding, access)
            access.destinations += ((request.kind, request.encoding, to),)
        answer = await self._transport.post(
            HttpRequest(to, request.body, access.endpoint.timeout_s)
        )
        if isinstance(answer, HttpFailure):
            verdict = classify_failure(answer)
            refused = answer.kind == "tls_failed"
        else:
            verdict = self._classify(access.endpoint, request, answer, self._clock())
            refused = isinstance(verdict, Unauthorized)
        if refused and self._access is access:
            self._access = None
        self._count(verdict)
        # A plain success carries no text that could hold a secret.
        if not verdict.message:
            return verdict
        hidden = secret_headers(access.endpoint, access.credentials)
        return replace(verdict, message=redact(verdict.message, hidden))

    @property
    def requests(self) -> Mapping[str, int]:
        """The number of answers, by verdict."""
        own = {"delivered": self._delivered} if self._delivered else {}
        return {**own, **self._otherwise}

    def _count(self, verdict: Verdict) -> None:
        if isinstance(verdict, Delivered):
            self._delivered += 1
            return
        name = type(verdict).__name__.lower()
        self._otherwise = {**self._otherwise, name: self._otherwise.get(name, 0) + 1}

    def _last_or_read(self) -> _Access:
        try:
            return self._read_access()
        except SecretError:
            if self._last is None or not self._keeps_secrets:
                raise
            return self._last

    def _read_access(self) -> _Access:
        """Read the sink's secrets. Raises SecretError."""
        endpoint = self._endpoint
        credentials = credential_headers(endpoint.authentication, self._secrets) or NO_HEADERS
        if not endpoint.url.lower().startswith("https:"):
            return _Access(endpoint, credentials, None)
        material = read_material(endpoint.tls, self._secrets) if endpoint.tls else TlsMaterial()
        return _Access(endpoint, credentials, self._transport.context(material))

    def _destination(self, kind: str, compression: Compression, access: _Access) -> Destination:
        endpoint = access.endpoint
        own = dict(self._headers[kind])
        if compression != "none":
            own["Content-Encoding"] = compression
        # Names that differ in case only are one header: the later one replaces the earlier.
        by_name = {
            name.lower(): (name, value)
            for name, value in itertools.chain(
                self._defaults.items(),
                endpoint.headers.items(),
                access.credentials.items(),
                own.items(),
            )
        }
        is_own = bool(endpoint.headers or access.credentials)
        return Destination(
            endpoint.url,
            dict(by_name.values()) if is_own else _shared_headers(tuple(by_name.values())),
            tls=access.context,
            server_name=endpoint.tls.server_name if endpoint.tls else "",
        )

    def __repr__(self) -> str:
        return f"<HttpEndpoint {self._endpoint.url}>"


@lru_cache(maxsize=SHARED_HEADERS_MAX)
def _shared_headers(fields: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """Return one object for all sinks without headers of their own."""
    return dict(fields)


def secret_headers(endpoint: Endpoint, credentials: Mapping[str, str]) -> dict[str, str]:
    """Return every header that may hold a credential; users write them into ``headers``, too."""
    given = {
        name: value for name, value in endpoint.headers.items() if len(value) >= SECRET_CHARS_MIN
    }
    return {**given, **credentials}
