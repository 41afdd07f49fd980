"""The forms of the texts in an Exporter: names and headers.

Every ``…_problem`` says what is wrong as a sentence part that follows the field's path, "" for
nothing. Values of headers, and endpoints that may hold a password, are never repeated.
"""

from __future__ import annotations

import re

from relay.config.yaml.document import shown

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
