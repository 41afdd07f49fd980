"""From a series' labels to what OTLP calls it: resource, scope, metric and attributes.

``job`` becomes ``service.name`` (and ``service.namespace``, where it holds exactly one slash),
``instance`` becomes ``service.instance.id``; labels that a sink wants promoted, and those of the
target's ``target_info``, join them in the resource. ``otel_scope_*`` labels become the scope. All
of them leave the point's attributes; every other label is a string attribute, unaltered, but for
one that is literally called like an attribute of the resource: it must not repeat there
(compatibility specification), and gets Prometheus' prefix for such cases, ``exported_``.

Groups are interned, because batches compare them by identity.

:meth:`Translator.translate` says it label by label, for any labels. :meth:`Translator.place` comes
to the same with what is remembered: of the names of labels, which of them are attributes and in
which order (a *form*); of the target, its resource; of each label field, its attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from relay import __version__
from relay.pipeline.metric_types import MetricTypes
from relay.pipeline.resources import Resource
from relay.selector.ast import NAME
from relay.wire.label_reader import SeriesLabels, Tail
from relay.wire.otlp import (
    MetricGroup,
    MetricIdentity,
    PointAttributes,
    ResourceGroup,
    ScopeGroup,
    finish_prefix,
    point_prefix,
)

SCOPE_NAME = "relay"
"""Where no label names a scope, the scope must name the translator (compatibility
specification)."""

Pairs = tuple[tuple[str, str], ...]

SCOPE_PREFIX = "otel_scope_"

FORMS_MAX = 2_048
"""Sets of label names whose form is remembered; at the limit all are forgotten."""

BEFORE_MAX = 16
"""Lengths of a beginning that a form remembers."""

_SPECIAL_NAMES = frozenset(("service.name", "service.namespace", "service.instance.id"))
"""Labels that may be called like an attribute of the resource."""

_METADATA_LABELS = ("__type__", "__unit__")
"""Not labels of a series but metadata (prometheus/prometheus, ``schema/labels.go``)."""

_NO_ATTRIBUTES = frozenset((NAME, "job", "instance", *_METADATA_LABELS))


class Scope(NamedTuple):
    """An instrumentation scope; ``attributes`` are sorted by key."""

    name: str = SCOPE_NAME
    version: str = __version__
    schema_url: str = ""
    attributes: Pairs = ()


OWN_SCOPE = Scope()


_Pick: TypeAlias = Callable[[tuple[bytes, ...]], Iterable[bytes]]


class _Form:
    """Which label fields become attributes, for series with the same names in the same order.

    ``all`` picks them sorted by name. ``is_ordered`` says that they stand in that order anyway:
    then :meth:`before` picks those among the first fields.
    """

    __slots__ = ("_before", "_places", "all", "is_ordered")

    def __init__(self, names: tuple[str, ...]) -> None:
        order = sorted((name, at) for at, name in enumerate(names) if name not in _NO_ATTRIBUTES)
        self._places = [at for _, at in order]
        self._before: dict[int, _Pick] = {}
        self.all = _pick(self._places)
        self.is_ordered = self._places == sorted(self._places)

    def before(self, count: int) -> _Pick:
        """Picks those among the first ``count`` fields."""
        pick = self._before.get(count)
        if pick is None:
            if len(self._before) >= BEFORE_MAX:
                self._before.clear()
            pick = self._before[count] = _pick([at for at in self._places if at < count])
        return pick


def _pick(places: list[int]) -> _Pick:
    if len(places) < 2:  # of one place, itemgetter gives the item itself
        return lambda fields: [fields[at] for at in places]
    return itemgetter(*places)


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
        self._groups: dict[tuple[ScopeGroup, MetricIdentity], MetricGroup] = {}
        self._forms: dict[tuple[str, ...], _Form | None] = {}
        self._attribute_of: Callable[[bytes], bytes] = PointAttributes().__getitem__

    def place(
        self,
        labels: SeriesLabels,
        metric: MetricIdentity,
        *,
        target: Resource,
        promoted: frozenset[str] = frozenset(),
    ) -> tuple[MetricGroup, bytes]:
        """The group of a series' points as this metric, and their prefix as number points: what
        :meth:`translate`, :meth:`group` and :func:`~relay.wire.otlp.point_prefix` make of it."""
        names = tuple(labels)
        form = self._forms[names] if names in self._forms else self._learn_form(names)
        if form is None or not (promoted.isdisjoint(names) if promoted else True):
            translation = self.translate(
                sorted(labels.items()), target=target.attributes, promoted=promoted
            )
            return self.group(translation, metric), point_prefix(translation.attributes)
        home = target.home
        if home is None:
            own = _service(labels.get("job", ""), labels.get("instance", ""))
            resource = tuple(sorted({**dict(target.attributes), **own}.items()))
            home = target.home = self._scope_group(resource, OWN_SCOPE)
        group = self._groups.get((home, metric)) or self._make_group(home, metric)
        tail = labels.tail
        if tail is None or not form.is_ordered:
            return group, finish_prefix(b"".join(map(self._attribute_of, form.all(labels.fields))))
        fields = form.before(len(names) - len(tail.fields))(labels.fields)
        rest = self._tail_attributes(tail) if tail.attributes is None else tail.attributes
        return group, finish_prefix(b"".join((*map(self._attribute_of, fields), rest)))

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
        moved: dict[str, str] = {}
        scope: dict[str, str] = {}
        attributes: dict[str, str] = {}
        name = job = instance = ""
        for key, value in labels:
            if key == NAME:
                name = value
            elif key == "job":
                job = value
            elif key == "instance":
                instance = value
            elif key.startswith(SCOPE_PREFIX):
                scope[key[len(SCOPE_PREFIX) :]] = value
            elif key in promoted:
                moved[key] = value
            elif key not in _METADATA_LABELS:
                attributes[key] = value
        resource = _service(job, instance)
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
        home = self._scope_group(translation.resource, translation.scope)
        return self._groups.get((home, metric)) or self._make_group(home, metric)

    def statistics(self) -> TranslatorStatistics:
        """A snapshot."""
        return TranslatorStatistics(len(self._resources), len(self._groups))

    def _tail_attributes(self, tail: Tail) -> bytes:
        """The attributes of a tail's labels, in the order in which these stand."""
        attributes = [
            self._attribute_of(field)
            for name, field in zip(tail.labels, tail.fields, strict=True)
            if name not in _NO_ATTRIBUTES
        ]
        tail.attributes = b"".join(attributes)
        return tail.attributes

    def _make_group(self, home: ScopeGroup, metric: MetricIdentity) -> MetricGroup:
        if len(self._groups) >= self._groups_max:
            # Groups in use live on in their series; the worst is a metric in two pieces once.
            self._groups.clear()
            self._scopes.clear()
            self._resources.clear()
        group = self._groups[home, metric] = MetricGroup(home, metric)
        return group

    def _learn_form(self, names: tuple[str, ...]) -> _Form | None:
        if len(self._forms) >= FORMS_MAX:
            self._forms.clear()
        # None where it takes more than names: what is translated is not the label itself.
        is_special = any(name in _SPECIAL_NAMES or name.startswith(SCOPE_PREFIX) for name in names)
        form = self._forms[names] = None if is_special else _Form(names)
        return form

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


def _service(job: str, instance: str) -> dict[str, str]:
    """The attributes of the resource that these labels become; "" for a label that is not there."""
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
    """The scope that ``otel_scope_*`` labels describe, by the rest of their names."""
    name = labels.pop("name", "")
    # A version without a name would be ours with somebody else's version.
    version = labels.pop("version", "") if name else __version__
    schema_url = labels.pop("schema_url", "")
    return Scope(name or SCOPE_NAME, version, schema_url, tuple(sorted(labels.items())))
