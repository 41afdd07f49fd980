"""Builds the sources of logs and traces from the validated values of a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from relay.codec.signal_names import RECORD_SIGNALS, SignalName
from relay.config.exporter.resource_selectors import build_resource_selectors
from relay.config.exporter.types import RecordSource
from relay.config.schema.validate import Reading
from relay.config.yaml.document import Where
from relay.runtime.errors import SelectorError
from relay.selector.quoting import quote_string
from relay.selector.records.logql import parse_selector
from relay.selector.records.selection import (
    SEVERITIES,
    LineSelector,
    RecordSelection,
    threshold_of,
)
from relay.selector.resources.label_selector import ResourceSelection

RESOURCE_NAMESPACES: Final = frozenset(
    {
        *("android", "app", "aws", "azure", "browser", "cicd", "cloud", "cloudfoundry"),
        *("container", "cpu", "deployment", "device", "faas", "gcp", "git", "heroku", "host"),
        *("k8s", "milo", "oci", "openshift", "os", "process", "project", "resource", "service"),
        *("telemetry", "vcs", "webengine", "zos", "namespace", "cluster", "gateway", "region"),
    }
)
"""First parts of the names of resources' attributes (OpenTelemetry, semantic conventions,
``docs/resource``), and of those that Datum's resources have."""

SPAN_NAMESPACES: Final = frozenset(
    {
        *("client", "code", "db", "destination", "enduser", "error", "exception", "graphql"),
        *("http", "messaging", "net", "network", "peer", "rpc", "server", "thread"),
        *("url", "user_agent"),
    }
)
"""The same of attributes that spans have and resources do not (``docs/registry/attributes``)."""

WHOLE_TRACES: Final = (
    "with keep: trace a selector may name attributes of the resource only, and {name} is probably "
    "one of spans; if resources have it, write its exact name in quotes"
)

OF_SPANS: Final = (
    "with keep: trace a selector sees attributes of the resource only, and {name} is one of spans: "
    "a resource without it counts as having it empty"
)


def build_record_sources(
    reading: Reading, spec: dict[str, Any], namespace: str
) -> tuple[RecordSource, ...]:
    """Return the sources of logs and traces; faults of their selectors go to the report."""
    return tuple(_sources(reading, spec, namespace))


def _sources(reading: Reading, spec: dict[str, Any], namespace: str) -> Iterator[RecordSource]:
    for index, values in enumerate(spec.get("sources", ())):
        one = values or {}
        for signal in RECORD_SIGNALS:
            if signal in one:
                place = ("spec", "sources", index, signal)
                yield build_record_source(
                    reading, place, one.get("name", ""), signal, one[signal], namespace
                )


def build_record_source(
    reading: Reading,
    place: Where,
    name: str,
    signal: SignalName,
    values: dict[str, Any],
    namespace: str,
) -> RecordSource:
    """Return a source of the valid values of a field ``logs`` or ``traces`` at ``place``."""
    query = values.get("selector", "")
    whole = values.get("keep", "span") == "trace"
    selector = _selector(reading, (*place, "selector"), query, signal)
    if whole:
        for matcher in (one for group in selector.groups for one in group):
            if matcher.is_exact:
                if matcher.name.partition(".")[0] in SPAN_NAMESPACES:
                    message = OF_SPANS.format(name=quote_string(matcher.name))
                    reading.warn(*place, "selector", message=message, offset=matcher.offset)
            elif matcher.name.partition("_")[0] not in RESOURCE_NAMESPACES:
                message = WHOLE_TRACES.format(name=matcher.name)
                reading.report.fault(reading.at(*place, "selector"), message, offset=matcher.offset)
    resources = None
    if values.get("resourceSelectors"):
        found = build_resource_selectors(values["resourceSelectors"])
        resources = ResourceSelection(namespace, found)
    ratio = values.get("sampleRatio", 1)
    selection = RecordSelection(
        selector,
        resources,
        tuple(one for one in values.get("categories", ()) if one is not None),
        SEVERITIES[values["minSeverity"]] if "minSeverity" in values else 0,
        threshold_of(float(ratio)),
        whole,
        tuple(
            (one["attribute"], one["action"])
            for one in values.get("redact", ())
            if one is not None and {"attribute", "action"} <= set(one)
        ),
    )
    return RecordSource(name, signal, query, selection)


def _selector(reading: Reading, place: Where, query: str, signal: SignalName) -> LineSelector:
    try:
        return parse_selector(query, has_lines=signal == "logs")
    except SelectorError as error:
        reading.report.fault(reading.at(*place), str(error), offset=error.offset)
        return LineSelector()
