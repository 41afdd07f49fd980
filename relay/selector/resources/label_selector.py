"""Resource selectors: select Kubernetes objects instead of labels of series.

The fields are the proposal's (``spec.sources[].metrics.resourceSelectors``), with Kubernetes'
meaning:

* Several resource selectors are or-ed; within one, ``namespaceSelector``, ``labelSelectors`` and
  ``kinds`` are and-ed; the entries of ``kinds`` are or-ed.
* A label selector without requirements selects everything. ``In`` and ``Exists`` need the key;
  ``NotIn`` and ``DoesNotExist`` also accept an object without it (apimachinery, ``labels``).
* An absent ``namespaceSelector`` means the exporter's own namespace; ``{}`` means every namespace
  and cluster-scoped objects.
* Kinds are matched in any case, as Kind, singular or plural; ``*`` means any, or none.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, TypeAlias

import msgspec

from relay.selector.matchers import Selector
from relay.selector.quoting import quote_string

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]

ANY = "*"

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Label with a namespace's name, which Kubernetes sets on every namespace."""


class Requirement(msgspec.Struct, frozen=True):
    """One condition on one label of an object; ``Exists`` and ``DoesNotExist`` have no values."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def accepts(self, value: str | None) -> bool:
        """Return whether a label's value, None if it is missing, meets the condition."""
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None

    def __str__(self) -> str:
        """Return the condition in the notation of ``kubectl --selector``."""
        match self.operator:
            case "In" if len(self.values) == 1:
                return f"{self.key}={self.values[0]}"
            case "In":
                return f"{self.key} in ({','.join(self.values)})"
            case "NotIn":
                return f"{self.key} notin ({','.join(self.values)})"
            case "Exists":
                return self.key
            case "DoesNotExist":
                return f"!{self.key}"


class LabelSelector(msgspec.Struct, frozen=True):
    """A conjunction of requirements; without any it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements)) or "everything"


class KindSelector(msgspec.Struct, frozen=True):
    """Objects of given API groups and kinds; ``("*",)`` means any, "" the core group."""

    groups: tuple[str, ...] = (ANY,)
    kinds: tuple[str, ...] = (ANY,)

    def __str__(self) -> str:
        groups = ",".join(group or '""' for group in self.groups)
        return f"{','.join(self.kinds)} of {groups}"


class ResourceSelector(msgspec.Struct, frozen=True):
    """One entry of ``resourceSelectors``. ``namespaces`` None means the exporter's own."""

    namespaces: LabelSelector | None = None
    labels: LabelSelector = LabelSelector()
    kinds: tuple[KindSelector, ...] = ()

    def __str__(self) -> str:
        parts = [f"kinds {' or '.join(map(str, self.kinds))}"] if self.kinds else []
        if self.namespaces is None:
            parts.append("the exporter's own namespace")
        else:
            parts.append(f"namespaces with {self.namespaces}")
        if self.labels.requirements:
            parts.append(f"labels {self.labels}")
        return ", ".join(parts)


class ResourceSelection(msgspec.Struct, frozen=True):
    """The resource selectors of one source, and the namespace of its exporter."""

    namespace: str
    selectors: tuple[ResourceSelector, ...]


Selection: TypeAlias = Selector | ResourceSelection
"""A source's selection, in either notation."""


class KindMarks(msgspec.Struct, frozen=True):
    """Conditions on a series that mark it as one of a kind; those given must all hold.

    ``metric_prefix`` begins the metric's name, ``label`` is present, ``labels`` have these values.
    """

    metric_prefix: str = ""
    label: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return the marks in the words of the settings."""
        parts = [f"metricPrefix {self.metric_prefix}"] if self.metric_prefix else []
        if self.label:
            parts.append(f"label {self.label}")
        if self.labels:
            values = ",".join(f"{name}={quote_string(value)}" for name, value in self.labels)
            parts.append(f"labels {{{values}}}")
        return ", ".join(parts)


class KindRow(msgspec.Struct, frozen=True):
    """One row of the table of kinds: the names of a kind, and how its series are recognised.

    ``names`` and ``plural`` are for kinds that English plurals do not cover. Without ``marks`` the
    row only gives names. The labels are those of the platform where None, "" where the kind has
    none.
    """

    kind: str
    names: tuple[str, ...] = ()
    plural: str = ""
    group: str = ""
    name_label: str | None = None
    namespace_label: str | None = None
    uid_label: str | None = None
    marks: KindMarks | None = None


class Conventions(msgspec.Struct, frozen=True):
    """Names of the labels that identify resources in metrics; "" if the platform has no such label.

    ``label_prefix`` precedes the labels of a resource on its samples, ``namespace_label_prefix``
    those of its namespace. The rows of ``kinds`` are asked before the labels, in their order.
    """

    api_group_label: str = "service_name"
    kind_label: str = "resource_kind"
    namespace_label: str = "resource_namespace"
    name_label: str = "resource_name"
    uid_label: str = "resource_uid"
    label_prefix: str = "label_"
    namespace_label_prefix: str = ""
    kinds: tuple[KindRow, ...] = ()


class KindNames:
    """Map the names of kinds to their synonyms."""

    __slots__ = ("_aliases",)

    def __init__(self, rows: Iterable[KindRow] = ()) -> None:
        self._aliases: dict[str, frozenset[str]] = {}
        for one in rows:
            given = (one.kind, one.plural, *one.names)
            names = frozenset(name.lower() for name in given if name)
            for name in names:
                self._aliases[name] = names | self._aliases.get(name, frozenset())

    def of(self, name: str) -> frozenset[str]:
        """Return all names, in lower case, of the kind with this name, itself included."""
        lower = name.lower()
        aliases = self._aliases.get(lower)
        return _inflected(lower) if aliases is None else aliases | _inflected(lower)

    def __repr__(self) -> str:
        return f"<KindNames {len(self._aliases)} given>"


@lru_cache(maxsize=10_000)
def _inflected(name: str) -> frozenset[str]:
    """Return the name, its plural, and its possible singulars."""
    singulars = (name[:-1], name[:-2], f"{name[:-3]}y")
    return frozenset((name, _plural(name), *(one for one in singulars if _plural(one) == name)))


def _plural(name: str) -> str:
    """Return the English plural; irregular kinds must be configured by the operator."""
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}s"


@lru_cache(maxsize=100_000)
def sanitized(key: str) -> str:
    """Return a label's key as kube-state-metrics sanitizes it: other characters become ``_``."""
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in key)
