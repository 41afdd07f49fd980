"""From a series' labels to what OTLP calls it: resource, scope, metric and attributes.

``job`` becomes ``service.name`` (and ``service.namespace``, where it holds exactly one slash),
``instance`` becomes ``service.instance.id``; labels that a sink wants promoted, and those of the
target's ``target_info``, join them in the resource. ``otel_scope_*`` labels become the scope. All
of them leave the point's attributes; every other label is a string attribute, unaltered, but for
one that is literally called like an attribute of the resource: it must not repeat there
(compatibility specification), and gets Prometheus' prefix for such cases, ``exported_``.

Groups are interned, because batches compare them by identity.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from relay import __version__
from relay.pipeline.metric_types import MetricTypes
from relay.selector.ast import NAME
from relay.wire.otlp import MetricGroup, MetricIdentity, ResourceGroup, ScopeGroup

SCOPE_NAME = "relay"
"""Where no label names a scope, the scope must name the translator (compatibility
specification)."""

Pairs = tuple[tuple[str, str], ...]

SCOPE_PREFIX = "otel_scope_"

_METADATA_LABELS = ("__type__", "__unit__")
"""Not labels of a series but metadata (prometheus/prometheus, ``schema/labels.go``)."""


class Scope(NamedTuple):
    """An instrumentation scope; ``attributes`` are sorted by key."""

    name: str = SCOPE_NAME
    version: str = __version__
    schema_url: str = ""
    attributes: Pairs = ()


OWN_SCOPE = Scope()


@dataclass(frozen=True, slots=True)
class Translation:
    """One series as OTLP, before encoding. Attributes are sorted by key and unique."""

    resource: Pairs
    scope: Scope
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
        self._resources: dict[Pairs, ResourceGroup] = {}
        self._scopes: dict[tuple[Pairs, Scope], ScopeGroup] = {}
        self._groups: dict[tuple[Pairs, Scope, MetricIdentity], MetricGroup] = {}

    def translate(
        self,
        labels: Iterable[tuple[str, str]],
        *,
        target: Pairs = (),
        promoted: Container[str] = (),
    ) -> Translation:
        """Split labels (sorted, unique, non-empty, with a name) into what OTLP wants of them.

        ``target`` is what is known of the series' target, ``promoted`` are labels that describe
        the resource. Where several say something else of one attribute, ``job`` and ``instance``
        win, then promoted labels.
        """
        resource: dict[str, str] = {}
        moved: dict[str, str] = {}
        scope: dict[str, str] = {}
        attributes: dict[str, str] = {}
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
            elif key.startswith(SCOPE_PREFIX):
                scope[key[len(SCOPE_PREFIX) :]] = value
            elif key in promoted:
                moved[key] = value
            elif key not in _METADATA_LABELS:
                attributes[key] = value
        # A UTF-8 label of the very name of an attribute of the resource, made from job or instance.
        for key in resource.keys() & attributes.keys():
            attributes.setdefault(f"exported_{key}", attributes.pop(key))
        return Translation(
            tuple(sorted({**dict(target), **moved, **resource}.items())),
            _scope(scope) if scope else OWN_SCOPE,
            self.types.identity(name),
            tuple(sorted(attributes.items())),
        )

    def group(self, translation: Translation, metric: MetricIdentity) -> MetricGroup:
        """The group of a metric's points, always the same for the same identity and place."""
        key = (translation.resource, translation.scope, metric)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= self._groups_max:
                # Groups in use live on in their series; the worst is a metric in two pieces once.
                self._groups.clear()
                self._scopes.clear()
                self._resources.clear()
            group = MetricGroup(self._scope_group(translation.resource, translation.scope), metric)
            self._groups[key] = group
        return group

    def statistics(self) -> TranslatorStatistics:
        """A snapshot."""
        return TranslatorStatistics(len(self._resources), len(self._groups))

    def _scope_group(self, resource: Pairs, scope: Scope) -> ScopeGroup:
        key = (resource, scope)
        group = self._scopes.get(key)
        if group is None:
            owner = self._resources.get(resource)
            if owner is None:
                owner = self._resources[resource] = ResourceGroup(resource)
            group = self._scopes[key] = ScopeGroup(
                owner, scope.name, scope.version, scope.attributes, scope.schema_url
            )
        return group

    def __repr__(self) -> str:
        return f"<Translator {len(self._groups)} metrics of {len(self._resources)} resources>"


def _scope(labels: dict[str, str]) -> Scope:
    """The scope that ``otel_scope_*`` labels describe, by the rest of their names."""
    name = labels.pop("name", "")
    # A version without a name would be ours with somebody else's version.
    version = labels.pop("version", "") if name else __version__
    schema_url = labels.pop("schema_url", "")
    return Scope(name or SCOPE_NAME, version, schema_url, tuple(sorted(labels.items())))
