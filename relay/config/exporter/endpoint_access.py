"""Builds authentication and TLS of an endpoint, of any kind, and warns about unsafe ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from relay.config.exporter.endpoints import is_loopback
from relay.config.exporter.types import Authentication, ClientTls, Endpoint, SecretRef
from relay.config.yaml.document import Where


def build_authentication(values: dict[str, Any]) -> Authentication:
    """Return the authentication of validated values."""
    return Authentication(
        type=values.get("type", "none"),
        secret=build_secret_ref(values.get("secretRef")),
        header=values.get("header", ""),
    )


def build_secret_ref(values: dict[str, Any] | None) -> SecretRef | None:
    """Return the reference to a Secret of validated values."""
    if values is None:
        return None
    return SecretRef(name=values.get("name", ""), key=values.get("key", ""))


def build_tls(values: dict[str, Any] | None) -> ClientTls | None:
    """Return the TLS settings of validated values."""
    if values is None:
        return None
    return ClientTls(
        ca=build_secret_ref(values.get("caSecretRef")),
        certificate=build_secret_ref(values.get("certificateSecretRef")),
        server_name=values.get("serverName", ""),
        insecure_skip_verify=values.get("insecureSkipVerify", False),
    )


def access_warnings(endpoint: Endpoint) -> Iterator[tuple[Where, str]]:
    """Yield warnings about valid settings, with their place below the endpoint's field."""
    is_plain_http = endpoint.url.startswith("http://")
    has_credentials = endpoint.authentication.type != "none"
    if is_plain_http and has_credentials and not is_loopback(endpoint.url):
        yield ("endpoint",), "credentials travel unencrypted; use https where you can"
    for name in endpoint.headers:
        if name.lower() == "authorization":
            yield ("headers", name), "a credential belongs in a Secret"
    if endpoint.tls is not None and endpoint.tls.insecure_skip_verify:
        yield ("tls", "insecureSkipVerify"), "anyone on the network path can read and change data"
