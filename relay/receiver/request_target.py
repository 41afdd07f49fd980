"""Parse a request's path and headers, before any byte of its body is read. Pure.

Paths are those of Prometheus-compatible receivers and of a VictoriaMetrics cluster
(``docs/victoriametrics/Cluster-VictoriaMetrics.md``, ``lib/httpserver/path.go``). As there,
repeated slashes count as one and a trailing one is ignored, because operators join URLs by hand.
"""

from __future__ import annotations

import re
from functools import lru_cache

from relay.codec.compression import SENDER_ENCODINGS, SenderEncoding
from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.contract import MULTITENANT, Tenant
from relay.pipeline.metrics.decoders import DECODERS, DEFAULT_PROTOCOL
from relay.receiver.responses import Reason, RefusedError, Rejection
from relay.runtime.errors import UnsupportedMediaError

_UINT32_MAX = (1 << 32) - 1
_SINGLE = frozenset(
    {"/api/v1/write", "/api/v1/push", "/prometheus/api/v1/write", "/prometheus/api/v1/push"}
)
_CLUSTER = re.compile(r"/insert/([^/]+)/prometheus(?:/api/v1/(?:write|push))?")
_TENANT = re.compile(r"([0-9]{1,10})(?::([0-9]{1,10}))?")


def tenant_of(path: str) -> Tenant | None:
    """Return the tenant that a decoded path names, None if it names none.

    Raise RefusedError for an unknown path and for an invalid tenant.
    """
    if path in _SINGLE:
        return None
    own = tidy(path)
    if own in _SINGLE:
        return None
    cluster = _CLUSTER.fullmatch(own)
    if cluster is None:
        raise RefusedError(
            Rejection(
                Reason.NOT_FOUND,
                "remote write is taken at /api/v1/write, /api/v1/push, the same under /prometheus, "
                "/insert/<accountID>[:<projectID>]/prometheus/api/v1/write and "
                "/insert/multitenant/prometheus/api/v1/write; OTLP at /v1/metrics, /v1/logs and "
                "/v1/traces, and at the same under /insert/<accountID>[:<projectID>]/opentelemetry "
                "and /insert/multitenant/opentelemetry",
            )
        )
    return parse_tenant(cluster[1])


def tidy(path: str) -> str:
    """Return a path without repeated slashes and without one at the end."""
    return re.sub("/{2,}", "/", path).removesuffix("/") or "/"


def parse_tenant(text: str) -> Tenant:
    """Parse ``<accountID>``, ``<accountID>:<projectID>`` or ``multitenant``. Raise RefusedError."""
    if text == "multitenant":
        return MULTITENANT
    parts = _TENANT.fullmatch(text)
    tenant = Tenant(int(parts[1]), int(parts[2] or 0)) if parts else None
    if tenant is None or max(tenant.account, tenant.project) > _UINT32_MAX:
        raise RefusedError(
            Rejection(
                Reason.TENANT,
                f"tenant {text[:80]!r} is not <accountID>[:<projectID>], up to {_UINT32_MAX} each",
            )
        )
    return tenant


@lru_cache(maxsize=16)  # a sender repeats the same header
def protocol_of(header: str | None) -> WriteProtocol:
    """Return the protocol that a ``Content-Type`` names; 1.0 where it is missing, as in Prometheus.

    The version header is ignored (remote write 2.0, "Protocol"). Raise UnsupportedMediaError.
    """
    if header is None or not header.strip():
        return DEFAULT_PROTOCOL
    media_type, *parameters = header.split(";")
    media_type = media_type.strip().lower()
    known = {
        message.lower(): name
        for name, (kind, message) in _content_types().items()
        if kind == media_type
    }
    if not known:
        kinds = dict.fromkeys(kind for kind, _ in _content_types().values())
        raise UnsupportedMediaError(
            f"Content-Type {header[:80]!r} is not accepted; use {' or '.join(kinds)}"
        )
    protocol: WriteProtocol | None = None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() != "proto":
            continue
        found = known.get(value.strip().strip('"').lower())
        if found is None or protocol not in (None, found):
            messages = " and ".join(
                f"proto={message}"
                for kind, message in _content_types().values()
                if kind == media_type
            )
            raise UnsupportedMediaError(
                f"message {value.strip()[:80]!r} is not accepted; use one of {messages}"
            )
        protocol = found
    return protocol or next(iter(known.values()))


def encoding_of(header: str | None) -> SenderEncoding:
    """Parse a request's Content-Encoding; a missing one means snappy, as in Prometheus.

    Raise UnsupportedMediaError for any other, so that it is refused before decoding.
    """
    if not header:
        return "snappy"
    name = header.strip().lower()
    for accepted in SENDER_ENCODINGS:
        if name == accepted:
            return accepted
    choice = " or ".join(SENDER_ENCODINGS)
    raise UnsupportedMediaError(f"Content-Encoding {header[:80]!r} is not accepted; use {choice}")


def _content_types() -> dict[WriteProtocol, tuple[str, str]]:
    return {name: decoder.content_type for name, decoder in DECODERS.items()}


def message_of(header: str | None) -> WriteProtocol | None:
    """Return the result of :func:`protocol_of`, None for an unsupported type."""
    try:
        return protocol_of(header)
    except UnsupportedMediaError:
        return None
