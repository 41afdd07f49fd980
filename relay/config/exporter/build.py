"""Builds an :class:`Exporter` from the validated values of a manifest.

Rules that a schema can express are in ``relay/config/schema/exporter.yaml``. Rules that need a
parser, and warnings, are here; rules over secrets and other resources are in
:mod:`relay.config.exporter.cross_checks`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any, Final

from relay.codec.signal_names import RECORD_SIGNALS, SignalName
from relay.config.exporter.backend_profiles import PROFILES, ProfileName, profile_warnings
from relay.config.exporter.endpoint_access import (
    access_warnings,
    build_authentication,
    build_tls,
)
from relay.config.exporter.endpoints import (
    endpoint_problem,
    endpoint_warnings,
    metrics_url,
    own_url_warnings,
    remote_write_problem,
    remote_write_url,
    signal_url,
)
from relay.config.exporter.records.build import build_record_sources
from relay.config.exporter.remote_write import build_remote_write, remote_write_sink_warnings
from relay.config.exporter.resource_selectors import build_resource_selectors
from relay.config.exporter.types import (
    NO_LABELS,
    Batch,
    Exporter,
    OtlpHttp,
    PrometheusRemoteWrite,
    Queue,
    RecordSource,
    RetrySettings,
    Sink,
    Source,
)
from relay.config.schema.checks import (
    external_label_problem,
    header_name_problem,
    label_key_problem,
    label_of_object_problem,
    label_value_problem,
    remote_write_header_problem,
    secret_data_key_problem,
)
from relay.config.schema.quantities import bytes_of, seconds_of
from relay.config.schema.rules import RULES
from relay.config.schema.source import load
from relay.config.schema.validate import Reading, Schema
from relay.config.yaml.document import Where
from relay.runtime.errors import SelectorError
from relay.runtime.quantity import parse_bytes
from relay.selector import lint
from relay.selector.histogram_coverage import split_histograms, whole_names
from relay.selector.matchers import Selector
from relay.selector.metricsql.parser import parse_query
from relay.selector.resources.label_selector import ResourceSelection, Selection

API_VERSION: Final = "telemetry.datumapis.com/v1alpha1"
KIND: Final = "Exporter"
NAMESPACE_DEFAULT: Final = "default"

EVERYTHING: Final = Selector(groups=())
METRICS_ONLY: Final = (
    "prometheusRemoteWrite takes metrics only, and {name} is a source of {signal}: "
    "name the sources of metrics, and send {signal} to a sink with otlp_http"
)
NOTHING_FOR_METRICS: Final = (
    "takes metrics only, and the exporter has no source of metrics: nothing is sent; add such a "
    "source, or send logs and traces to a sink with otlp_http"
)
PAUSED: Final = "nothing is sent while this is true; the queue is kept within its limits"

CHECKS: Final = {
    "endpoint": endpoint_problem,
    "externalLabel": external_label_problem,
    "headerName": header_name_problem,
    "labelKey": label_key_problem,
    "labelOfObject": label_of_object_problem,
    "labelValue": label_value_problem,
    "remoteWriteEndpoint": remote_write_problem,
    "remoteWriteHeader": remote_write_header_problem,
    "secretKey": secret_data_key_problem,
}


@cache
def exporter_schema() -> Schema:
    """Return the schema of an Exporter."""
    return Schema(load("exporter")["schema"], checks=CHECKS, rules=RULES)


@cache
def secret_schema() -> Schema:
    """Return the schema of a Secret."""
    return Schema(load("exporter")["secret"], checks=CHECKS, rules=RULES)


@cache
def list_schema() -> Schema:
    """Return the schema of a ``kind: List``, whose items are read one by one."""
    return Schema(load("exporter")["list"], checks=CHECKS, rules=RULES)


def identity_of(reading: Reading, kind: str) -> tuple[str, str] | None:
    """Return namespace and name, which become the report's subject; None if either is faulty."""
    metadata = reading.values.get("metadata", {})
    name = metadata.get("name")
    if not name or reading.is_faulty("metadata", "namespace"):
        return None
    namespace = str(metadata.get("namespace", NAMESPACE_DEFAULT))
    reading.report.subject = f"{kind} {namespace}/{name}"
    return namespace, str(name)


def build_exporter(reading: Reading, identity: tuple[str, str], project: str) -> Exporter:
    """Return the Exporter; it may run only if the reading's report is not faulty then."""
    spec = reading.values.get("spec", {})
    sources = _sources(reading, spec, identity[0])
    records = build_record_sources(reading, spec, identity[0])
    sinks = _sinks(reading, spec, sources, records)
    return exporter_of(reading, identity, project, sources, sinks, records)


def exporter_of(
    reading: Reading,
    identity: tuple[str, str],
    project: str,
    sources: tuple[Source, ...],
    sinks: tuple[Sink, ...],
    record_sources: tuple[RecordSource, ...] = (),
) -> Exporter:
    """Return an object with these sources and sinks; the rest is what its reading has in common."""
    report = reading.report
    metadata = reading.values.get("metadata", {})
    uid, generation = metadata.get("uid"), metadata.get("generation")
    return Exporter(
        project=project,
        namespace=identity[0],
        name=identity[1],
        sources=sources,
        sinks=sinks,
        record_sources=record_sources,
        uid=uid if isinstance(uid, str) else "",
        warnings=report.warnings,
        origin=report.origin(reading.at()),
        file=str(report.document.file),
        generation=generation if isinstance(generation, int) else 0,
        created_at=_timestamp(metadata.get("creationTimestamp")),
    )


def _timestamp(text: object) -> float | None:
    """Return a time in RFC 3339 in seconds since the epoch; None for anything else."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment.timestamp() if moment is not None and moment.tzinfo is not None else None


def _sources(reading: Reading, spec: dict[str, Any], namespace: str) -> tuple[Source, ...]:
    sources: list[Source] = []
    for index, values in enumerate(spec.get("sources", ())):
        one = values or {}
        if any(signal in one for signal in RECORD_SIGNALS):
            continue
        place = ("spec", "sources", index, "metrics")
        name, metrics = one.get("name", ""), one.get("metrics", {})
        sources.append(build_source(reading, place, name, metrics, namespace))
    named = [
        (one.name, one.selector if isinstance(one.selector, Selector) else None) for one in sources
    ]
    for index, warning in lint.overlaps(named) if not reading.report.faulty else ():
        reading.warn("spec", "sources", index, "metrics", message=warning)
    return tuple(sources)


def build_source(
    reading: Reading, place: Where, name: str, metrics: dict[str, Any], namespace: str
) -> Source:
    """Return a source of the valid values of a field ``metrics``, which stands at ``place``.

    Without a selector it selects everything.
    """
    query, selector = "", EVERYTHING
    if "metricsql" in metrics:
        query = metrics["metricsql"]
        selector = _selector(reading, (*place, "metricsql"), query)
    selection: Selection = selector
    if "metricsql" not in metrics and metrics.get("resourceSelectors"):
        found = build_resource_selectors(metrics["resourceSelectors"])
        selection = ResourceSelection(namespace, found)
    return Source(name, query, selection)


def _selector(reading: Reading, place: Where, query: str) -> Selector:
    try:
        selector = parse_query(query)
    except SelectorError as error:
        reading.report.fault(reading.at(*place), str(error), offset=error.offset)
        return EVERYTHING
    for warning in (*split_histograms(selector), *whole_names(selector)):
        reading.warn(*place, message=warning)
    for remark in (*selector.remarks, *lint.remarks(selector)):
        reading.warn(*place, message=remark.text, offset=max(remark.offset, 0))
    return selector


def _sinks(
    reading: Reading,
    spec: dict[str, Any],
    sources: tuple[Source, ...],
    records: tuple[RecordSource, ...],
) -> tuple[Sink, ...]:
    sinks: list[Sink] = []
    metrics = tuple(source.name for source in sources)
    others = {source.name: source.signal for source in records}
    for index, values in enumerate(spec.get("sinks", ())):
        sink = values or {}
        if sink.get("paused"):
            reading.warn("spec", "sinks", index, "paused", message=PAUSED)
        names = tuple(name for name in sink.get("sources", ()) if name is not None)
        takes_metrics_only = "prometheusRemoteWrite" in sink
        for number, name in enumerate(sink.get("sources", ())) if takes_metrics_only else ():
            if name in others:
                message = METRICS_ONLY.format(name=name, signal=others[name])
                reading.fault("spec", "sinks", index, "sources", number, message=message)
        if takes_metrics_only and others and not metrics:
            place = ("spec", "sinks", index, "prometheusRemoteWrite")
            reading.warn(*place, message=NOTHING_FOR_METRICS)
        sends_metrics = any(name in metrics for name in names or metrics)
        sinks.append(
            Sink(
                name=sink.get("name", ""),
                sources=names or (metrics if takes_metrics_only else (*metrics, *others)),
                endpoint=_endpoint(reading, index, sink, sends_metrics=sends_metrics),
                batch=_batch(sink.get("batch", {})),
                retry=_retry(sink.get("retry", {})),
                queue=_queue(sink.get("queue", {})),
                paused=sink.get("paused", False),
            )
        )
    return tuple(sinks)


def _endpoint(
    reading: Reading, index: int, sink: dict[str, Any], *, sends_metrics: bool
) -> OtlpHttp | PrometheusRemoteWrite:
    if "prometheusRemoteWrite" not in sink:
        values = sink.get("otlp_http", {})
        return _otlp_http(reading, index, values, sends_metrics=sends_metrics)
    values = sink["prometheusRemoteWrite"]
    authentication = build_authentication(values.get("authentication", {}))
    endpoint = build_remote_write(values, authentication)
    if endpoint.url:
        place = ("spec", "sinks", index, "prometheusRemoteWrite")
        for steps, warning in remote_write_sink_warnings(endpoint, values):
            reading.warn(*place, *steps, message=warning)
    return endpoint


def _batch(values: dict[str, Any]) -> Batch:
    default = Batch()
    return Batch(
        enabled=values.get("enabled", default.enabled),
        timeout_s=seconds_of(values, "timeout", default.timeout_s),
        points_max=values.get("maxSize", default.points_max),
    )


def _retry(values: dict[str, Any]) -> RetrySettings:
    default = RetrySettings()
    return RetrySettings(
        enabled=values.get("enabled", default.enabled),
        attempts_max=values.get("maxAttempts", default.attempts_max),
        backoff_s=seconds_of(values, "backoff", default.backoff_s),
    )


def _queue(values: dict[str, Any]) -> Queue:
    default = Queue()
    return Queue(
        bytes_max=bytes_of(values, "maxBytes", default.bytes_max),
        age_max_s=seconds_of(values, "maxAge", default.age_max_s),
        overflow=values.get("overflow", default.overflow),
        drain=values.get("drain", default.drain),
    )


OWN_ENDPOINTS: Final[dict[SignalName, str]] = {
    "metrics": "metricsEndpoint",
    "logs": "logsEndpoint",
    "traces": "tracesEndpoint",
}
"""Fields of the whole URLs of signals."""


def _otlp_http(
    reading: Reading, index: int, values: dict[str, Any], *, sends_metrics: bool
) -> OtlpHttp:
    endpoint = values.get("endpoint", "")
    authentication = build_authentication(values.get("authentication", {}))
    profile_name: ProfileName = values.get("profile", "generic")
    profile = PROFILES[profile_name]
    size = values.get("maxRequestBytes")
    headers = values.get("headers", {})
    own_urls = {
        signal: remote_write_url(values[field])
        for signal, field in OWN_ENDPOINTS.items()
        if values.get(field)
    }
    otlp = OtlpHttp(
        url=own_urls.get("metrics") or metrics_url(endpoint),
        authentication=authentication,
        headers=headers,
        compression=values.get("compression", profile.compression),
        timeout_s=seconds_of(values, "timeout", OtlpHttp("").timeout_s),
        tls=build_tls(values.get("tls")),
        temporality=values.get("temporality", profile.temporality),
        request_bytes_max=profile.request_bytes_max if size is None else parse_bytes(size),
        concurrency=values.get("concurrency", 1),
        promoted_labels=frozenset(one for one in values.get("promoteLabels", ()) if one)
        or NO_LABELS,
        unsupported_kinds=profile.unsupported,
        keeps_target_labels=profile.keeps_target_labels,
        signal_urls=tuple(
            (signal, own_urls.get(signal) or signal_url(endpoint, signal))
            for signal in RECORD_SIGNALS
            if own_urls
        ),
        signal_bytes_max=profile.signal_bytes_max if size is None else (),
    )
    place = ("spec", "sinks", index, "otlp_http")
    for warning in endpoint_warnings(endpoint) if endpoint else ():
        reading.warn(*place, "endpoint", message=warning)
    for signal, url in own_urls.items():
        for warning in own_url_warnings(url):
            reading.warn(*place, OWN_ENDPOINTS[signal], message=warning)
        for steps, warning in access_warnings(replace(otlp, url=url)):
            if steps == ("endpoint",):
                reading.warn(*place, OWN_ENDPOINTS[signal], message=warning)
    for steps, warning in access_warnings(otlp):
        reading.warn(*place, *steps, message=warning)
    if endpoint and not reading.report.faulty:
        for field, warning in profile_warnings(otlp, profile_name, sends_metrics=sends_metrics):
            reading.warn(*place, field, message=warning)
    return otlp
