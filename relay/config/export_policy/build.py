"""Builds the model of an ExportPolicy from its validated values, by the table of the dialect.

Rules that a schema can express are in ``relay/config/schema/export_policy.yaml``. The result has
every sink, those with faults among them; :mod:`relay.config.export_policy.refusal` parts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, Final, NamedTuple

from relay.codec.signal_names import RECORD_SIGNALS
from relay.config.export_policy.dialect import (
    BASIC_AUTH_TYPE,
    BATCH_DEFAULT,
    KIND,
    RETRY_DEFAULT,
    ROW,
    in_dialect,
)
from relay.config.export_policy.rules import POLICY_RULES
from relay.config.exporter.backend_profiles import PROFILES
from relay.config.exporter.build import CHECKS, build_source, exporter_of
from relay.config.exporter.endpoint_access import access_warnings
from relay.config.exporter.endpoints import endpoint_warnings, metrics_url
from relay.config.exporter.records.build import build_record_source
from relay.config.exporter.remote_write import build_remote_write, remote_write_sink_warnings
from relay.config.exporter.types import (
    Authentication,
    Batch,
    Exporter,
    OtlpHttp,
    Place,
    PrometheusRemoteWrite,
    RecordSource,
    RetrySettings,
    SecretRef,
    Sink,
    Source,
)
from relay.config.schema.checks import dns_subdomain_problem
from relay.config.schema.quantities import seconds_of
from relay.config.schema.rules import RULES
from relay.config.schema.source import load
from relay.config.schema.validate import Reading, Schema
from relay.config.yaml.document import Where
from relay.selector import lint
from relay.selector.matchers import Selector

METRICS_ONLY: Final = "{signal} are not exported to {word}: give the sink an openTelemetry target"


class _Target(NamedTuple):
    """A sink's target: place and values; ``kind`` is its row of the table."""

    kind: str
    place: Place
    values: dict[str, Any]


@cache
def export_policy_schema() -> Schema:
    """Return the schema of an ExportPolicy."""
    checks = {**CHECKS, "secretName": dns_subdomain_problem}
    return Schema(load("export_policy")["schema"], checks=checks, rules={**RULES, **POLICY_RULES})


def build_export_policy(reading: Reading, identity: tuple[str, str], project: str) -> Exporter:
    """Return the policy with all its sinks; note faults and warnings in the reading's report."""
    spec = reading.values.get("spec", {})
    sources, records = _sources(reading, spec, identity[0])
    sinks = tuple(
        _sink(reading, index, values or {}, sources, records)
        for index, values in enumerate(spec.get("sinks", ()))
    )
    sent = {name for sink in sinks if isinstance(sink.endpoint, OtlpHttp) for name in sink.sources}
    return replace(
        exporter_of(reading, identity, project, sources, sinks, records),
        kind=KIND,
        not_carried=tuple(
            (one.name, one.signal) for one in records if one.name and one.name not in sent
        ),
    )


def _sources(
    reading: Reading, spec: dict[str, Any], namespace: str
) -> tuple[tuple[Source, ...], tuple[RecordSource, ...]]:
    """Return the sources of metrics, and those of logs and traces.

    A source with another signal and no ``metrics`` exports no metrics.
    """
    sources: list[Source] = []
    records: list[RecordSource] = []
    indexes: list[int] = []
    for index, values in enumerate(spec.get("sources", ())):
        one = values or {}
        name = one.get("name", "")
        others = [signal for signal in RECORD_SIGNALS if signal in one]
        for signal in others:
            field = ("spec", "sources", index, signal)
            selected = _with_readable_kinds(one[signal])
            records.append(build_record_source(reading, field, name, signal, selected, namespace))
        if others and "metrics" not in one:
            continue
        place = ("spec", "sources", index, "metrics")
        metrics = _with_readable_kinds(one.get("metrics", {}))
        sources.append(build_source(reading, place, name, metrics, namespace))
        indexes.append(index)
    named = [
        (one.name, one.selector if isinstance(one.selector, Selector) else None) for one in sources
    ]
    for number, warning in lint.overlaps(named) if not reading.report.faulty else ():
        reading.warn("spec", "sources", indexes[number], "metrics", message=warning)
    return tuple(sources), tuple(records)


def _with_readable_kinds(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return ``metrics`` without what is neither a Kind nor a list of them.

    The schema cannot tell, because ``kind`` has two types; the rule that tells is not asked where
    ``group`` has a fault itself.
    """
    if "resourceSelectors" not in metrics:
        return metrics
    entries = [
        {**one, "kinds": [_readable(kind) for kind in one.get("kinds", ()) if kind is not None]}
        for one in metrics["resourceSelectors"]
        if one is not None
    ]
    return {**metrics, "resourceSelectors": entries}


def _readable(entry: dict[str, Any]) -> dict[str, Any]:
    kind = entry.get("kind")
    if isinstance(kind, list):
        return {**entry, "kind": [one for one in kind if isinstance(one, str)]}
    if kind is not None and (not isinstance(kind, str) or "apiGroups" in entry):
        return {key: value for key, value in entry.items() if key != "kind"}
    return entry


def _sink(
    reading: Reading,
    index: int,
    values: dict[str, Any],
    sources: tuple[Source, ...],
    records: tuple[RecordSource, ...],
) -> Sink:
    place: Place = ("spec", "sinks", index)
    target = _target(values)
    named = [name for name in values.get("sources", ()) if name is not None]
    known = [source.name for source in sources]
    signals = {source.name: source.signal for source in records}
    if target.kind != "remote_write":
        known += signals
    wanted = named or list(dict.fromkeys([*known, *signals]))
    taken = tuple(dict.fromkeys(name for name in wanted if name in known))
    if wanted and not taken and all(name in signals for name in wanted) and target.values:
        message = METRICS_ONLY.format(signal=signals[wanted[0]], word=target.place[-1])
        reading.fault(*place, "sources", message=message)
    endpoint, places = _endpoint(reading, place, target)
    around = {"target": target.values, **{key: values.get(key) for key in ("batch", "retry")}}
    batch_place, batch = ROW["batch"].find(around)
    retry_place, retry = ROW["retry"].find(around)
    places["batch"] = _below(place, target, batch_place)
    places["retry"] = _below(place, target, retry_place)
    return Sink(
        name=values.get("name", ""),
        sources=taken,
        endpoint=endpoint,
        batch=_batch(batch),
        retry=_retry(retry),
        places=places,
    )


def _target(values: dict[str, Any]) -> _Target:
    """Return the target of a sink; an empty one of remote write if it has none."""
    for kind in ("remote_write", "otlp_http"):
        steps, found = ROW[kind].find(values)
        if found is not None:
            return _Target(kind, steps, found)
    return _Target("remote_write", ROW["remote_write"].find({})[0], {})


def _below(sink: Place, target: _Target, steps: Place) -> Place:
    """Return the place of a field of the target or beside it."""
    if steps[0] == "target":
        return (*sink, *target.place, *steps[1:])
    return (*sink, *steps)


def _endpoint(
    reading: Reading, sink: Place, target: _Target
) -> tuple[OtlpHttp | PrometheusRemoteWrite, dict[str, Place]]:
    """Return the endpoint, and the places of its fields."""
    base = (*sink, *target.place)
    authentication, secret_place = _authentication(target.values)
    url_place, url = ROW["endpoint.url"].find(target.values)
    places = {"endpoint": (*base, *url_place), "authentication.secretRef": (*base, *secret_place)}
    url = url or ""
    endpoint: OtlpHttp | PrometheusRemoteWrite
    if target.kind == "remote_write":
        values = {"endpoint": url}
        endpoint = build_remote_write(values, authentication)
        warnings = remote_write_sink_warnings(endpoint, values)
    else:
        profile = PROFILES["generic"]
        endpoint = OtlpHttp(
            url=metrics_url(url),
            authentication=authentication,
            compression=profile.compression,
            temporality=profile.temporality,
            request_bytes_max=profile.request_bytes_max,
            unsupported_kinds=profile.unsupported,
            keeps_target_labels=profile.keeps_target_labels,
        )
        warnings = _otlp_warnings(endpoint, url)
    for _, warning in warnings if url else ():  # all are about the endpoint
        reading.warn(*places["endpoint"], message=in_dialect(warning, KIND))
    return endpoint, places


def _otlp_warnings(endpoint: OtlpHttp, url: str) -> Iterator[tuple[Where, str]]:
    for warning in endpoint_warnings(url):
        yield ("endpoint",), warning
    yield from access_warnings(endpoint)


def _authentication(target: dict[str, Any]) -> tuple[Authentication, Place]:
    """Return the authentication of a target, and the place of its Secret below the target."""
    place, found = ROW["authentication.basic"].find(target)
    if found is not None:
        ref = SecretRef(found.get("name", ""), type=BASIC_AUTH_TYPE)
        return Authentication("basicAuth", ref), place
    place, found = ROW["authentication.bearer"].find(target)
    if found is not None:
        ref = SecretRef(found.get("name", ""), found.get("key", ""))
        return Authentication("bearerToken", ref), place
    return Authentication(), place


def _batch(values: dict[str, Any] | None) -> Batch:
    if values is None:
        return BATCH_DEFAULT
    return Batch(
        enabled=values.get("enabled", BATCH_DEFAULT.enabled),
        timeout_s=seconds_of(values, "timeout", BATCH_DEFAULT.timeout_s),
        points_max=values.get("maxSize", BATCH_DEFAULT.points_max),
    )


def _retry(values: dict[str, Any] | None) -> RetrySettings:
    if values is None:
        return RETRY_DEFAULT
    backoff = ROW["retry.backoff_s"].find(values)[0]
    return RetrySettings(
        enabled=values.get("enabled", RETRY_DEFAULT.enabled),
        attempts_max=values.get("maxAttempts", RETRY_DEFAULT.attempts_max),
        backoff_s=seconds_of(values, str(backoff[0]), RETRY_DEFAULT.backoff_s),
    )
