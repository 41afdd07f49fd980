"""Parse a request's path and headers, before any byte of its body is read. Pure.

Paths are those of Prometheus-compatible receivers and of a VictoriaMetrics cluster
(``docs/victoriametrics/Cluster-VictoriaMetrics.md``, ``lib/httpserver/path.go``). As there,
repeated slashes count as one and a trailing one is ignored, because operators join URLs by hand.
"""

from __future__ import annotations

import re
from functools import lru_cache

from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.contract import MULTITENANT, Tenant
from relay.receiver.responses import Reason, RefusedError, Rejection
from relay.runtime.errors import UnsupportedMediaError

_UINT32_MAX = (1 << 32) - 1
_SINGLE = frozenset(
    {"/api/v1/write", "/api/v1/push", "/prometheus/api/v1/write", "/prometheus/api/v1/push"}
)
_CLUSTER = re.compile(r"/insert/([^/]+)/prometheus(?:/api/v1/(?:write|push))?")
_TENANT = re.compile(r"([0-9]{1,10})(?::([0-9]{1,10}))?")

_PROTOBUF = "application/x-protobuf"
_MESSAGES: dict[str, WriteProtocol] = {
    "prometheus.writerequest": "remote_write_v1",
    "io.prometheus.write.v2.request": "remote_write_v2",
}


def tenant_of(path: str) -> Tenant | None:
    """Return the tenant that a decoded path names, None if it names none.

    Raise RefusedError for an unknown path and for an invalid tenant.
    """
    if path in _SINGLE:
        return None
    tidy = re.sub("/{2,}", "/", path)
    tidy = tidy.removesuffix("/") or "/"
    if tidy in _SINGLE:
        return None
    cluster = _CLUSTER.fullmatch(tidy)
    if cluster is None:
        raise RefusedError(
            Rejection(
                Reason.NOT_FOUND,
                "remote write is taken at /api/v1/write, /api/v1/push, the same under /prometheus, "
                "/insert/<accountID>[:<projectID>]/prometheus/api/v1/write and "
                "/insert/multitenant/prometheus/api/v1/write",
            )
        )
    return parse_tenant(cluster[1])


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
    """Return the protocol that a ``Content-Type`` declares; a missing header means 1.0.

    The version header is ignored (remote write 2.0, "Protocol"). Raise UnsupportedMediaError.
    """
    if header is None or not header.strip():
        return "remote_write_v1"
    media_type, *parameters = header.split(";")
    if media_type.strip().lower() != _PROTOBUF:
        raise UnsupportedMediaError(
            f"Content-Type {header[:80]!r} is not accepted; use {_PROTOBUF}"
        )
    protocol: WriteProtocol | None = None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() != "proto":
            continue
        message = value.strip().strip('"').lower()
        known = _MESSAGES.get(message)
        if known is None or protocol not in (None, known):
            raise UnsupportedMediaError(
                f"message {value.strip()[:80]!r} is not accepted; use one of "
                "proto=prometheus.WriteRequest and proto=io.prometheus.write.v2.Request"
            )
        protocol = known
    return protocol or "remote_write_v1"


def message_of(header: str | None) -> WriteProtocol | None:
    """Return the result of :func:`protocol_of`, None for an unsupported type."""
    try:
        return protocol_of(header)
    except UnsupportedMediaError:
        return None
