"""Recognise the resource that a series is about, by the operator's table of kinds.

* A row speaks for a series on which all of its marks stand; the first row that fits decides, in the
  order of the settings. Series that no row fits are read by the labels of the platform.
* The table is indexed by one mark of each row, the rarest as far as its form tells: the value of a
  label, the beginning of the metric's name (the longest prefix in a sorted list, which knows the
  shorter ones), or the presence of a label.
* An empty value is a missing label.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

import msgspec

from relay.selector.matchers import NAME
from relay.selector.resources.label_selector import (
    ANY,
    Conventions,
    KindMarks,
    KindNames,
    KindRow,
    ResourceSelector,
)
from relay.selector.resources.object_lookup import ObjectRef

Labels: TypeAlias = Mapping[str, str]

_CLOSE_RATIO: Final = 0.85
"""Likeness of two names of API groups of which one is probably the other, misspelt."""


class TableRow(msgspec.Struct, frozen=True, eq=False):
    """One row that recognises series, complete with the platform's labels.

    ``number`` is its index in ``resources.kinds``. The built-in row has none: it fits every series,
    and group and kind stand on the series; its number is that of the rows.
    """

    number: int
    group: str
    kind: str
    kinds: frozenset[str]
    """All names of the kind, in lower case."""
    name_label: str
    namespace_label: str
    uid_label: str
    marks: KindMarks | None

    def fits(self, labels: Labels) -> bool:
        """Return whether all marks stand on a series."""
        marks = self.marks
        if marks is None:
            return True
        if marks.metric_prefix and not labels.get(NAME, "").startswith(marks.metric_prefix):
            return False
        if marks.label and not labels.get(marks.label):
            return False
        return not marks.labels or all(labels.get(name) == value for name, value in marks.labels)


class ResourceId(NamedTuple):
    """The resource that a series is about; every part of its identity may be "".

    ``row`` is the row of the table that spoke.
    """

    group: str
    kind: str
    namespace: str
    name: str
    row: TableRow

    def __str__(self) -> str:
        """Return kind and name, and the reason: the row and its marks, or the kind's label."""
        place = "/".join(filter(None, (self.namespace, self.name)))
        shown = f"{self.kind or 'a resource of unknown kind'} {place}".rstrip()
        if self.row.marks is None:
            return f"{shown}, by the labels of the platform: no row of resources.kinds fits"
        return f"{shown}, by resources.kinds[{self.row.number}] ({self.row.marks})"


class KindTable:
    """The rows of one platform's conventions, indexed. Immutable but for its last answer."""

    __slots__ = ("_by_label", "_last", "_of", "_prefixes", "built_in", "names", "rows")

    def __init__(self, conventions: Conventions) -> None:
        self._of: Final = conventions
        self.names: Final = KindNames(conventions.kinds)
        kinds = conventions.kinds
        self.built_in: Final = self._row(len(kinds), KindRow(""))
        self.rows: Final = tuple(
            self._row(number, one) for number, one in enumerate(kinds) if one.marks is not None
        )
        """Rows that recognise series, in the order of the settings."""
        self._by_label: Final[dict[str, dict[str | None, tuple[TableRow, ...]]]] = {}
        """Rows by label and value; under None those for any other value."""
        self._prefixes: Final = _PrefixIndex(row for row in self.rows if _access(row) is None)
        self._index_labels()
        self._last: tuple[Labels, TableRow] = ({}, self.built_in)

    def row_of(self, labels: Labels) -> TableRow:
        """Return the row that speaks for a series.

        The last answer is kept, as every candidate of a new series asks: a mapping that was asked
        about must not change.
        """
        if not self.rows:
            return self.built_in
        last = self._last
        if last[0] is labels:
            return last[1]
        row = self._find(labels)
        self._last = (labels, row)
        return row

    def identify(self, labels: Labels) -> ResourceId:
        """Return the resource that a series is about, with the row that spoke."""
        row = self.row_of(labels)
        group, kind = row.group, row.kind
        if row.marks is None:
            group = labels.get(self._of.api_group_label, "")
            kind = labels.get(self._of.kind_label, "")
        namespace = labels.get(row.namespace_label, "")
        return ResourceId(group, kind, namespace, labels.get(row.name_label, ""), row)

    def ref(self, labels: Labels) -> ObjectRef:
        """Return the key under which an inventory has the resource of a series."""
        found = self.identify(labels)
        row = found.row
        kinds = self.names.of(found.kind) if row.marks is None else row.kinds
        uid = labels.get(row.uid_label, "")
        return ObjectRef(found.group, kinds, found.namespace, found.name, uid)

    def __repr__(self) -> str:
        return f"<KindTable {len(self.rows)} rows>"

    def _find(self, labels: Labels) -> TableRow:
        best = self.built_in
        before = best.number
        for row in self._prefixes.rows(labels.get(NAME, "")):
            if row.fits(labels):
                best, before = row, row.number
                break
        by_label = self._by_label
        for label in by_label if len(by_label) < len(labels) else labels:
            at = by_label.get(label)
            if at is None:
                continue
            value = labels.get(label)
            if not value:
                continue
            for row in at.get(value) or at.get(None, ()):
                if row.number >= before:
                    break
                if row.fits(labels):
                    best, before = row, row.number
                    break
        return best

    def _index_labels(self) -> None:
        """File rows under labels; the rows of a value hold those that any value has, in order."""
        for row in self.rows:
            access = _access(row)
            if access is None:
                continue
            label, value = access
            at = self._by_label.setdefault(label, {})
            if value is None:
                for one in {*at, None}:
                    at[one] = (*at.get(one, ()), row)
            else:
                at[value] = (*(at[value] if value in at else at.get(None, ())), row)

    def _row(self, number: int, row: KindRow) -> TableRow:
        of = self._of
        return TableRow(
            number,
            row.group,
            row.kind,
            self.names.of(row.kind),
            of.name_label if row.name_label is None else row.name_label,
            of.namespace_label if row.namespace_label is None else row.namespace_label,
            of.uid_label if row.uid_label is None else row.uid_label,
            row.marks,
        )


def shadowed_rows(kinds: Sequence[KindRow]) -> Iterator[str]:
    """Yield a warning for each row that never speaks, because an earlier one fits all its series.

    Takes time in proportion to the square of the number of rows.
    """
    for number, row in enumerate(kinds):
        marks = row.marks
        if marks is None:
            continue
        for earlier, other in enumerate(kinds[:number]):
            if other.marks is not None and _implies(marks, other.marks):
                yield (
                    f"resources.kinds[{number}]: never decides: kinds[{earlier}] "
                    f"({other.kind} by {other.marks}) fits all its series; put it before that one"
                )
                break


def kinds_without_row(
    rows: Sequence[KindRow], selectors: Iterable[ResourceSelector]
) -> Iterator[str]:
    """Yield a warning for each kind that a selector names and no row has, though its group has.

    A group without rows is warned of only if its name is close to one that has: its series may be
    told by the labels of the platform.
    """
    names = KindNames(rows)
    kinds_of: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.marks is not None:
            kinds_of.setdefault(row.group, {})[row.kind] = None
    named = dict.fromkeys(
        (group, kind)
        for selector in selectors
        for one in selector.kinds
        for group in one.groups
        for kind in one.kinds
        if group != ANY
    )
    for group, kind in named:
        none_of, rest = "no row of resources.kinds", "so the table finds no series of it"
        if group not in kinds_of:
            from difflib import get_close_matches  # noqa: PLC0415 - for faults alone

            close = get_close_matches(group, filter(None, kinds_of), n=1, cutoff=_CLOSE_RATIO)
            if close:
                yield f'{none_of} has group {group}, {rest}; did you mean "{close[0]}"?'
        elif kind != ANY and not any(one.lower() in names.of(kind) for one in kinds_of[group]):
            has = ", ".join(islice(kinds_of[group], 10))
            wanted = f"{kind} of {group or 'the core group'}"
            yield f"{none_of} is of {wanted}, {rest}; those of the group are of {has}"


def _implies(marks: KindMarks, other: KindMarks) -> bool:
    """Return whether every series with ``marks`` has those of ``other``, too."""
    present = {marks.label, *(name for name, _ in marks.labels), ""}
    return (
        marks.metric_prefix.startswith(other.metric_prefix)
        and other.label in present
        and set(other.labels) <= set(marks.labels)
    )


class _PrefixIndex:
    """Rows by the beginning of the metric's name. Immutable."""

    __slots__ = ("_entries", "_prefixes")

    def __init__(self, rows: Iterable[TableRow]) -> None:
        by_prefix: dict[str, list[TableRow]] = {}
        for row in rows:
            assert row.marks is not None, "the built-in row is not indexed"
            by_prefix.setdefault(row.marks.metric_prefix, []).append(row)
        self._prefixes: Final = sorted(by_prefix)
        self._entries: Final[list[tuple[tuple[TableRow, ...], int]]] = []
        """Rows of each prefix and of those that it begins with, in the order of the table; and the
        index of the longest of these, -1 if there is none."""
        for number, prefix in enumerate(self._prefixes):
            shorter = number - 1
            while shorter >= 0 and not prefix.startswith(self._prefixes[shorter]):
                shorter = self._entries[shorter][1]
            above = self._entries[shorter][0] if shorter >= 0 else ()
            found = sorted((*above, *by_prefix[prefix]), key=lambda row: row.number)
            self._entries.append((tuple(found), shorter))

    def rows(self, name: str) -> tuple[TableRow, ...]:
        """Return the rows whose prefix begins a name, in the order of the table."""
        prefixes = self._prefixes
        number = bisect_right(prefixes, name) - 1
        # All prefixes of the name sort before it, and the last that does begins with the longest.
        while number >= 0:
            rows, shorter = self._entries[number]
            if name.startswith(prefixes[number]):
                return rows
            number = shorter
        return ()

    def __repr__(self) -> str:
        return f"<_PrefixIndex {', '.join(islice(self._prefixes, 10))}>"


def _access(row: TableRow) -> tuple[str, str | None] | None:
    """Return the label and value, None for any, by which a row is found; None: by its prefix."""
    marks = row.marks
    assert marks is not None, "the built-in row is not indexed"
    if marks.labels:
        return marks.labels[0]
    if marks.metric_prefix:
        return None
    return marks.label, None
