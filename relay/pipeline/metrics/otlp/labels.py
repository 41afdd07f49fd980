"""The labels by which selectors see a stream, and those that it has in Prometheus. Pure.

Selectors see what Prometheus would have of the stream (its labels, ``job`` and ``instance``), the
attributes of the point and of its resource by their own names, those of the resource by their names
in Prometheus, too, and the scope as ``otel_scope_name`` and ``otel_scope_version``. Where names are
the same, the label in Prometheus counts, then the attribute of the point.

All of it, with the labels of :data:`HIDDEN`, is the key of the stream's series, so that whatever
reads the series table sees the stream like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from relay.codec.otlp.any_value import AttributeTexts
from relay.codec.otlp.metrics import Kind
from relay.codec.otlp.metrics_in.heads import MetricHead, ScopeHead
from relay.codec.remote_write.v1 import label_key
from relay.pipeline.metrics.otlp.prometheus_names import label_name, labels_of, metric_name
from relay.selector.matchers import NAME
from relay.selector.named_views import NamedViews

OWN_NAME: Final = "__otlp_name__"
KIND: Final = "__otlp_kind__"
TEMPORALITY: Final = "__otlp_temporality__"
HIDDEN: Final = frozenset((OWN_NAME, KIND, TEMPORALITY))
"""Labels of a key that are for the relay alone: the name of the metric where Prometheus has another
one, the kind of a histogram, ``delta``. No selector sees them."""

LABEL_BYTES: Final = 6
"""Bytes of a label in a key, besides its name and value, at least."""

_SERVICE: Final = "service.name"
_NAMESPACE: Final = "service.namespace"
_INSTANCE: Final = "service.instance.id"
MEMBERS: Final = ("_count", "_sum", "_bucket")
"""Ends of the names that a histogram has in Prometheus."""


def name_of(metric: MetricHead) -> str:
    """Return the name of a metric in Prometheus; of a histogram or summary without suffix."""
    return metric_name(metric.name, metric.unit, metric.kind, monotonic=metric.monotonic)


def target_labels(resource: AttributeTexts) -> dict[str, str]:
    """Return ``job`` and ``instance`` of a resource, as far as it has them."""
    values = dict(resource)
    job = values.get(_SERVICE, "")
    if job and values.get(_NAMESPACE):
        job = f"{values[_NAMESPACE]}/{job}"
    found = {"job": job, "instance": values.get(_INSTANCE, "")}
    return {name: value for name, value in found.items() if value}


def prometheus_labels(name: str, resource: AttributeTexts, point: AttributeTexts) -> dict[str, str]:
    """Return the labels of a stream in Prometheus."""
    return {**labels_of(point), **target_labels(resource), NAME: name}


def selected_labels(
    name: str, metric: MetricHead, resource: AttributeTexts, scope: ScopeHead, point: AttributeTexts
) -> dict[str, str]:
    """Return the labels of a stream's series, those for the relay alone included."""
    found = _present((label_name(key), value) for key, value in resource)
    found |= _present((("otel_scope_name", scope.name), ("otel_scope_version", scope.version)))
    found |= _present(resource)
    found |= _present(point)
    found |= prometheus_labels(name, resource, point)
    for hidden in HIDDEN:
        found.pop(hidden, None)
    if metric.name != name:
        found[OWN_NAME] = metric.name
    if metric.kind in ("histogram", "exponential_histogram"):
        found[KIND] = metric.kind
    if metric.temporality == "delta":
        found[TEMPORALITY] = "delta"
    return found


def resource_bytes(resource: AttributeTexts, most: int) -> int:
    """Return the bytes that a resource takes in the labels of each of its streams.

    More than ``most`` is a lower bound.
    """
    named = _present(resource)
    least = sum(LABEL_BYTES + len(name) + len(value) for name, value in named.items())
    if least > most:
        return least
    labels = _present((label_name(key), value) for key, value in resource)
    labels |= named
    return len(label_key(sorted(labels.items())))


def views_of(labels: Mapping[str, str]) -> NamedViews:
    """Return the labels of a series, as :func:`selected_labels` made them, under all its names."""
    visible = {name: value for name, value in labels.items() if name not in HIDDEN}
    name, own = labels[NAME], labels.get(OWN_NAME)
    alone: tuple[Mapping[str, str], ...] = (visible,)
    if own:
        alone = (visible, {**visible, NAME: own})
    members: tuple[Mapping[str, str], ...] = ()
    kind: Kind | str = labels.get(KIND, "")
    if kind:
        members = tuple(_member(visible, name + suffix) for suffix in MEMBERS)
    return NamedViews(alone, members)


def _member(labels: Mapping[str, str], name: str) -> dict[str, str]:
    bound = {"le": "+Inf"} if name.endswith("_bucket") else {}
    return {**labels, NAME: name, **bound}


def _present(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {key: value for key, value in pairs if key and value}
