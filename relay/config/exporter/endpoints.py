"""Checks a sink's endpoint, and warns if it is probably not a receiver of the sink's kind.

Every message says what to write instead. An endpoint that may hold a password is never repeated.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import SplitResult, urlsplit

METRICS_PATH: Final = "/v1/metrics"

# RFC 3986 allows these and nothing else; urlsplit would quietly drop tabs and line breaks.
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_URL_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[-A-Za-z0-9_]*[A-Za-z0-9_])?", re.ASCII)
_BRACKETED: Final = re.compile(r"\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")

# What may safely be offered as the rest of a URL: a host, perhaps a port, perhaps a path.
_AUTHORITY: Final = re.compile(
    r"(?P<host>[A-Za-z0-9](?:[-A-Za-z0-9._]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
    r"(?P<port>:[0-9]{1,5})?(?P<path>/[-A-Za-z0-9._~/]*)?"
)
_TLS_PORTS: Final = (":443", ":8443")
_GRPC_SCHEMES: Final = ("grpc", "grpcs", "dns", "unix")
_GRPC_PORT: Final = 4317
_HTTP_PORT: Final = 4318

_REMOTE_WRITE: Final = (
    "is where Prometheus remote write goes, and otlp_http sends OTLP: write prometheusRemoteWrite "
    "in its place; for OTLP, {instead}"
)
_PATH_WARNINGS: Final = {
    "/api/prom/push": _REMOTE_WRITE.format(
        instead="Grafana Cloud's is https://otlp-gateway-<zone>.grafana.net/otlp, Mimir's …/otlp"
    ),
    "/api/v1/push": _REMOTE_WRITE.format(instead="Mimir's is https://<host>/otlp"),
    "/api/v1/write": _REMOTE_WRITE.format(
        instead="Prometheus' is http://<host>:9090/api/v1/otlp, VictoriaMetrics' "
        "http://<host>:8428/opentelemetry"
    ),
    "/api/v1/receive": _REMOTE_WRITE.format(instead="Thanos' is http://<host>:19291"),
    "/v1/traces": "is where traces go: write the base endpoint, without /v1/traces",
    "/v1/logs": "is where logs go: write the base endpoint, without /v1/logs",
    "/api/v1/import": "is VictoriaMetrics' own format; OTLP goes to http://<host>:8428/opentelemetry",
}
"""End of the path: what is wrong with it."""
_HOST_WARNINGS: Final = (
    (
        re.compile(
            r"(?:api|app)\.(?P<site>(?:[a-z0-9]+\.)?(?:datadoghq\.(?:com|eu)|ddog-gov\.com))"
        ),
        "is Datadog's API; OTLP metrics go to https://otlp.{site}, with profile: datadog",
    ),
    (
        re.compile(r"(?P<site>metric-api)\.(?:eu\.)?newrelic\.com"),
        "is New Relic's own API; OTLP goes to https://otlp.nr-data.net, with profile: newrelic",
    ),
    (
        re.compile(r"(?P<site>prometheus)-prod-[-a-z0-9]+\.grafana\.net"),
        (
            "takes remote write, and otlp_http sends OTLP: write prometheusRemoteWrite in its "
            "place; Grafana Cloud's OTLP is at https://otlp-gateway-<zone>.grafana.net/otlp"
        ),
    ),
)
"""Host: what is wrong with it."""

_OTLP: Final = (
    "is where OTLP goes, and prometheusRemoteWrite sends remote write: write otlp_http in its "
    "place; for remote write, {instead}"
)
_OF_PROMETHEUS: Final = "Prometheus' is http://<host>:9090/api/v1/write"
_REMOTE_WRITE_PATH_WARNINGS: Final = {
    "/api/v1/otlp/v1/metrics": _OTLP.format(instead=_OF_PROMETHEUS),
    "/api/v1/otlp": _OTLP.format(instead=_OF_PROMETHEUS),
    "/opentelemetry/v1/metrics": _OTLP.format(
        instead="VictoriaMetrics' is http://<host>:8428/api/v1/write"
    ),
    "/opentelemetry": _OTLP.format(instead="VictoriaMetrics' is http://<host>:8428/api/v1/write"),
    "/otlp": _OTLP.format(instead="Mimir's is https://<host>/api/v1/push"),
    METRICS_PATH: _OTLP.format(instead=_OF_PROMETHEUS),
    "/api/v1/read": f"is where remote read goes; {_OF_PROMETHEUS}",
    "/api/prom/api/v1/read": "is where queries go; Grafana Cloud's remote write is …/api/prom/push",
    "/api/v1/import": (
        "is VictoriaMetrics' own format; remote write goes to http://<host>:8428/api/v1/write"
    ),
    "/api/v1/import/prometheus": (
        "takes the text format; remote write goes to http://<host>:8428/api/v1/write"
    ),
}
"""End of the path: what is wrong with it for remote write; the longest that fits counts."""
_REMOTE_WRITE_HOST_WARNINGS: Final = (
    (
        re.compile(r"otlp-gateway-[-a-z0-9]+\.grafana\.net"),
        (
            "takes OTLP; Grafana Cloud's remote write is at "
            "https://prometheus-prod-<number>-<zone>.grafana.net/api/prom/push"
        ),
    ),
    (
        re.compile(r"otlp\.(?:[a-z0-9]+\.)?(?:datadoghq\.(?:com|eu)|ddog-gov\.com)"),
        "takes OTLP and no remote write: write otlp_http, with profile: datadog",
    ),
)
"""Host: what is wrong with it for remote write."""

NOT_ASCII: Final = (
    "must be a URL of ASCII characters without blanks; write other host names as xn--…"
)
WRONG_SCHEME: Final = 'must begin with "https://" or "http://"'
HAS_USER: Final = "must not contain a user or password; use authentication"
HAS_QUERY: Final = 'must not contain a query ("?") or a fragment ("#")'
NO_HOST: Final = "must name a host, as in {example}"
OTLP_EXAMPLE: Final = "https://otlp.example.com/otlp"
REMOTE_WRITE_EXAMPLE: Final = "https://prometheus.example.com/api/v1/write"


def endpoint_problem(text: str) -> str:
    """Return the fault of the base endpoint of an OTLP/HTTP receiver, "" for none."""
    return _url_problem(text, OTLP_EXAMPLE, _offer)


def remote_write_problem(text: str) -> str:
    """Return the fault of the URL of a remote-write receiver, "" for none."""
    return _url_problem(text, REMOTE_WRITE_EXAMPLE, _offer_scheme)


def _url_problem(text: str, example: str, offer: Callable[[str], str]) -> str:
    if not _URL_CHARACTERS.fullmatch(text):
        return NOT_ASCII
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:  # its text may hold a part of a password
        return "is not a valid URL: the host or port is malformed"
    if url.scheme not in ("http", "https") or "://" not in text:
        return WRONG_SCHEME + offer(text)
    if "@" in url.netloc:
        return HAS_USER
    if not url.hostname or not _is_host(url):
        return NO_HOST.format(example=example)
    if not _is_plain_address(url.hostname):
        return (
            "must name a host, or an IPv4 address as four decimal numbers without leading zeros, "
            "as in http://127.0.0.1:4318"
        )
    if port == 0 or url.netloc.endswith(":"):
        return "must have a port from 1 to 65535, or none"
    if "?" in text or "#" in text:
        return HAS_QUERY
    return ""


def endpoint_warnings(text: str) -> Iterator[str]:
    """Yield probable mistakes in a valid endpoint, each with the remedy."""
    url = urlsplit(text)
    path = url.path.rstrip("/")
    if path.endswith(METRICS_PATH):
        base = text.rstrip("/").removesuffix(METRICS_PATH)
        yield f'"{METRICS_PATH}" is appended to the base endpoint by itself: write {base}'
    if url.port == _GRPC_PORT:
        yield (
            f"port {_GRPC_PORT} is that of OTLP over gRPC, and the relay speaks OTLP over HTTP: "
            f"write port {_HTTP_PORT}, unless your receiver is set up otherwise"
        )
    for ending, warning in _PATH_WARNINGS.items():
        if path.endswith(ending):
            yield f"{ending} {warning}"
            return
    host = (url.hostname or "").lower()
    for pattern, warning in _HOST_WARNINGS:
        if found := pattern.fullmatch(host):
            yield f"{host} {warning.format(site=found['site'])}"


def remote_write_warnings(text: str) -> Iterator[str]:
    """Yield probable mistakes in a valid URL of a remote-write receiver, each with the remedy."""
    url = urlsplit(text)
    path = url.path.rstrip("/")
    for ending, warning in _REMOTE_WRITE_PATH_WARNINGS.items():
        if path.endswith(ending):
            yield f"{ending} {warning}"
            return
    host = (url.hostname or "").lower()
    for pattern, warning in _REMOTE_WRITE_HOST_WARNINGS:
        if pattern.fullmatch(host):
            yield f"{host} {warning}"
            return
    if not path:
        yield f"has no path, and nothing is appended: write the whole URL; {_OF_PROMETHEUS}"


def is_loopback(text: str) -> bool:
    """Tell whether a valid endpoint's host is this machine, by address or as ``localhost``."""
    host = (urlsplit(text).hostname or "").removesuffix(".")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def remote_write_url(endpoint: str) -> str:
    """Return a valid URL with its scheme in lower case (RFC 3986 §3.1), otherwise as it is."""
    scheme, separator, rest = endpoint.partition("://")
    return scheme.lower() + separator + rest


def signal_url(endpoint: str, signal: str) -> str:
    """Return a valid base endpoint with the path of a signal appended."""
    return f"{metrics_url(endpoint).removesuffix(METRICS_PATH)}/v1/{signal}"


def own_url_warnings(text: str) -> Iterator[str]:
    """Yield probable mistakes in the valid whole URL of one signal."""
    if not urlsplit(text).path.strip("/"):
        yield "has no path, and nothing is appended: write the whole URL, or endpoint alone"


def metrics_url(endpoint: str) -> str:
    """Return a valid base endpoint with ``v1/metrics`` appended to its path.

    OTLP specification, "OTLP/HTTP Request": the default path of metrics is ``/v1/metrics``,
    relative to the base URL; an endpoint that ends in it already is taken as it is. The scheme
    comes out in lower case (RFC 3986 §3.1).
    """
    scheme, separator, rest = endpoint.rstrip("/").partition("://")
    base = rest.removesuffix(METRICS_PATH)
    if rest == base:
        base = endpoint.removesuffix("/").partition("://")[2]
    return scheme.lower() + separator + base + METRICS_PATH


def _offer(text: str) -> str:
    """Return the corrected form of an endpoint without a scheme, or with one of gRPC's."""
    scheme, separator, rest = text.partition("://")
    is_grpc = bool(separator) and scheme.lower() in _GRPC_SCHEMES
    found = _AUTHORITY.fullmatch(rest if is_grpc else text)
    if found is None or (separator and not is_grpc):
        return ""
    host, port, path = found["host"], found["port"] or "", found["path"] or ""
    if is_grpc or port == f":{_GRPC_PORT}":
        offered = f"http://{host}:{_HTTP_PORT}{path}"
        return f"; the relay speaks OTLP over HTTP, not gRPC: write {offered}"
    return f"; write {_scheme_for(port)}://{host}{port}{path}"


def _offer_scheme(text: str) -> str:
    """Return the corrected form of a URL without a scheme."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return ""
    return f"; write {_scheme_for(found['port'] or '')}://{text}"


def _scheme_for(port: str) -> str:
    return "http" if port and port not in _TLS_PORTS else "https"


def _is_host(url: SplitResult) -> bool:
    host = url.hostname or ""
    if "[" in url.netloc:
        return _is_bracketed_address(url.netloc, host)
    parts = host.removesuffix(".").split(".")
    return len(host) <= 254 and all(
        len(part) <= 63 and _HOST_NAME.fullmatch(part) for part in parts
    )


def _is_plain_address(host: str) -> bool:
    """Tell whether a host that ends in a number is an IPv4 address to every resolver.

    ``0``, ``127.1``, ``2130706433``, ``0x7f.1`` and ``0177.0.0.1`` are addresses to some
    resolvers, and none to the relay's own.
    """
    last = host.removesuffix(".").rpartition(".")[2]
    if not _NUMBER.fullmatch(last):
        return True
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _is_bracketed_address(authority: str, host: str) -> bool:
    """Check RFC 3986 §3.2.2 without zones and future forms: ``[2001:db8::1]`` and a port."""
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return _BRACKETED.fullmatch(authority) is not None
