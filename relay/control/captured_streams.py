"""Explain which streams of a captured request of OTLP metrics an exporter takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from relay.codec.otlp.any_value import resource_attributes
from relay.codec.otlp.metrics_in.heads import read_attributes, read_metric, read_scope
from relay.codec.otlp.metrics_in.scan import MetricsEnvelope, scan_metrics
from relay.pipeline.metrics.otlp.labels import HIDDEN, name_of, selected_labels, views_of
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.tenancy import IngestPath
from relay.selector.named_views import takes
from relay.selector.resources.compiler import Compiled

Labels = Mapping[str, str]


def captured_streams(
    body: bytes,
    owner: str,
    sources: Mapping[str, Compiled],
    *,
    tenants: ResourceTenants,
    origin: IngestPath,
) -> Iterator[tuple[list[str], Labels]]:
    """Yield for each stream of a project the sources that take it, and its labels.

    Raise DecodeError.
    """
    envelope = scan_metrics(body, entries_max=len(body))
    seen: set[frozenset[tuple[str, str]]] = set()
    for project, labels in _streams(envelope, tenants, origin):
        key = frozenset(labels.items())
        if project != owner or key in seen:
            continue
        seen.add(key)
        views = views_of(labels)
        visible = {name: text for name, text in labels.items() if name not in HIDDEN}
        yield [name for name, compiled in sources.items() if takes(compiled, views)], visible


def _streams(
    envelope: MetricsEnvelope, tenants: ResourceTenants, origin: IngestPath
) -> Iterator[tuple[str | None, dict[str, str]]]:
    """Yield the project and the labels of every point."""
    for head, scopes in envelope.resources:
        resource = resource_attributes(head)
        project = tenants.project_of(resource, origin)
        for scope_head, metrics in scopes:
            scope = read_scope(scope_head)
            for _, metric_head, number, tail, first, stop in metrics:
                metric = read_metric(metric_head, number, tail)
                name = name_of(metric)
                for at in range(first, stop):
                    point = read_attributes(envelope.attributes(at), metric.kind)
                    yield project, selected_labels(name, metric, resource, scope, point)
