"""Parse the path and headers of an OTLP/HTTP request, before any byte of its body is read. Pure.

Paths are those of the specification, ``/v1/metrics``, ``/v1/logs`` and ``/v1/traces``, and those of
a VictoriaMetrics cluster with the same behind ``/insert/<accountID>[:<projectID>]/opentelemetry``.
Repeated slashes count as one and a trailing one is ignored, as for remote write.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from relay.codec.compression import OTLP_ENCODINGS, SenderEncoding
from relay.codec.remote_write.v1 import WriteProtocol
from relay.codec.signal_names import SignalName
from relay.pipeline.contract import Tenant
from relay.pipeline.metrics.otlp.decoder import OTLP_METRICS
from relay.pipeline.records.pipeline import PROTOCOLS
from relay.receiver.request_target import parse_tenant, tidy
from relay.runtime.errors import UnsupportedMediaError

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

_SIGNALS: Final[dict[str, SignalName]] = {
    "/v1/metrics": "metrics",
    "/v1/logs": "logs",
    "/v1/traces": "traces",
}
OTLP_PROTOCOLS: Final[dict[SignalName, WriteProtocol]] = {
    "metrics": OTLP_METRICS,
    "logs": PROTOCOLS["logs"],
    "traces": PROTOCOLS["traces"],
}
_CLUSTER: Final = re.compile(r"/insert/([^/]+)/opentelemetry(/v1/(?:logs|metrics|traces))")


class OtlpTarget(NamedTuple):
    """An OTLP request by its path; ``account`` is the text of its tenant, "" for none."""

    signal: SignalName
    account: str

    @property
    def tenant(self) -> Tenant | None:
        """The tenant. Raise RefusedError where it is invalid."""
        return parse_tenant(self.account) if self.account else None

    @property
    def protocol(self) -> WriteProtocol:
        """The name of its protocol."""
        return OTLP_PROTOCOLS[self.signal]


_TARGETS: Final = {path: OtlpTarget(signal, "") for path, signal in _SIGNALS.items()}


def otlp_target(path: str) -> OtlpTarget | None:
    """Return what a decoded path asks for; None where it is not OTLP's."""
    found = _TARGETS.get(path)
    if found is not None or "/v1/" not in path:
        return found
    own = tidy(path)
    cluster = _CLUSTER.fullmatch(own)
    if cluster is not None:
        return OtlpTarget(_SIGNALS[cluster[2]], cluster[1])
    return _TARGETS.get(own)


def media_type_of(header: str | None) -> str:
    """Return :data:`PROTOBUF` or :data:`JSON`. Raise UnsupportedMediaError."""
    media_type = (header or "").partition(";")[0].strip().lower()
    if media_type in (PROTOBUF, JSON):
        return media_type
    shown = f"{header[:80]!r} is not accepted" if header else "is missing"
    raise UnsupportedMediaError(f"Content-Type {shown}; use {PROTOBUF} or {JSON}")


def answer_type_of(header: str | None) -> str:
    """Return the media type of the answer: the request's own, else :data:`PROTOBUF`."""
    try:
        return media_type_of(header)
    except UnsupportedMediaError:
        return PROTOBUF


def encoding_of(header: str | None) -> SenderEncoding:
    """Parse a request's Content-Encoding. Raise UnsupportedMediaError."""
    name = (header or "").strip().lower()
    if name in ("", "identity"):
        return "none"
    for accepted in OTLP_ENCODINGS:
        if name == accepted != "none":
            return accepted
    raise UnsupportedMediaError(
        f"Content-Encoding {name[:80]!r} is not accepted; use gzip or zstd, or none"
    )
