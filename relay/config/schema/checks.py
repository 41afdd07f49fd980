"""Checks of texts that a schema names in ``x-relay-check`` and ``x-relay-keys``.

Every ``…_problem`` says what is wrong as a sentence part that follows the field's path, "" for
nothing. Values of headers, and endpoints that may hold a password, are never repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from relay.config.schema.source import Node, load
from relay.config.yaml.source_positions import name_end, shown

HEADER_NAME_CHARS_MAX: Final = 256

# What the transport itself decides, and what RFC 9110 §7.6.1 reserves for one hop.
HEADERS_RESERVED: Final = frozenset(
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
REMOTE_WRITE_HEADERS_RESERVED: Final = HEADERS_RESERVED | {"x-prometheus-remote-write-version"}
LABEL_NAME_PATTERN: Final = "^[a-zA-Z_][a-zA-Z0-9_]*$"


def pattern_check(node: Node) -> Callable[[str], str]:
    """Return a check for what the schema of a text demands by its pattern, length and message."""
    found = re.compile(node["pattern"].removesuffix("$") + r"\Z")
    message, chars_max = node["x-relay-message"], node["maxLength"]

    def problem(text: str) -> str:
        if len(text) <= chars_max and found.match(text):
            return ""
        return str(message).replace("{shown}", shown(text))

    return problem


_definitions: Final = load("exporter")["definitions"]
_label_key: Final = _definitions["labelSelector"]["properties"]["matchExpressions"]["items"][
    "properties"
]["key"]
_sinks: Final = load("exporter")["schema"]["properties"]["spec"]["properties"]["sinks"]
_otlp: Final = _sinks["items"]["properties"]["otlp_http"]["properties"]

LABEL_KEY_PATTERN: Final[str] = _label_key["pattern"]
HEADER_NAME_PATTERN: Final[str] = _otlp["authentication"]["properties"]["header"]["pattern"]

dns_label_problem: Final = pattern_check(_definitions["dnsLabel"])
dns_subdomain_problem: Final = pattern_check(_definitions["dnsSubdomain"])
secret_key_problem: Final = pattern_check(_definitions["secretKey"])
label_key_problem: Final = pattern_check(_label_key)
header_value_problem: Final = pattern_check(_otlp["headers"]["additionalProperties"])

_header_name: Final = re.compile(HEADER_NAME_PATTERN.removesuffix("$") + r"\Z")
_label_name: Final = re.compile(LABEL_NAME_PATTERN.removesuffix("$") + r"\Z")


def header_name_problem(text: str) -> str:
    """Return why an exporter may not set this header (RFC 9110 section 5.6.2), or ""."""
    if len(text) > HEADER_NAME_CHARS_MAX or not _header_name.match(text):
        return "is not a valid header name: letters, digits and !#$%&'*+-.^_`|~"
    if text.lower() in HEADERS_RESERVED:
        return "is set by the relay itself and must not be given"
    return ""


def remote_write_header_problem(text: str) -> str:
    """Return why a sink of remote write may not set this header, or ""."""
    if text.lower() in REMOTE_WRITE_HEADERS_RESERVED - HEADERS_RESERVED:
        return "is set by the relay itself: write protocolVersion"
    return header_name_problem(text)


def external_label_problem(text: str) -> str:
    """Return why a sink may not add a label of this name, or ""."""
    if text == "__name__":
        return "is the metric's name and must not be given"
    if not _label_name.match(text):
        return 'is not a valid label name: letters, digits and "_", no digit in front'
    return ""


def label_value_problem(text: str) -> str:
    """Return the fault of a label's value, which must be text in UTF-8, or ""."""
    return "" if text.isprintable() else "must be printable, on one line"


def secret_data_key_problem(text: str) -> str:
    """Return the fault of a key of a Secret's data, without text that may be a value."""
    end = name_end(text, "stringData")
    return secret_key_problem(text if end == len(text) else f"{text[:end]}…")


def label_of_object_problem(text: str) -> str:
    """Return the fault of a label key of a Kubernetes object, or ""."""
    problem = label_key_problem(text)
    return f"the key {problem}" if problem else ""
