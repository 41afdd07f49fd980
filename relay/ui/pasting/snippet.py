"""Tell a snippet's format, and read it. Pure."""

from __future__ import annotations

from typing import Any, Final

from relay.config.yaml.document import dotted, parse_documents
from relay.ui.pasting.collector_otlphttp import (
    find_otlphttps,
    has_grpc_exporter,
    read_environment,
    read_otlphttp,
    read_variables,
)
from relay.ui.pasting.pasted_sink import PastedSink
from relay.ui.pasting.prometheus_remote_write import find_remote_writes, read_remote_write

SNIPPET_CHARS_MAX: Final = 64 * 1024
SINKS_MAX: Final = 10
_UNKNOWN: Final = (
    "This is neither Prometheus' remote_write nor a collector's otlphttp exporter: paste the part "
    "of the configuration that your vendor shows."
)


class SnippetError(Exception):
    """A snippet cannot be read; the message says why."""


def read_snippet(text: str) -> list[PastedSink]:
    """Return the sinks of a snippet, at least one; raise SnippetError."""
    if not text.strip():
        raise SnippetError("Paste a snippet first.")
    if len(text) > SNIPPET_CHARS_MAX:
        raise SnippetError(f"The snippet has more than {SNIPPET_CHARS_MAX} characters.")
    variables = read_variables(text)
    if variables:
        return [read_environment(variables)]
    value = _value(text)
    entries = find_remote_writes(value)
    if entries:
        general = value.get("global") if isinstance(value, dict) else None
        external = general.get("external_labels") if isinstance(general, dict) else None
        return [read_remote_write(entry, external) for entry in entries[:SINKS_MAX]]
    exporters = find_otlphttps(value)
    if exporters:
        extensions = value.get("extensions") if isinstance(value, dict) else None
        return [read_otlphttp(body, extensions) for _, body in exporters[:SINKS_MAX]]
    if has_grpc_exporter(value):
        raise SnippetError(
            "This exporter speaks gRPC (otlp). Take your vendor's snippet for otlphttp."
        )
    raise SnippetError(_UNKNOWN)


def _value(text: str) -> Any:
    """Return the value of a snippet in YAML, also of one that was cut out with its indentation."""
    documents = parse_documents(_outdented(text), "")
    for document in documents:
        for where, message in document.faults:
            place = dotted(where)
            raise SnippetError(f"The snippet is no YAML: {place + ': ' if place else ''}{message}.")
    if len(documents) != 1:
        raise SnippetError(_UNKNOWN)
    return documents[0].value


def _outdented(text: str) -> str:
    """Return a text whose first line has no indentation, nor others that much."""
    lines = text.expandtabs(2).splitlines()
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    depth = len(first) - len(first.lstrip())
    kept = (line[depth:] if not line[:depth].strip() else line for line in lines)
    return "\n".join(line for line in kept if not line.startswith("#"))
