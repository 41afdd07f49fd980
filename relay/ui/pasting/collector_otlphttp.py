"""Read exporters ``otlphttp`` of a Collector, and OTEL_EXPORTER_OTLP variables. Pure.

Of a whole configuration the extensions that authenticate an exporter are read, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from relay.codec.signal_names import SIGNALS, SignalName
from relay.ui.pasting.pasted_sink import PastedSink, take_headers, take_tls, take_url

_TYPES: Final = ("otlphttp", "otlp_http")
_OTHER_TYPES: Final = ("otlp",)
_COMPRESSIONS: Final = ("gzip", "zstd", "none")
_OWN: Final = tuple(f"{signal}_endpoint" for signal in SIGNALS)
_ENDPOINTS: Final = ("endpoint", *_OWN)
_LEFT_OUT: Final = {
    "sending_queue": "sending_queue: the relay has a queue of its own: see More settings",
    "retry_on_failure": "retry_on_failure: the relay tries again for as long as a point may wait",
    "proxy_url": "proxy_url: a proxy is the operator's setting",
    "encoding": "encoding: bodies are protobuf",
}
_KNOWN: Final = frozenset(
    {*_ENDPOINTS, "headers", "auth", "tls", "compression", "timeout", "read_buffer_size"}
    | {"write_buffer_size", *_LEFT_OUT}
)
PREFIX: Final = "OTEL_EXPORTER_OTLP_"


def find_otlphttps(value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the exporters of a configuration, or of its part, by name; [] for others."""
    if not isinstance(value, Mapping):
        return []
    if isinstance(value.get("exporters"), Mapping):
        return find_otlphttps(value["exporters"])
    found = [
        (str(name), body if isinstance(body, Mapping) else {})
        for name, body in value.items()
        if str(name).partition("/")[0] in _TYPES
    ]
    if not found and any(isinstance(value.get(name), str) for name in _ENDPOINTS):
        return [("otlphttp", value)]
    return found


def has_grpc_exporter(value: Any) -> bool:
    """Return True for a configuration whose exporters of OTLP speak gRPC."""
    exporters = value.get("exporters", value) if isinstance(value, Mapping) else {}
    if not isinstance(exporters, Mapping):
        return False
    return any(str(name).partition("/")[0] in _OTHER_TYPES for name in exporters)


def read_otlphttp(body: Mapping[str, Any], extensions: object = None) -> PastedSink:
    """Return the sink of an exporter; ``extensions`` are the configuration's."""
    pasted = PastedSink("otlp_http")
    own = {signal: body.get(f"{signal}_endpoint") for signal in SIGNALS}
    if not _take_endpoints(pasted, body.get("endpoint"), own):
        pasted.note("the exporter has no endpoint: enter it")
    auth = body.get("auth")
    if isinstance(auth, Mapping) and auth.get("authenticator"):
        _take_extension(pasted, str(auth["authenticator"]), extensions)
    headers = body.get("headers")
    if isinstance(headers, Mapping):
        take_headers(pasted, headers)
    elif isinstance(headers, list):  # a list of {name, value}, as newer collectors take it
        pairs = [one for one in headers if isinstance(one, Mapping) and "name" in one]
        take_headers(pasted, {str(one["name"]): one.get("value", "") for one in pairs})
    _take_user(pasted)
    take_tls(pasted, body.get("tls"))
    compression = body.get("compression")
    if compression in _COMPRESSIONS and compression != "gzip":
        pasted.endpoint["compression"] = compression
    elif compression not in (None, "", *_COMPRESSIONS):
        pasted.note(f"compression {str(compression)[:20]} is not there: gzip is used")
    timeout = body.get("timeout")
    if isinstance(timeout, str) and timeout not in ("", "30s", "0s"):
        pasted.endpoint["timeout"] = timeout
    pasted.note_left_out(body, _LEFT_OUT, _KNOWN)
    return pasted


def _take_user(pasted: PastedSink) -> None:
    for key in ("endpoint", *(f"{signal}Endpoint" for signal in SIGNALS)):
        if key in pasted.endpoint:
            pasted.endpoint[key] = take_url(pasted, pasted.endpoint[key])


def _take_endpoints(pasted: PastedSink, base: object, own: Mapping[SignalName, object]) -> bool:
    """Take the base endpoint and those of single signals; return False without any."""
    urls = {
        signal: text
        for signal, url in own.items()
        if isinstance(url, str) and (text := url.strip().rstrip("/"))
    }
    if isinstance(base, str) and base.strip():
        endpoint = base_url(base)
    elif urls:
        endpoint = next(map(base_url, urls.values()))
    else:
        return False
    pasted.endpoint["endpoint"] = endpoint
    for signal, url in urls.items():
        if url != f"{endpoint}/v1/{signal}":
            pasted.endpoint[f"{signal}Endpoint"] = url
    if urls and "metrics" not in urls and not base:
        pasted.note(f"the endpoint is of {' and '.join(urls)}: choose such a source")
    return True


def base_url(url: str) -> str:
    """Return an endpoint without the path of a signal that is appended."""
    text = url.strip().rstrip("/")
    for signal in SIGNALS:
        text = text.removesuffix(f"/v1/{signal}")
    return text


def _take_extension(pasted: PastedSink, name: str, extensions: object) -> None:
    found = extensions.get(name) if isinstance(extensions, Mapping) else None
    kind = name.partition("/")[0]
    body = found if isinstance(found, Mapping) else {}
    if kind == "basicauth":
        client = body.get("client_auth")
        basic = client if isinstance(client, Mapping) else {}
        user, password = (str(basic.get(key) or "") for key in ("username", "password"))
        pasted.sign_with("basicAuth", {"username": user, "password": password})
    elif kind == "bearertokenauth":
        pasted.sign_with("bearerToken", {"token": str(body.get("token") or "")})
    else:
        pasted.note(f"the authenticator {name[:60]} is not there: use a token")
    if found is None:
        pasted.note(f"the extension {name[:60]} is not in the snippet: enter its credentials")


def read_variables(text: str) -> dict[str, str]:
    """Return the OTEL_EXPORTER_OTLP variables of a text of assignments, {} without any."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").strip().partition("=")
        if equals and name.strip().startswith(PREFIX):
            found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if is_quoted else text


def read_environment(variables: Mapping[str, str]) -> PastedSink:
    """Return the sink that the variables name (OpenTelemetry specification, OTLP exporter)."""
    pasted = PastedSink("otlp_http")
    own = {signal: variables.get(f"{PREFIX}{signal.upper()}_ENDPOINT") for signal in SIGNALS}
    if not _take_endpoints(pasted, variables.get(f"{PREFIX}ENDPOINT"), own):
        pasted.note("there is no endpoint: enter it")
    headers = variables.get(f"{PREFIX}METRICS_HEADERS") or variables.get(f"{PREFIX}HEADERS") or ""
    pairs = (one.partition("=") for one in headers.split(",") if one.strip())
    take_headers(pasted, {name.strip(): unquote(value).strip() for name, _, value in pairs})
    _take_user(pasted)
    protocol = variables.get(f"{PREFIX}PROTOCOL", "")
    if protocol == "grpc":
        pasted.note("the protocol is grpc: take the endpoint for HTTP")
    return pasted
