"""Read ``remote_write`` of a Prometheus configuration (documentation of 3.x). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.ui.pasting.pasted_sink import (
    PastedSink,
    is_placeholder,
    take_headers,
    take_tls,
    take_url,
)

_VERSIONS: Final = {
    "io.prometheus.write.v2.Request": "2.0",
    "prometheus.WriteRequest": "1.0",
}
_LEFT_OUT: Final = {
    "write_relabel_configs": "write_relabel_configs: choose the series by the selector instead",
    "queue_config": "queue_config: the relay has a queue of its own: see More settings",
    "proxy_url": "proxy_url: a proxy is the operator's setting",
    "oauth2": "oauth2 is not there: use a token",
    "sigv4": "sigv4 is not there: put a signing proxy in between",
    "azuread": "azuread is not there: use a token",
    "google_iam": "google_iam is not there: use a token",
}
_KNOWN: Final = frozenset(
    {"url", "name", "basic_auth", "authorization", "bearer_token", "bearer_token_file", "headers"}
    | {"tls_config", "remote_timeout", "protobuf_message", "metadata_config", "send_exemplars"}
    | {"send_native_histograms", "follow_redirects", "enable_http2", *_LEFT_OUT}
)


def find_remote_writes(value: Any) -> list[Mapping[str, Any]]:
    """Return the entries of a configuration, of its part, or one entry alone; [] for others."""
    if isinstance(value, Mapping):
        if "remote_write" in value:
            return find_remote_writes(value["remote_write"])
        return [value] if isinstance(value.get("url"), str) else []
    if isinstance(value, list):
        return [one for one in value if isinstance(one, Mapping) and "url" in one]
    return []


def read_remote_write(entry: Mapping[str, Any], external: object = None) -> PastedSink:
    """Return the sink of an entry; ``external`` are the configuration's ``external_labels``."""
    pasted = PastedSink("prometheusRemoteWrite")
    endpoint = pasted.endpoint
    endpoint["endpoint"] = str(entry.get("url", "")).strip()
    _take_credentials(pasted, entry)
    if isinstance(entry.get("headers"), Mapping):
        take_headers(pasted, entry["headers"])
    endpoint["endpoint"] = take_url(pasted, endpoint["endpoint"])
    take_tls(pasted, entry.get("tls_config"))
    version = _VERSIONS.get(str(entry.get("protobuf_message", "")))
    if version == "2.0":
        endpoint["protocolVersion"] = version
    timeout = entry.get("remote_timeout")
    if isinstance(timeout, str) and timeout not in ("30s", ""):
        endpoint["timeout"] = timeout
    metadata = entry.get("metadata_config")
    if isinstance(metadata, Mapping) and metadata.get("send") is False:
        endpoint["metadata"] = False
    if isinstance(external, Mapping) and external:
        endpoint["externalLabels"] = {str(name): str(own) for name, own in external.items()}
    pasted.note_left_out(entry, _LEFT_OUT, _KNOWN)
    return pasted


def _take_credentials(pasted: PastedSink, entry: Mapping[str, Any]) -> None:
    basic, authorization = entry.get("basic_auth"), entry.get("authorization")
    if isinstance(basic, Mapping):
        password = _text(basic, "password")
        if not password and "password_file" in basic:
            pasted.note("the password is in a file that is not here: enter it")
        user = _text(basic, "username")
        pasted.sign_with("basicAuth", {"username": user, "password": password})
        if is_placeholder(user):
            pasted.note("the user is left open: enter it")
    elif isinstance(authorization, Mapping):
        credential = _text(authorization, "credentials")
        if not credential and "credentials_file" in authorization:
            pasted.note("the token is in a file that is not here: enter it")
        kind = _text(authorization, "type") or "Bearer"
        if kind.lower() == "bearer":
            pasted.sign_with("bearerToken", {"token": credential})
        else:
            value = f"{kind} {credential}" if credential else ""
            pasted.sign_with("apiKey", {"apiKey": value}, "Authorization")
    elif "bearer_token" in entry or "bearer_token_file" in entry:
        if "bearer_token" not in entry:
            pasted.note("the token is in a file that is not here: enter it")
        pasted.sign_with("bearerToken", {"token": _text(entry, "bearer_token")})


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, str | int):
        return ""
    return str(found).strip()
