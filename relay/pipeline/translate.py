"""From a series' labels to what OTLP calls it: resource, scope, metric and attributes.

``job`` becomes ``service.name`` (and ``service.namespace``, where it holds exactly one slash),
``instance`` becomes ``service.instance.id``; both leave the point's attributes. Every other label
is a string attribute, unaltered. Groups are interned, because batches compare them by identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay import __version__
from relay.pipeline.metric_types import MetricTypes
from relay.selector.ast import NAME
from relay.wire.otlp import MetricGroup, MetricIdentity, ResourceGroup, ScopeGroup, point_prefix

SCOPE_NAME = "relay"
"""Where no label names a scope, the scope must name the translator (compatibility
specification)."""

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Translation:
    """One series as OTLP, before encoding. Attributes are sorted by key and unique."""

    resource: Pairs
    metric: MetricIdentity
    attributes: Pairs


@dataclass(frozen=True, slots=True)
class TranslatorStatistics:
    """How many distinct resources and metrics are interned."""

    resources: int
    metrics: int


class Translator:
    """Prepares a series' prefix and interns its group; bounded by emptying at ``groups_max``."""

    def __init__(self, types: MetricTypes, *, groups_max: int = 1_000_000) -> None:
        self.types = types
        self._groups_max = groups_max
        self._scopes: dict[Pairs, ScopeGroup] = {}
        self._groups: dict[tuple[Pairs, MetricIdentity], MetricGroup] = {}

    def translate(self, labels: Iterable[tuple[str, str]]) -> Translation:
        """Split labels (sorted, unique, non-empty, with a name) into what OTLP wants of them."""
        resource: dict[str, str] = {}
        attributes = []
        name = ""
        for key, value in labels:
            if key == NAME:
                name = value
            elif key == "job":
                namespace, slash, service = value.partition("/")
                if slash and service and namespace and "/" not in service:
                    resource["service.namespace"] = namespace
                    resource["service.name"] = service
                else:
                    resource["service.name"] = value
            elif key == "instance":
                resource["service.instance.id"] = value
            else:
                attributes.append((key, value))
        if resource:
            # A UTF-8 label of the very name must not say something else beside the resource.
            attributes = [pair for pair in attributes if pair[0] not in resource]
        return Translation(
            tuple(sorted(resource.items())), self.types.identity(name), tuple(attributes)
        )

    def prepare(self, labels: Iterable[tuple[str, str]]) -> tuple[MetricGroup, bytes]:
        """The group of a series' points and their encoded prefix."""
        translation = self.translate(labels)
        return self.group(translation.resource, translation.metric), point_prefix(
            translation.attributes
        )

    def group(self, resource: Pairs, metric: MetricIdentity) -> MetricGroup:
        """The group of a metric's points, always the same for the same resource and identity."""
        key = (resource, metric)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= self._groups_max:
                # Groups in use live on in their series; the worst is a metric in two pieces once.
                self._groups.clear()
                self._scopes.clear()
            group = MetricGroup(self._scope(resource), metric)
            self._groups[key] = group
        return group

    def statistics(self) -> TranslatorStatistics:
        """A snapshot."""
        return TranslatorStatistics(len(self._scopes), len(self._groups))

    def _scope(self, resource: Pairs) -> ScopeGroup:
        scope = self._scopes.get(resource)
        if scope is None:
            scope = ScopeGroup(ResourceGroup(resource), SCOPE_NAME, __version__)
            self._scopes[resource] = scope
        return scope

    def __repr__(self) -> str:
        return f"<Translator {len(self._groups)} metrics of {len(self._scopes)} resources>"
