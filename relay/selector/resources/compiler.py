"""Evaluate resource selectors against a series, and explain the result.

* The *cover* of a resource selection is an ordinary selector that every series of a selected
  resource meets; the index files the selection by it. Only series that meet the cover are tested
  for labels of objects.
* A label of a resource is read from the sample, under its prefix, or else from the inventory. A
  resource that the inventory does not know has the labels of its sample and no others.
* A *namespace* must be known: a negative requirement is not met by an unknown namespace, or one
  marked ``environment: internal`` would be exported until its labels are known. Its name is always
  known.
* The table of kinds tells which labels identify a resource: a row of it, or the platform's labels.
  Patterns of kinds are resolved to the rows that they select when a selection is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Protocol, TypeAlias

import msgspec

from relay.selector.evaluate import Explanation, Unmet, compile_selector
from relay.selector.matchers import NAME, Matcher, Selector
from relay.selector.quoting import quote_string
from relay.selector.resources.kind_table import KindTable, TableRow
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

COVER_ROWS_MAX: Final = 64
"""Most rows of the table that an entry of ``kinds`` adds to a cover one by one."""


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

    __slots__ = ("conventions", "kinds")

    def __init__(self, conventions: Conventions | None = None) -> None:
        self.conventions: Final = conventions or Conventions()
        self.kinds: Final = KindTable(self.conventions)

    def compile(self, selection: Selection, objects: Objects | None = None) -> Compiled:
        """Compile ``selection``; ``objects`` are those of its project."""
        if isinstance(selection, Selector):
            return compile_selector(selection)
        return CompiledResources(selection, self, objects or NoObjects())

    def ref(self, labels: Labels) -> ObjectRef:
        """Return the resource that a series is about."""
        return self.kinds.ref(labels)

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

    __slots__ = ("_clauses", "_table", "labels_read", "selection", "selector")

    def __init__(self, selection: ResourceSelection, compiler: Compiler, objects: Objects) -> None:
        self.selection: Final = selection
        self.labels_read: Final = None
        self._table: Final = compiler.kinds
        self._clauses: Final = tuple(
            _Clause(one, selection.namespace, compiler, objects) for one in selection.selectors
        )
        self.selector: Final = Selector(
            tuple(dict.fromkeys(group for clause in self._clauses for group in clause.cover()))
        )

    def matches(self, labels: Labels) -> bool:
        """Return whether a series with these labels is of a selected resource."""
        return any(clause.matches(labels) for clause in self._clauses)

    def explain(self, labels: Labels) -> Explanation:
        """Return the result with reasons; a group is one of ``resourceSelectors``."""
        reasons: list[Unmet] = []
        table = self._table
        subject = str(table.identify(labels)) if table.rows else ""
        for number, clause in enumerate(self._clauses):
            reason = clause.why_not(labels)
            if not reason:
                return Explanation(True, number, tuple(reasons), subject)
            reasons.append(Unmet(f"resourceSelectors[{number}]: {reason}"))
        return Explanation(False, None, tuple(reasons), subject)

    def describe(self, group: int | None) -> str:
        """Return the entry with that index, in the user's notation."""
        assert group is not None, "there is at least one entry"
        return f"resourceSelectors[{group}]: {self._clauses[group]}"

    def __repr__(self) -> str:
        return f"<CompiledResources {'; '.join(map(str, self._clauses))}>"


class _Kinds(msgspec.Struct, frozen=True):
    """One entry of ``kinds``; None means any. ``names`` are in lower case."""

    groups: frozenset[str] | None
    names: frozenset[str] | None

    def accepts(self, group: str, kind: str) -> bool:
        return (self.groups is None or group in self.groups) and (
            self.names is None or kind.lower() in self.names
        )


class _Clause:
    """One resource selector, with the namespace of its exporter."""

    __slots__ = ("_compiler", "_kinds", "_objects", "_own", "_rows", "_selector", "_table")

    def __init__(
        self, selector: ResourceSelector, own: str, compiler: Compiler, objects: Objects
    ) -> None:
        self._selector = selector
        self._own = own
        self._compiler = compiler
        self._objects = objects
        self._table = compiler.kinds
        self._kinds = tuple(_kinds(one, compiler.kinds.names) for one in selector.kinds)
        self._rows = frozenset(
            row
            for row in compiler.kinds.rows
            if any(kinds.accepts(row.group, row.kind) for kinds in self._kinds)
        )
        """Rows of the table that ``kinds`` select; the built-in row depends on the series."""

    def matches(self, labels: Labels) -> bool:
        selector = self._selector
        row = self._table.row_of(labels)
        return (
            self._accepts_kind(row, labels)
            and self._accepts_namespace(row, labels)
            and (
                not selector.labels.requirements
                or next(self._unmet_labels(selector.labels, labels), None) is None
            )
        )

    def why_not(self, labels: Labels) -> str:
        """Return the first condition that the series does not meet, "" if there is none."""
        row = self._table.row_of(labels)
        if not self._accepts_kind(row, labels):
            return f"wants kinds {' or '.join(map(str, self._selector.kinds))}: " + (
                self._platform_kind(labels)
                if row.marks is None
                else f"it is {row.kind} of {row.group or quote_string('')}"
            )
        namespace = labels.get(row.namespace_label, "")
        if self._selector.namespaces is None:
            if namespace != self._own:
                return (
                    f"wants namespace {quote_string(self._own)}, the exporter's own, as it has no "
                    f"namespaceSelector: {_namespace_is(row, namespace)}"
                )
        elif self._selector.namespaces.requirements and (
            unmet := next(self._unmet_namespace(row, labels), None)
        ):
            return f"namespaceSelector wants {unmet}"
        if unmet := next(self._unmet_labels(self._selector.labels, labels), None):
            return f"labelSelectors wants {unmet}"
        return ""

    def cover(self) -> Iterator[tuple[Matcher, ...]]:
        """Yield the cover's groups, for each entry of ``kinds`` those of every row it selects."""
        of = self._compiler.conventions
        built_in = self._table.built_in
        for kinds in self._kinds or (_Kinds(None, None),):
            group = list(self._namespace_cover(built_in.namespace_label))
            if kinds.groups is not None:
                group.append(_one_of(of.api_group_label, kinds.groups))
            if kinds.names is not None:
                group.append(_one_of(of.kind_label, kinds.names, flags="(?i)"))
            yield tuple(group)
            rows = [row for row in self._table.rows if kinds.accepts(row.group, row.kind)]
            is_short = len(rows) <= COVER_ROWS_MAX and (kinds.groups, kinds.names) != (None, None)
            for row in rows:
                if row.namespace_label or not self._needs_namespace:
                    namespace = self._namespace_cover(row.namespace_label)
                    yield (*namespace, *_mark_cover(row)) if is_short else namespace

    @property
    def _needs_namespace(self) -> bool:
        """True if a resource without a namespace cannot be selected."""
        namespaces = self._selector.namespaces
        return bool(self._own) if namespaces is None else bool(namespaces.requirements)

    def _namespace_cover(self, label: str) -> tuple[Matcher, ...]:
        namespaces = self._selector.namespaces
        if namespaces is None:
            return (Matcher(label, "=", self._own),)
        return (_named_namespaces(label, namespaces),) if namespaces.requirements else ()

    def _accepts_kind(self, row: TableRow, labels: Labels) -> bool:
        if not self._kinds:
            return True
        if row.marks is not None:
            return row in self._rows
        of = self._compiler.conventions
        group, kind = labels.get(of.api_group_label, ""), labels.get(of.kind_label, "")
        return any(kinds.accepts(group, kind) for kinds in self._kinds)

    def _platform_kind(self, labels: Labels) -> str:
        """Return kind and group as the platform's labels tell them, as a part of a sentence."""
        of = self._compiler.conventions
        return ", ".join(
            f"{label} {_is(labels.get(label) or None)}"
            for label in (of.kind_label, of.api_group_label)
        )

    def _accepts_namespace(self, row: TableRow, labels: Labels) -> bool:
        namespaces = self._selector.namespaces
        if namespaces is None:
            return labels.get(row.namespace_label, "") == self._own
        return not namespaces.requirements or next(self._unmet_namespace(row, labels), None) is None

    def _unmet_namespace(self, row: TableRow, labels: Labels) -> Iterator[str]:
        """Yield the requirements that the namespace does not meet, as parts of a sentence."""
        of = self._compiler.conventions
        assert self._selector.namespaces is not None
        name = labels.get(row.namespace_label, "")
        if not name:
            yield f"a namespace: {_namespace_is(row, '')}"
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


def _mark_cover(row: TableRow) -> Iterator[Matcher]:
    """Yield the marks of a row as matchers."""
    marks = row.marks
    assert marks is not None, "the built-in row has none"
    for name, value in marks.labels:
        yield Matcher(name, "=", value)
    if marks.metric_prefix:
        yield Matcher(NAME, "=~", f"{_literal(marks.metric_prefix)}.*")
    if marks.label:
        yield Matcher(marks.label, "!=", "")


def _one_of(label: str, values: frozenset[str], *, flags: str = "") -> Matcher:
    if len(values) == 1 and not flags:
        return Matcher(label, "=", next(iter(values)))
    return Matcher(label, "=~", flags + "|".join(map(_literal, sorted(values))))


def _literal(text: str) -> str:
    """Escape a text for use as a pattern. Names of groups, kinds and metrics are ASCII."""
    return re.sub(r"([^A-Za-z0-9_-])", r"\\\1", text)


def _on_sample(labels: Labels, prefix: str, key: str) -> str | None:
    """Return an object's label from a sample; an empty value is a missing label."""
    return (labels.get(prefix + sanitized(key)) or None) if prefix else None


def _namespace_is(row: TableRow, value: str) -> str:
    """Return the namespace as the labels tell it, as a part of a sentence."""
    label = row.namespace_label
    return f"{label} {_is(value or None)}" if label else "no label tells it"


def _is(value: str | None) -> str:
    return "is absent" if value is None else f"is {quote_string(value)}"
