"""Find the stream of OTLP metrics that a question about a series means, with all its names.

A question may name the metric as Prometheus would, or by its own name, and give some of the labels
that selectors see: the answer is about the first known stream that has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from relay.codec.otlp.metrics_in.heads import MetricHead
from relay.codec.remote_write.v1 import label_key, parse_labels
from relay.config.exporter.types import OtlpHttp, Sink
from relay.control.explain_lines import is_raw, remote_write
from relay.pipeline.metrics.otlp.labels import MEMBERS, views_of
from relay.pipeline.metrics.otlp.stream_table import MetricEntry, StreamTable
from relay.pipeline.metrics.otlp.streams import LABELS_MAX
from relay.selector.matchers import NAME
from relay.selector.named_views import NamedViews

Labels = Mapping[str, str]

STEP: Final = 32
"""Metrics or streams that are looked at between two pauses."""
_HISTOGRAMS: Final = ("histogram", "exponential_histogram")


@dataclass(frozen=True, slots=True)
class KnownStream:
    """A stream: its project, its metric, and the labels that selectors see, under its names."""

    project: str
    metric: MetricHead
    views: NamedViews


@dataclass(frozen=True, slots=True)
class Asked:
    """The subject of a question: a series, of which ``stream`` is None, or a known stream."""

    views: NamedViews
    project: str
    stream: KnownStream | None = None

    @property
    def labels(self) -> Labels:
        """The labels, with the name in Prometheus."""
        return self.views.alone[0]

    def sink_lines(self, sink: Sink) -> Iterator[str]:
        """Yield what a sink gets of the stream, where that is not what came."""
        assert self.stream is not None
        said = _said(sink, self.stream.metric, self.labels)
        if said:
            yield f"    {sink.name}: {said}"


def find_stream(
    known: StreamTable, labels: Labels, project: str, pause: Callable[[], None]
) -> KnownStream | None:
    """Return a stream that has these labels; ``project`` "" looks in every project."""
    steps = 0
    for metric in _metrics(known, project, pause):
        wanted = _wanted(metric, labels)
        if wanted is None:
            continue
        fields = [label_key([pair]) for pair in wanted.items()]
        for stream in list(metric.children.values()):
            steps += 1
            if not steps % STEP:
                pause()
            key = stream.series.key
            if not all(field in key for field in fields):
                continue  # reading the labels takes ten times as long
            found = dict(parse_labels(key, labels_max=LABELS_MAX))
            if all(found.get(name) == value for name, value in wanted.items()):
                owner = metric.scope.resource.project or ""
                return KnownStream(owner, metric.parts, views_of(found))
    return None


def _metrics(known: StreamTable, project: str, pause: Callable[[], None]) -> Iterator[MetricEntry]:
    """Yield the metrics of resources with a project."""
    steps = 0
    for resource in known.resources():
        if resource.project is None or (project and resource.project != project):
            continue
        for scope in list(resource.children.values()):
            for metric in list(scope.children.values()):
                steps += 1
                if not steps % STEP:
                    pause()
                yield metric


def _wanted(metric: MetricEntry, labels: Labels) -> Labels | None:
    """Return the labels that a stream of the metric must have; None for another metric."""
    name, own = labels[NAME], metric.parts.name
    rest = {label: value for label, value in labels.items() if label != NAME}
    if name in (metric.name, own):
        return rest
    if metric.parts.kind in _HISTOGRAMS and name in {metric.name + one for one in MEMBERS}:
        rest.pop("le", None)
        return rest
    return None


def stream_lines(stream: KnownStream) -> Iterator[str]:
    """Yield the form in which a stream goes to sinks of OTLP."""
    metric, name = stream.metric, stream.views.alone[0][NAME]
    parts = [metric.kind.replace("_", " ")]
    parts += [
        part for part in (metric.temporality, "monotonic" if metric.monotonic else "") if part
    ]
    yield f"As OTLP (as it came): {metric.name} ({', '.join(parts)})"
    if name != metric.name:
        yield f"  in Prometheus: {name}"
    for title, text in (("unit", metric.unit), ("description", metric.description)):
        if text:
            yield f"  {title}: {text!r}"


def _said(sink: Sink, metric: MetricHead, labels: Labels) -> str:
    endpoint = sink.endpoint
    is_delta = metric.temporality == "delta"
    if is_raw(sink):
        if is_delta:
            return "nothing: its points are deltas, and remote write has cumulative values"
        return f"as Prometheus would store it, by {remote_write(sink, labels)}"
    assert isinstance(endpoint, OtlpHttp)
    if metric.kind in endpoint.unsupported_kinds:
        return f"nothing: its profile takes no {metric.kind.replace('_', ' ')}"
    if not metric.temporality or metric.temporality == endpoint.temporality:
        return ""
    if is_delta:
        return "nothing: its points are deltas, and the sink takes cumulative values"
    if metric.kind == "sum" and not metric.monotonic:
        return "as a gauge"
    return "as deltas"
