"""The forms of the texts in an Exporter: names, headers and endpoints.

Every ``…_problem`` says what is wrong as a sentence part that follows the field's path, "" for
nothing. Values of headers, and endpoints that may hold a password, are never repeated.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from relay.exporter.document import shown

# Kubernetes: RFC 1123 label and subdomain, labels of objects, and a key of a Secret's data
# (apimachinery/pkg/util/validation).
_LABEL = "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_DNS_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_KIND_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}")
_SECRET_KEY = re.compile(r"[-._a-zA-Z0-9]+")

# RFC 9110 §5.6.2 token and §5.5 field values; obs-text is left out.
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"(?:[!-~](?:[ \t!-~]*[!-~])?)?")

# What the transport itself decides, and what RFC 9110 §7.6.1 reserves for one hop.
HEADERS_RESERVED = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# RFC 3986 allows these and nothing else; urlsplit would quietly drop tabs and line breaks.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_URL_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[-A-Za-z0-9_]*[A-Za-z0-9_])?", re.ASCII)
_BRACKETED = re.compile(r"\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
_METRICS_PATH = "/v1/metrics"


def dns_label_problem(text: str) -> str:
    """A name of one part: sources, sinks, namespaces."""
    if _DNS_LABEL.fullmatch(text):
        return ""
    return (
        'must be 1 to 63 lower-case letters, digits and "-", with a letter or digit at both ends, '
        f"not {shown(text)}"
    )


def dns_subdomain_problem(text: str) -> str:
    """A resource's name: labels with dots between them."""
    if len(text) <= 253 and _DNS_SUBDOMAIN.fullmatch(text):
        return ""
    return (
        'must be 1 to 253 lower-case letters, digits, "-" and ".", with a letter or digit at both '
        f"ends of every part, not {shown(text)}"
    )


def secret_key_problem(text: str) -> str:
    """A key of a Secret. Kubernetes refuses ``.``, ``..`` and what begins with ``..``, as we do."""
    if len(text) <= 253 and _SECRET_KEY.fullmatch(text) and text != "." and text[:2] != "..":
        return ""
    return (
        'must be 1 to 253 letters, digits, "-", "_" and ".", and must not begin with "..", '
        f"not {shown(text)}"
    )


def label_key_problem(text: str) -> str:
    """The key of a label of a Kubernetes object: a name, perhaps with a domain before it."""
    domain, slash, name = text.rpartition("/")
    if _LABEL_NAME.fullmatch(name) and (not slash or not dns_subdomain_problem(domain)):
        return ""
    return (
        'must be 1 to 63 letters, digits, "-", "_" and ".", with a letter or digit at both ends, '
        f'perhaps after a domain and "/", not {shown(text)}'
    )


def label_value_problem(text: str) -> str:
    """The value of a label of a Kubernetes object."""
    if not text or _LABEL_NAME.fullmatch(text):
        return ""
    return (
        'must be empty, or 1 to 63 letters, digits, "-", "_" and ".", with a letter or digit at '
        f"both ends, not {shown(text)}"
    )


def api_group_problem(text: str) -> str:
    """An API group of Kubernetes: "" is the core, ``*`` any."""
    if text in ("", "*") or not dns_subdomain_problem(text):
        return ""
    return (
        'must be an API group such as "gateway.networking.k8s.io", "" for the core, or "*" for '
        f"any, not {shown(text)}"
    )


def kind_name_problem(text: str) -> str:
    """A kind, in singular, plural or as its resource is called; ``*`` is any."""
    if text == "*" or _KIND_NAME.fullmatch(text):
        return ""
    return f'must be a kind such as "gateways" or "Gateway", or "*" for any, not {shown(text)}'


def header_name_problem(text: str) -> str:
    """A header that a customer may set."""
    if len(text) > 256 or not _HEADER_NAME.fullmatch(text):
        return "is not a valid header name: letters, digits and !#$%&'*+-.^_`|~"
    if text.lower() in HEADERS_RESERVED:
        return "is set by the relay itself and must not be given"
    return ""


def header_value_problem(text: str) -> str:
    """A header's value, which may be a credential."""
    if _HEADER_VALUE.fullmatch(text):
        return ""
    return "must be printable ASCII without line breaks, and without blanks at the ends"


def endpoint_problem(text: str) -> str:
    """The base endpoint of an OTLP/HTTP receiver."""
    if not _URL_CHARACTERS.fullmatch(text):
        return "must be a URL of ASCII characters without blanks; write other host names as xn--…"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:  # its text may hold a part of a password
        return "is not a valid URL: the host or port is malformed"
    if url.scheme not in ("http", "https") or "://" not in text:
        return 'must begin with "https://" or "http://"'
    if "@" in url.netloc:
        return "must not contain a user or password; use authentication"
    if not url.hostname or not _is_host(url):
        return "must name a host, as in https://otlp.example.com/otlp"
    if not _is_plain_address(url.hostname):
        return (
            "must name a host, or an IPv4 address as four decimal numbers without leading zeros, "
            "as in http://127.0.0.1:4318"
        )
    if port == 0 or url.netloc.endswith(":"):
        return "must have a port from 1 to 65535, or none"
    if "?" in text or "#" in text:
        return 'must not contain a query ("?") or a fragment ("#")'
    if url.path.rstrip("/").endswith(_METRICS_PATH):
        return f'must be the base endpoint: leave out "{_METRICS_PATH}", which is appended to it'
    return ""


def metrics_url(endpoint: str) -> str:
    """Where metrics go for a valid base endpoint: its path is kept and ``v1/metrics`` appended.

    OTLP specification, "OTLP/HTTP Request": the default path of metrics is ``/v1/metrics``,
    relative to the base URL. The scheme comes out in lower case (RFC 3986 §3.1).
    """
    scheme, separator, rest = endpoint.removesuffix("/").partition("://")
    return scheme.lower() + separator + rest + _METRICS_PATH


def _is_host(url: SplitResult) -> bool:
    host = url.hostname or ""
    if "[" in url.netloc:
        return _is_bracketed_address(url.netloc, host)
    parts = host.removesuffix(".").split(".")
    return len(host) <= 254 and all(
        len(part) <= 63 and _HOST_NAME.fullmatch(part) for part in parts
    )


def _is_plain_address(host: str) -> bool:
    """Whether a host that ends in a number is an IPv4 address as everybody reads it.

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
    """RFC 3986 §3.2.2 without zones and future address forms: ``[2001:db8::1]`` and a port."""
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return _BRACKETED.fullmatch(authority) is not None
