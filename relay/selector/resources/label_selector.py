"""Resource selectors: which Kubernetes objects, instead of which labels of series.

The fields are the proposal's (``spec.sources[].metrics.resourceSelectors``); their meaning is
Kubernetes'. Rules:

* Several resource selectors are or-ed; within one, ``namespaceSelector``, ``labelSelectors`` and
  ``kinds`` are and-ed; the entries of ``kinds`` are or-ed.
* A label selector without requirements selects everything. ``In`` and ``Exists`` need the key,
  ``NotIn`` and ``DoesNotExist`` also accept an object without it (apimachinery, ``labels``).
* An absent ``namespaceSelector`` is the exporter's own namespace, ``{}`` is every namespace, and
  whatever is in none (the proposal, "By default, a resource selector will only select resources
  from the same namespace").
* Kinds are named in any case, as Kind, singular or plural; ``*`` is any, also none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

from relay.selector.matchers import Selector

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)

ANY = "*"

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label that Kubernetes itself sets on every namespace: its name."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label of an object. ``values`` is empty for the two ``Exist`` ones."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def accepts(self, value: str | None) -> bool:
        """Whether an object with this value, None for no such label, meets the condition."""
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None

    @property
    def accepts_absence(self) -> bool:
        """Whether an object without the label meets the condition."""
        return self.operator in ("NotIn", "DoesNotExist")

    def __str__(self) -> str:
        """As ``kubectl --selector`` has it."""
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


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All of the requirements; without any, everything."""

    requirements: tuple[Requirement, ...] = ()

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements)) or "everything"


@dataclass(frozen=True, slots=True)
class KindSelector:
    """Objects of one of the API groups and one of the kinds; ``("*",)`` is any, "" the core."""

    groups: tuple[str, ...] = (ANY,)
    kinds: tuple[str, ...] = (ANY,)

    def __str__(self) -> str:
        groups = ",".join(group or '""' for group in self.groups)
        return f"{','.join(self.kinds)} of {groups}"


@dataclass(frozen=True, slots=True)
class ResourceSelector:
    """One entry of ``resourceSelectors``. ``namespaces`` None: the exporter's own."""

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


@dataclass(frozen=True, slots=True)
class ResourceSelection:
    """The resource selectors of one source, and the namespace of the exporter that has it."""

    namespace: str
    selectors: tuple[ResourceSelector, ...]


Selection: TypeAlias = Selector | ResourceSelection
"""What a source selects, however it was written."""


@dataclass(frozen=True, slots=True)
class KindAliases:
    """Names that mean the same kind, where English plurals do not tell."""

    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conventions:
    """How resources show up in metrics: names of labels, "" for one that the platform has not.

    ``label_prefix`` precedes the labels of a resource on its samples, ``namespace_label_prefix``
    those of its namespace.
    """

    api_group_label: str = "service_name"
    kind_label: str = "resource_kind"
    namespace_label: str = "resource_namespace"
    name_label: str = "resource_name"
    uid_label: str = "resource_uid"
    label_prefix: str = "label_"
    namespace_label_prefix: str = ""
    kinds: tuple[KindAliases, ...] = ()


class KindNames:
    """Knows which names mean the same kind."""

    __slots__ = ("_aliases",)

    def __init__(self, aliases: Iterable[KindAliases] = ()) -> None:
        self._aliases: dict[str, frozenset[str]] = {}
        for one in aliases:
            names = frozenset(name.lower() for name in (one.kind, *one.names))
            for name in names:
                self._aliases[name] = names | self._aliases.get(name, frozenset())

    def of(self, name: str) -> frozenset[str]:
        """Every name, in lower case, of the kind that is called ``name``; itself among them."""
        lower = name.lower()
        aliases = self._aliases.get(lower)
        return _inflected(lower) if aliases is None else aliases | _inflected(lower)

    def __repr__(self) -> str:
        return f"<KindNames {len(self._aliases)} given>"


@lru_cache(maxsize=10_000)
def _inflected(name: str) -> frozenset[str]:
    """The name, its plural, and whatever it is the plural of."""
    singulars = (name[:-1], name[:-2], f"{name[:-3]}y")
    return frozenset((name, _plural(name), *(one for one in singulars if _plural(one) == name)))


def _plural(name: str) -> str:
    """English, as far as kinds go; a kind that goes further is for the operator to name."""
    if name.endswith(("s", "x", "z", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}s"


@lru_cache(maxsize=100_000)
def sanitized(key: str) -> str:
    """A label's key as Prometheus can have it: kube-state-metrics replaces all else by ``_``."""
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in key)
