"""Builds a remote-write endpoint of validated values; known properties of well-known receivers.

A *profile* says what the answer 400 of a receiver means, and how large its requests may be. What
the author writes wins, with a warning where the receiver is known to refuse it. Sources: the
receivers' own code and documentation (docs/exporters.md, "Profiles of remote write").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import msgspec

from relay.config.exporter.endpoint_access import access_warnings, build_tls
from relay.config.exporter.endpoints import remote_write_url, remote_write_warnings
from relay.config.exporter.types import Authentication, BadRequest, PrometheusRemoteWrite
from relay.config.schema.quantities import seconds_of
from relay.config.yaml.document import Where
from relay.runtime.quantity import format_bytes, parse_bytes

RemoteWriteProfileName = Literal[
    "generic", "prometheus", "mimir", "grafana-cloud-metrics", "victoriametrics"
]

REMOTE_WRITE_PROFILE_NAMES: tuple[RemoteWriteProfileName, ...] = get_args(RemoteWriteProfileName)


class RemoteWriteProfile(msgspec.Struct, frozen=True):
    """One kind of receiver. ``request_bytes_max`` is before compression; None: not known."""

    bad_request: BadRequest = "unknown"
    request_bytes_max: int | None = None


REMOTE_WRITE_PROFILES: dict[RemoteWriteProfileName, RemoteWriteProfile] = {
    "generic": RemoteWriteProfile(),
    # Both refuse larger ones, see tests/integration/sink/test_real_receivers.py.
    "prometheus": RemoteWriteProfile(bad_request="rollback", request_bytes_max=32 << 20),
    "mimir": RemoteWriteProfile(bad_request="partial"),
    "grafana-cloud-metrics": RemoteWriteProfile(bad_request="partial"),
    "victoriametrics": RemoteWriteProfile(bad_request="unreadable", request_bytes_max=32 << 20),
}


def build_remote_write(
    values: dict[str, Any], authentication: Authentication
) -> PrometheusRemoteWrite:
    """Return the endpoint of the validated values of a field ``prometheusRemoteWrite``."""
    default = PrometheusRemoteWrite("")
    profile = REMOTE_WRITE_PROFILES[values.get("profile", "generic")]
    size = values.get("maxRequestBytes")
    labels: dict[str, str] = values.get("externalLabels", {})
    return PrometheusRemoteWrite(
        url=remote_write_url(values.get("endpoint", "")),
        authentication=authentication,
        headers=values.get("headers", {}),
        timeout_s=seconds_of(values, "timeout", default.timeout_s),
        tls=build_tls(values.get("tls")),
        request_bytes_max=profile.request_bytes_max if size is None else parse_bytes(size),
        concurrency=values.get("concurrency", default.concurrency),
        version=values.get("protocolVersion", default.version),
        external_labels=tuple(sorted(labels.items())),
        sends_metadata=values.get("metadata", default.sends_metadata),
        bad_request=profile.bad_request,
    )


def remote_write_sink_warnings(
    endpoint: PrometheusRemoteWrite, values: dict[str, Any]
) -> Iterator[tuple[Where, str]]:
    """Yield warnings about a valid endpoint, with their place below its field."""
    for warning in remote_write_warnings(endpoint.url):
        yield ("endpoint",), warning
    yield from access_warnings(endpoint)
    name = values.get("profile", "generic")
    limit = REMOTE_WRITE_PROFILES[name].request_bytes_max
    if limit is not None and (endpoint.request_bytes_max or limit) > limit:
        refused = f"{name} refuses requests over {format_bytes(limit)} (before compression)"
        yield ("maxRequestBytes",), refused
