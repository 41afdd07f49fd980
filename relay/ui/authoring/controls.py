"""The controls of the form, by their paths in an Exporter; tables by kind of sink. Pure.

Help and choices come from the schema, so that form, reference and validation say the same. What the
form has no control for is written as YAML and kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from relay.apiserver.objects.kinds import ResourceKind, served_kinds
from relay.ui.authoring.signals import SIGNALS, Control, SignalRow


@cache
def exporter_kind() -> ResourceKind:
    """Return the kind that the form writes."""
    return next(kind for kind in served_kinds() if kind.kind == "Exporter")


@dataclass(frozen=True, slots=True)
class SinkKindRow:
    """One kind of sink: its field, its words, and its controls."""

    field: str
    label: str
    controls: tuple[Control, ...]


NAME: Final = Control("name", "Name")
_COMMON: Final = (
    Control("batch.maxSize", "Points a batch, at most", "number", "500", is_rare=True),
    Control("batch.timeout", "A batch waits at most", hint="5s", is_rare=True),
    Control("queue.maxBytes", "Queue, at most", hint="64MiB", is_rare=True),
    Control("queue.maxAge", "A point waits at most", hint="24h", is_rare=True),
    Control("queue.overflow", "When the queue is full", "select", is_rare=True),
)


def _endpoint(field: str, *more: Control) -> tuple[Control, ...]:
    return (
        *more,
        Control(f"{field}.headers", "Headers", "lines", "X-Scope-OrgID: team-a", is_rare=True),
        Control(f"{field}.timeout", "Time for a request", hint="10s", is_rare=True),
        Control(f"{field}.concurrency", "Requests at a time", "number", "1", is_rare=True),
        *_COMMON,
    )


SINK_KINDS: Final = (
    SinkKindRow(
        "otlp_http",
        "OTLP over HTTP",
        _endpoint(
            "otlp_http",
            Control(
                "otlp_http.endpoint", "Endpoint", hint="https://otlp.example.com", is_wide=True
            ),
            Control("otlp_http.profile", "Profile", "select"),
            Control("otlp_http.temporality", "Temporality", "select", is_rare=True),
            Control("otlp_http.metricsEndpoint", "Endpoint of metrics", is_rare=True),
            Control("otlp_http.logsEndpoint", "Endpoint of logs", is_rare=True),
            Control("otlp_http.tracesEndpoint", "Endpoint of traces", is_rare=True),
            Control("otlp_http.compression", "Compression", "select", is_rare=True),
        ),
    ),
    SinkKindRow(
        "prometheusRemoteWrite",
        "Prometheus remote write",
        _endpoint(
            "prometheusRemoteWrite",
            Control(
                "prometheusRemoteWrite.endpoint",
                "Endpoint",
                hint="https://prometheus.example.com/api/v1/write",
                is_wide=True,
            ),
            Control("prometheusRemoteWrite.profile", "Profile", "select"),
            Control("prometheusRemoteWrite.protocolVersion", "Version", "select", is_rare=True),
            Control(
                "prometheusRemoteWrite.externalLabels",
                "Labels that are added",
                "lines",
                "cluster: east",
                is_rare=True,
            ),
        ),
    ),
)
_ROWS: Final = {row.field: row for row in SINK_KINDS}


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """One way to authenticate: its word, and the keys of its Secret with their labels."""

    type: str
    label: str
    keys: tuple[tuple[str, str], ...]


CREDENTIALS: Final = (
    CredentialRow("none", "Without", ()),
    CredentialRow(
        "basicAuth", "User and password", (("username", "User"), ("password", "Password"))
    ),
    CredentialRow("bearerToken", "Bearer token", (("token", "Token"),)),
    CredentialRow("apiKey", "Key in a header", (("apiKey", "Key"),)),
)
_CREDENTIALS: Final = {row.type: row for row in CREDENTIALS}


def sink_kind_of(sink: Mapping[str, Any]) -> SinkKindRow:
    """Return the kind of a sink; of one without any, the first."""
    return next((row for row in SINK_KINDS if row.field in sink), SINK_KINDS[0])


def sink_kind(field: str) -> SinkKindRow | None:
    """Return a kind of sink by its field."""
    return _ROWS.get(field)


def signal_of(source: Mapping[str, Any]) -> SignalRow:
    """Return the signal of a source; of one without any, the first."""
    return next((row for row in SIGNALS if row.field in source), SIGNALS[0])


def credential_row(type_: object) -> CredentialRow:
    """Return the way of authentication by its type, the first for any other."""
    return _CREDENTIALS.get(type_, CREDENTIALS[0]) if isinstance(type_, str) else CREDENTIALS[0]


def steps_of(path: str) -> tuple[str, ...]:
    """Return the steps of a control's path."""
    return tuple(path.split("."))


@cache
def schema_of(section: Literal["sources", "sinks"], path: str) -> Mapping[str, Any]:
    """Return the schema of a control's value."""
    node: Mapping[str, Any] = exporter_kind().node["properties"]["spec"]["properties"][section]
    node = node["items"]
    for step in steps_of(path):
        node = node["properties"][step]
    return node


def choices(section: Literal["sources", "sinks"], control: Control) -> Sequence[str]:
    """Return the values that a choice has; the default is the empty one."""
    found: Sequence[str] = schema_of(section, control.path).get("enum", ())
    return found


def help_of(section: Literal["sources", "sinks"], control: Control) -> str:
    """Return what is said of a control: its own help, and the schema's without its marks."""
    found: str = schema_of(section, control.path).get("description", "")
    return f"{control.help} {found}".replace("`", "").strip()


def is_by_resources(source: Mapping[str, Any]) -> bool:
    """Return True for a source that selects by resources, which is written as YAML."""
    signal = signal_of(source)
    body = source.get(signal.field)
    if not isinstance(body, dict) or signal.selector in body:
        return False
    return bool(body) if signal.field == "metrics" else "resourceSelectors" in body


def source_controls(source: Mapping[str, Any]) -> tuple[Control, ...]:
    """Return the controls of a source; one by resources has none for its selector."""
    signal = signal_of(source)
    if is_by_resources(source):
        return (NAME, *signal.controls)
    path = f"{signal.field}.{signal.selector}"
    selector = Control(
        path, signal.selector_label, "long", signal.placeholder, help=signal.selector_help
    )
    return (NAME, selector, *signal.controls)


def sink_controls(sink: Mapping[str, Any]) -> tuple[Control, ...]:
    """Return the controls of a sink without those of its credentials."""
    return (NAME, *sink_kind_of(sink).controls)


def list_of(value: Any, field: str) -> list[dict[str, Any]]:
    """Return the mappings of a list in a spec, [] for anything else."""
    spec = value.get("spec") if isinstance(value, dict) else None
    found = spec.get(field) if isinstance(spec, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def all_controls(value: Any) -> Iterator[tuple[str, Control]]:
    """Yield every control of a form with the path of its value in the object."""
    for index, source in enumerate(list_of(value, "sources")):
        for control in source_controls(source):
            yield f"spec.sources[{index}].{control.path}", control
    for index, sink in enumerate(list_of(value, "sinks")):
        for control in sink_controls(sink):
            yield f"spec.sinks[{index}].{control.path}", control
