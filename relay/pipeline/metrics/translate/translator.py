"""Maps a series' labels to OTLP: resource, scope, metric and attributes.

``job`` becomes ``service.name`` (and ``service.namespace``, where it holds exactly one slash),
``instance`` becomes ``service.instance.id``; labels that a sink wants promoted, and those of the
target's ``target_info``, join them in the resource. ``otel_scope_*`` labels become the scope. All
of them leave the point's attributes; every other label is a string attribute, unaltered, but for
one that is literally called like an attribute of the resource: it must not repeat there
(compatibility specification), and gets Prometheus' prefix for such cases, ``exported_``.

Groups are interned, because batches compare them by identity: at least as long as a series or a
batch has them, which are bounded and shared out among projects. So no project's flood parts the
series of another one that belong together.

:meth:`Translator.translate` says it label by label, for any labels. :meth:`Translator.place` comes
to the same with what is remembered: of the target, its resource; of the names of labels, which of
them are attributes (:mod:`relay.pipeline.metrics.translate.point_template`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from relay.codec.otlp.groups import MetricGroup, ResourceGroup, ScopeGroup
from relay.codec.otlp.metrics import MetricIdentity, point_prefix
from relay.codec.remote_write.label_parser import SeriesLabels
from relay.pipeline.metrics.translate.attribute_names import METADATA_LABELS, SCOPE_PREFIX
from relay.pipeline.metrics.translate.group_table import GroupTable
from relay.pipeline.metrics.translate.interned import Interned
from relay.pipeline.metrics.translate.point_template import PointTemplates
from relay.pipeline.metrics.translate.target_info import Resource
from relay.selector.matchers import NAME

SCOPE_NAME = "relay"
"""Name of the scope if no label names one: that of the translator (compatibility specification).

Without a version: backends make a label of it, and each release would make every series new.
"""

Pairs = tuple[tuple[str, str], ...]

_NOTHING: Final[frozenset[str]] = frozenset()


class Scope(NamedTuple):
    """An instrumentation scope; ``attributes`` are sorted by key."""

    name: str = SCOPE_NAME
    version: str = ""
    schema_url: str = ""
    attributes: Pairs = ()


OWN_SCOPE = Scope()


@dataclass(frozen=True, slots=True)
class Translation:
    """One series in OTLP's terms, before encoding; attributes are sorted by key and unique."""

    resource: Pairs
    scope: Scope
    attributes: Pairs


@dataclass(frozen=True, slots=True)
class TranslatorStatistics:
    """Number of distinct resources and metrics that are interned."""

    resources: int
    metrics: int


class Translator:
    """Prepares a series' prefix and interns its group.

    Up to ``idle_max`` groups without other references are kept.
    """

    def __init__(self, *, idle_max: int = 1_000_000) -> None:
        self._resources: Interned[Pairs, ResourceGroup] = Interned(idle_max)
        self._scopes: Interned[tuple[Pairs, Scope], ScopeGroup] = Interned(idle_max)
        self._groups = GroupTable(idle_max)
        self._templates = PointTemplates()
        self._templates_with_target = PointTemplates(keeps_target_labels=True)
        self.placed: MetricGroup | None = None
        """The group of the series that was placed last."""

    def place(
        self,
        labels: SeriesLabels,
        metric: MetricIdentity,
        target: Resource,
        promoted: frozenset[str] = _NOTHING,
        keeps_target_labels: bool = False,
    ) -> tuple[MetricGroup, bytes]:
        """Return the group of a series' points as this metric, and their prefix as number points.

        The same as :meth:`translate`, :meth:`group` and
        :func:`~relay.codec.otlp.metrics.point_prefix`.
        """
        prefix = self.prefix(labels, metric, target, promoted, keeps_target_labels)
        assert self.placed is not None
        return self.placed, prefix

    def prefix(
        self,
        labels: SeriesLabels,
        metric: MetricIdentity,
        target: Resource,
        promoted: frozenset[str] = _NOTHING,
        keeps_target_labels: bool = False,
    ) -> bytes:
        """Return the prefix as :meth:`place` does; :attr:`placed` is the group."""
        home = target.home
        group = self.placed
        # Consecutive series often have the same metric and target.
        is_latest = group is not None and group.scope is home and group.identity is metric
        if home is not None and not is_latest:
            self._groups.fetch(home, metric)  # while the prefix is written
        templates = self._templates_with_target if keeps_target_labels else self._templates
        prefix = templates.prefix(labels, promoted)
        if prefix is None:
            translation = self.translate(
                sorted(labels.items()),
                target=target.attributes,
                promoted=promoted,
                keeps_target_labels=keeps_target_labels,
            )
            self.placed = self.group(translation, metric)
            return point_prefix(translation.attributes)
        if home is None:
            own = _service(labels.get("job", ""), labels.get("instance", ""))
            resource = tuple(sorted({**dict(target.attributes), **own}.items()))
            home = target.home = self._scope_group(resource, OWN_SCOPE)
        if not is_latest:
            self.placed = self._groups.find(home, metric)
        return prefix

    def translate(
        self,
        labels: Iterable[tuple[str, str]],
        *,
        target: Pairs = (),
        promoted: Container[str] = (),
        keeps_target_labels: bool = False,
    ) -> Translation:
        """Split labels into resource, scope and attributes.

        The labels are sorted, unique, non-empty, and include a name.

        ``target`` are the labels of the target, ``promoted`` are labels that move to the resource.
        If several set one attribute, ``job`` and ``instance`` win, then promoted labels.
        ``keeps_target_labels``: these two stay attributes as well.
        """
        moved: dict[str, str] = {}
        scope: dict[str, str] = {}
        attributes: dict[str, str] = {}
        job = instance = ""
        for key, value in labels:
            if key == NAME:
                continue
            if key == "job":
                job = value
            elif key == "instance":
                instance = value
            elif key.startswith(SCOPE_PREFIX):
                scope[key[len(SCOPE_PREFIX) :]] = value
            elif key in promoted:
                moved[key] = value
            elif key not in METADATA_LABELS:
                attributes[key] = value
        if keeps_target_labels:
            attributes |= {k: v for k, v in (("job", job), ("instance", instance)) if v}
        resource = _service(job, instance)
        # A UTF-8 label named like a resource attribute that job or instance sets.
        for key in resource.keys() & attributes.keys():
            attributes.setdefault(f"exported_{key}", attributes.pop(key))
        return Translation(
            tuple(sorted({**dict(target), **moved, **resource}.items())),
            _scope(scope) if scope else OWN_SCOPE,
            tuple(sorted(attributes.items())),
        )

    def group(self, translation: Translation, metric: MetricIdentity) -> MetricGroup:
        """Return the interned group of a metric's points."""
        home = self._scope_group(translation.resource, translation.scope)
        return self._groups.find(home, metric)

    def statistics(self) -> TranslatorStatistics:
        """Return a snapshot."""
        return TranslatorStatistics(len(self._resources.by_key), len(self._groups))

    def _scope_group(self, resource: Pairs, scope: Scope) -> ScopeGroup:
        key = (resource, scope)
        group = self._scopes.by_key.get(key)
        if group is None:
            owner = self._resources.by_key.get(resource)
            if owner is None:
                owner = self._resources.add(resource, ResourceGroup(resource))
            group = self._scopes.add(
                key,
                ScopeGroup(owner, scope.name, scope.version, scope.attributes, scope.schema_url),
            )
        return group

    def __repr__(self) -> str:
        found = self.statistics()
        return f"<Translator {found.metrics} metrics of {found.resources} resources>"


def _service(job: str, instance: str) -> dict[str, str]:
    """Return the resource attributes of these labels; "" for an absent label."""
    found: dict[str, str] = {}
    if job:
        namespace, slash, service = job.partition("/")
        if slash and service and namespace and "/" not in service:
            found["service.namespace"] = namespace
            found["service.name"] = service
        else:
            found["service.name"] = job
    if instance:
        found["service.instance.id"] = instance
    return found


def _scope(labels: dict[str, str]) -> Scope:
    """Return the scope of ``otel_scope_*`` labels, by the rest of their names."""
    name = labels.pop("name", "")
    # A version without a name would be another library's version under our name: it stays an
    # attribute.
    version = labels.pop("version", "") if name else ""
    schema_url = labels.pop("schema_url", "")
    return Scope(name or SCOPE_NAME, version, schema_url, tuple(sorted(labels.items())))
