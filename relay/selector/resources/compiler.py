"""Evaluate resource selectors against a series, and explain the result.

* The *cover* of a resource selection is an ordinary selector that every series of a selected
  resource meets; the index files the selection by it. Only series that meet the cover are tested
  for labels of objects.
* A label of a resource is read from the sample, under its prefix, or else from the inventory. A
  resource that the inventory does not know has the labels of its sample and no others.
* A *namespace* must be known: a negative requirement is not met by an unknown namespace, or one
  marked ``environment: internal`` would be exported until its labels are known. Its name is always
  known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from relay.selector.evaluate import Explanation, Unmet, compile_selector
from relay.selector.matchers import Matcher, Selector
from relay.selector.quoting import quote_string
from relay.selector.resources.label_selector import (
    ANY,
    NAMESPACE_NAME,
    Conventions,
    KindNames,
    KindSelector,
    LabelSelector,
    ResourceSelection,
    ResourceSelector,
    Selection,
    sanitized,
)
from relay.selector.resources.object_lookup import NoObjects, ObjectRef, Objects

Labels: TypeAlias = Mapping[str, str]


class Compiled(Protocol):
    """A selection ready for evaluation."""

    @property
    def selector(self) -> Selector:
        """The cover: a selector that matches at least the same series."""

    @property
    def labels_read(self) -> frozenset[str] | None:
        """Labels that the result depends on; None if it depends on other things."""

    def matches(self, labels: Labels) -> bool:
        """Return whether a series with these labels, ``__name__`` included, is selected."""

    def explain(self, labels: Labels) -> Explanation:
        """Return the result of :meth:`matches` with reasons."""

    def describe(self, group: int | None) -> str:
        """Return the alternative ``group`` of an explanation, in the user's notation."""


class Compiler:
    """Compile selections of either kind, with one platform's conventions."""

    __slots__ = ("conventions", "kind_names")

    def __init__(self, conventions: Conventions | None = None) -> None:
        self.conventions: Final = conventions or Conventions()
        self.kind_names: Final = KindNames(self.conventions.kinds)

    def compile(self, selection: Selection, objects: Objects | None = None) -> Compiled:
        """Compile ``selection``; ``objects`` are those of its project."""
        if isinstance(selection, Selector):
            return compile_selector(selection)
        return CompiledResources(selection, self, objects or NoObjects())

    def ref(self, labels: Labels) -> ObjectRef:
        """Return the resource that a series is about."""
        of = self.conventions
        return ObjectRef(
            labels.get(of.api_group_label, ""),
            self.kind_names.of(labels.get(of.kind_label, "")),
            labels.get(of.namespace_label, ""),
            labels.get(of.name_label, ""),
            labels.get(of.uid_label, ""),
        )

    def __repr__(self) -> str:
        return f"<Compiler {self.conventions}>"


def uses_inventory(selection: Selection) -> bool:
    """Return whether a change of an object's labels may change the selection."""
    return isinstance(selection, ResourceSelection) and any(
        one.labels.requirements or (one.namespaces is not None and one.namespaces.requirements)
        for one in selection.selectors
    )


class CompiledResources:
    """Resource selectors ready for evaluation; make them with :meth:`Compiler.compile`."""

    __slots__ = ("_clauses", "labels_read", "selection", "selector")

    def __init__(self, selection: ResourceSelection, compiler: Compiler, objects: Objects) -> None:
        self.selection: Final = selection
        self.labels_read: Final = None
        self._clauses: Final = tuple(
            _Clause(one, selection.namespace, compiler, objects) for one in selection.selectors
        )
        self.selector: Final = Selector(
            tuple(group for clause in self._clauses for group in clause.cover())
        )

    def matches(self, labels: Labels) -> bool:
        """Return whether a series with these labels is of a selected resource."""
        return any(clause.matches(labels) for clause in self._clauses)

    def explain(self, labels: Labels) -> Explanation:
        """Return the result with reasons; a group is one of ``resourceSelectors``."""
        reasons: list[Unmet] = []
        for number, clause in enumerate(self._clauses):
            reason = clause.why_not(labels)
            if not reason:
                return Explanation(True, number, tuple(reasons))
            reasons.append(Unmet(f"resourceSelectors[{number}]: {reason}"))
        return Explanation(False, None, tuple(reasons))

    def describe(self, group: int | None) -> str:
        """Return the entry with that index, in the user's notation."""
        assert group is not None, "there is at least one entry"
        return f"resourceSelectors[{group}]: {self._clauses[group]}"

    def __repr__(self) -> str:
        return f"<CompiledResources {'; '.join(map(str, self._clauses))}>"


@dataclass(frozen=True, slots=True)
class _Kinds:
    """One entry of ``kinds``; None means any. ``names`` are in lower case."""

    groups: frozenset[str] | None
    names: frozenset[str] | None

    def accepts(self, group: str, kind: str) -> bool:
        return (self.groups is None or group in self.groups) and (
            self.names is None or kind.lower() in self.names
        )


class _Clause:
    """One resource selector, with the namespace of its exporter."""

    __slots__ = ("_compiler", "_kinds", "_objects", "_own", "_selector")

    def __init__(
        self, selector: ResourceSelector, own: str, compiler: Compiler, objects: Objects
    ) -> None:
        self._selector = selector
        self._own = own
        self._compiler = compiler
        self._objects = objects
        self._kinds = tuple(_kinds(one, compiler.kind_names) for one in selector.kinds)

    def matches(self, labels: Labels) -> bool:
        selector = self._selector
        return (
            self._accepts_kind(labels)
            and self._accepts_namespace(labels)
            and (
                not selector.labels.requirements
                or next(self._unmet_labels(selector.labels, labels), None) is None
            )
        )

    def why_not(self, labels: Labels) -> str:
        """Return the first condition that the series does not meet, "" if there is none."""
        of = self._compiler.conventions
        if not self._accepts_kind(labels):
            kind, group = (labels.get(name) or None for name in (of.kind_label, of.api_group_label))
            wanted = " or ".join(map(str, self._selector.kinds))
            found = f"{of.kind_label} {_is(kind)}, {of.api_group_label} {_is(group)}"
            return f"wants kinds {wanted}: {found}"
        namespace = labels.get(of.namespace_label, "")
        if self._selector.namespaces is None:
            if namespace != self._own:
                return (
                    f"wants namespace {quote_string(self._own)}, the exporter's own, as it has no "
                    f"namespaceSelector: {of.namespace_label} {_is(namespace or None)}"
                )
        elif unmet := next(self._unmet_namespace(labels), None):
            return f"namespaceSelector wants {unmet}"
        if unmet := next(self._unmet_labels(self._selector.labels, labels), None):
            return f"labelSelectors wants {unmet}"
        return ""

    def cover(self) -> Iterator[tuple[Matcher, ...]]:
        """Yield the cover's groups, one for each entry of ``kinds``."""
        of = self._compiler.conventions
        namespaces = self._selector.namespaces
        namespace: tuple[Matcher, ...] = ()
        if namespaces is None:
            namespace = (Matcher(of.namespace_label, "=", self._own),)
        elif namespaces.requirements:
            namespace = (_named_namespaces(of.namespace_label, namespaces),)
        for kinds in self._kinds or (_Kinds(None, None),):
            group = list(namespace)
            if kinds.groups is not None:
                group.append(_one_of(of.api_group_label, kinds.groups))
            if kinds.names is not None:
                group.append(_one_of(of.kind_label, kinds.names, flags="(?i)"))
            yield tuple(group)

    def _accepts_kind(self, labels: Labels) -> bool:
        if not self._kinds:
            return True
        of = self._compiler.conventions
        group, kind = labels.get(of.api_group_label, ""), labels.get(of.kind_label, "")
        return any(kinds.accepts(group, kind) for kinds in self._kinds)

    def _accepts_namespace(self, labels: Labels) -> bool:
        namespaces = self._selector.namespaces
        if namespaces is None:
            return labels.get(self._compiler.conventions.namespace_label, "") == self._own
        return not namespaces.requirements or next(self._unmet_namespace(labels), None) is None

    def _unmet_namespace(self, labels: Labels) -> Iterator[str]:
        """Yield the requirements that the namespace does not meet, as parts of a sentence."""
        of = self._compiler.conventions
        assert self._selector.namespaces is not None
        name = labels.get(of.namespace_label, "")
        if not name:
            yield f"a namespace: {of.namespace_label} is absent"
            return
        known = self._objects.namespace(name)
        shown = quote_string(name)
        for requirement in self._selector.namespaces.requirements:
            key = requirement.key
            if key == NAMESPACE_NAME:
                value: str | None = name
            else:
                value = _on_sample(labels, of.namespace_label_prefix, key)
                if value is None and known is not None:
                    value = known.get(key)
                if value is None and known is None:
                    yield f"{requirement}: nothing is known of the labels of namespace {shown}"
                    continue
            if not requirement.accepts(value):
                yield f"{requirement}: of namespace {shown}, {key} {_is(value)}"

    def _unmet_labels(self, selector: LabelSelector, labels: Labels) -> Iterator[str]:
        """Yield the requirements that the resource's labels do not meet, as parts of a sentence."""
        of = self._compiler.conventions
        known = None
        asked = False
        for requirement in selector.requirements:
            value = _on_sample(labels, of.label_prefix, requirement.key)
            where = "on the sample"
            if value is None:
                if not asked:
                    known = self._objects.resource(self._compiler.ref(labels))
                    asked = True
                if known is not None:
                    value = known.get(requirement.key)
                    where = "in the inventory"
                else:
                    where = "on the sample, and nothing is known of its resource"
            if not requirement.accepts(value):
                yield f"{requirement}: {requirement.key} {_is(value)} {where}"

    def __str__(self) -> str:
        return str(self._selector)


def _kinds(selector: KindSelector, names: KindNames) -> _Kinds:
    kinds = None
    if ANY not in selector.kinds:
        kinds = frozenset(name for kind in selector.kinds for name in names.of(kind))
    return _Kinds(None if ANY in selector.groups else frozenset(selector.groups), kinds)


def _named_namespaces(label: str, namespaces: LabelSelector) -> Matcher:
    """Return the cover of a namespace selector: the names it lists, or any namespace."""
    for requirement in namespaces.requirements:
        if requirement.key == NAMESPACE_NAME and requirement.operator == "In":
            return _one_of(label, frozenset(requirement.values))
    return Matcher(label, "!=", "")


def _one_of(label: str, values: frozenset[str], *, flags: str = "") -> Matcher:
    if len(values) == 1 and not flags:
        return Matcher(label, "=", next(iter(values)))
    return Matcher(label, "=~", flags + "|".join(map(_literal, sorted(values))))


def _literal(text: str) -> str:
    """Escape a text for use as a pattern. Names of groups and kinds are ASCII."""
    return re.sub(r"([^A-Za-z0-9_-])", r"\\\1", text)


def _on_sample(labels: Labels, prefix: str, key: str) -> str | None:
    """Return an object's label from a sample; an empty value is a missing label."""
    return (labels.get(prefix + sanitized(key)) or None) if prefix else None


def _is(value: str | None) -> str:
    return "is absent" if value is None else f"is {quote_string(value)}"
