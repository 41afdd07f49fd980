"""Lines of explanations: the OTLP form of a series, and what sinks make of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from relay.config.exporter.types import PrometheusRemoteWrite, Sink
from relay.pipeline.drop_counters import REASONS
from relay.pipeline.metrics.metadata.metric_types import Evidence
from relay.pipeline.metrics.translate.translator import OWN_SCOPE, Translation
from relay.pipeline.statistics import Exported
from relay.selector.histogram_coverage import asked_for_family, missing_members
from relay.selector.named_views import NamedViews, explain
from relay.selector.quoting import quote_name, quote_string
from relay.selector.resources.compiler import Compiled
from relay.telemetry.snapshot import Drop

_EVIDENCE: dict[Evidence, str] = {
    "declared": "type declared by the series",
    "metadata": "type from metadata",
    "siblings": "type by its siblings; metadata from the sender goes first",
    "name": "type by name; metadata from the sender goes first",
}


def is_raw(sink: Sink) -> bool:
    """Return True if a sink takes series as they came."""
    return isinstance(sink.endpoint, PrometheusRemoteWrite)


def raw_lines(sink: Sink, labels: Mapping[str, str]) -> Iterator[str]:
    """Yield what a sink of remote write gets."""
    if is_raw(sink):
        yield f"    {sink.name}: as it came, by {remote_write(sink, labels)}"


def remote_write(sink: Sink, labels: Mapping[str, str]) -> str:
    """Return the version of a sink of remote write, and the labels that it adds to a series."""
    endpoint = sink.endpoint
    assert isinstance(endpoint, PrometheusRemoteWrite)
    added = [(name, text) for name, text in endpoint.external_labels if not labels.get(name)]
    inside = ", ".join(f"{quote_name(name)}={quote_string(text)}" for name, text in added)
    with_labels = f", with {inside}" if inside else ""
    return f"remote write {endpoint.version}{with_labels}"


def source_lines(
    source: str,
    sinks: Sequence[Sink],
    compiled: Compiled,
    views: NamedViews,
    stream_lines: Callable[[Sink], Iterator[str]] | None,
) -> Iterator[str]:
    """Yield whether a source takes a series, and why.

    ``stream_lines`` yields what a sink gets of a stream of OTLP; None for a series of remote write.
    """
    labels = views.alone[0]
    explanation = explain(compiled, views)
    if explanation.matched:
        names = ", ".join(f"{one.name} (paused)" if one.paused else one.name for one in sinks)
        yield f"  yes: source {source} takes it, to {names or 'no sink'}"
        yield f"    because of {compiled.describe(explanation.group)}"
        if explanation.subject:
            yield f"    the series is about {explanation.subject}"
        for sink in sinks:
            yield from raw_lines(sink, labels) if stream_lines is None else stream_lines(sink)
        missing = missing_members(compiled, labels) if stream_lines is None else ()
        if missing and not (sinks and all(map(is_raw, sinks))):
            yield f"    as a single number: it does not take {' and '.join(missing)}"
        return
    yield f"  no: source {source}"
    if explanation.subject:
        yield f"    the series is about {explanation.subject}"
    for failure in explanation.failures:
        yield f"    {failure}"
    family = asked_for_family(compiled, labels) if stream_lines is None else ""
    if family:
        yield (
            f"    {family} is the name in OTLP; its series have other names: write "
            f'{{__name__=~"{family}(_bucket|_count|_sum)?"}}'
        )


def said(drop: Drop) -> str:
    """Return a line about dropped samples."""
    since, last = (_moment(seconds) for seconds in (drop.since, drop.last))
    meaning = REASONS[drop.reason]
    return (
        f"since {since} {drop.samples} samples of {drop.family} were dropped before sink "
        f"{drop.sink}, last at {last}: {drop.reason} ({meaning})"
    )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def otlp_lines(translation: Translation, described: Exported) -> Iterator[str]:
    """Yield the OTLP form of a series."""
    typing = described.typing
    metric = typing.identity
    kind: str = metric.kind
    if kind == "sum":
        kind += ", cumulative" + (", monotonic" if metric.monotonic else "")
    if typing.refused:
        yield f"As OTLP ({_EVIDENCE[typing.evidence]}): nothing: {typing.refused}"
    else:
        yield f"As OTLP ({_EVIDENCE[typing.evidence]}): {metric.name} ({kind})"
    if described.contradicted is not None:
        other = described.contradicted
        yield f"  senders disagree: {other.family} is {other.kept} here, {other.other} to others"
    for title, text in (("unit", metric.unit), ("description", metric.description)):
        if text:
            yield f"  {title}: {text!r}"
    if typing.family is not None:
        family = typing.family
        yield f"  or, where a source takes all of it, part of {family.name} ({family.kind})"
    scope = translation.scope
    if scope != OWN_SCOPE:
        yield f"  scope: {scope.name} {scope.version}".rstrip()
    for title, pairs in (
        ("resource", translation.resource),
        ("scope attributes", scope.attributes),
        ("attributes", translation.attributes),
    ):
        if pairs:
            yield f"  {title}:"
            for key, value in pairs:
                yield f"    {key} = {value!r}"
