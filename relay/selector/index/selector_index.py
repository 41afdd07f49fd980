"""Find the selectors that match a series, without evaluating all of them.

* Each group of a selector is filed under one condition that every matching series must meet, the
  *access predicate* (Fabret et al., SIGMOD 2001). By increasing cost: (1) a label has one of a few
  values: ``=``, or ``=~`` with an alternation of words; (2) a value matches a pattern: ``=~``, all
  patterns at once (``regex_set``); (3) a label is present: a negative matcher that refuses "".
* Of several candidates the one that the fewest groups mention is chosen, as an estimate of the
  rarest. A matcher that accepts "" is never an access predicate: it matches series without it.
* A selector with a group that has no access predicate is evaluated for *every* series; the number
  of these selectors is in the statistics.
* Resource selectors are filed by their cover, a selector that matches at least the same series.
* Access predicates only find candidates, which are then evaluated: a bad choice costs time, never
  correctness.
* Candidates are cached by value for labels that have patterns or presence conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from operator import attrgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from relay.selector.evaluate import matcher_test
from relay.selector.index.regex_set import PatternTable, no_pause
from relay.selector.matchers import NAME, Matcher
from relay.selector.regex import Regex, compile_regex
from relay.selector.resources.compiler import Compiled

PATTERN_COST: Final = 8
PRESENCE_COST: Final = 1_000
"""Cost of an access predicate by pattern or by presence, in mentions of a value."""

ANSWERS_MAX: Final = 1_024
"""Most values of a label whose candidates are cached; at the limit the cache is cleared."""
ANSWER_CHARS_MAX: Final = 256
"""Longest value that is cached, in characters."""

LABELS_READ_MAX: Final = 8
"""Most labels in a result's cache key; with more of them, equal keys are rare."""

K = TypeVar("K", bound=Hashable)

_by_sequence = attrgetter("sequence")


class IndexStatistics(msgspec.Struct, frozen=True):
    """Figures of an index.

    ``always`` selectors are evaluated for every series; ``longest_value`` is the most selectors
    filed under one value. ``patterns`` are distinct; ``young`` ones are tested one by one, the rest
    in ``sets``.
    """

    selectors: int
    labels: int
    values: int
    longest_value: int
    patterns: int
    young: int
    sets: int
    present: int
    always: int


class _ByValue(msgspec.Struct, frozen=True):
    label: str
    values: frozenset[str]


class _ByPattern(msgspec.Struct, frozen=True):
    label: str
    regex: Regex


class _ByPresence(msgspec.Struct, frozen=True):
    label: str


_Access: TypeAlias = _ByValue | _ByPattern | _ByPresence


class _Entry(Generic[K]):
    """One selector of the index, the predicates its groups mention, and those it is filed under."""

    __slots__ = ("costly", "filings", "key", "labels_read", "matches", "mentions", "sequence")

    def __init__(
        self, key: K, selector: Compiled, mentions: tuple[_Access, ...], sequence: int
    ) -> None:
        self.costly: Final = any(
            matcher.op in ("=~", "!~") and compile_regex(matcher.value).cost
            for group in selector.selector.groups
            for matcher in group
        )
        self.key: Final = key
        self.matches: Final = selector.matches
        self.labels_read: Final = selector.labels_read
        self.mentions: Final = mentions
        self.sequence: Final = sequence
        self.filings: tuple[_Access, ...] = ()


class _LabelIndex(Generic[K]):
    """Selectors filed under one label, and how often groups mention its values and patterns."""

    __slots__ = ("_alone", "_answers", "_mentions", "patterns", "present", "values")

    def __init__(self) -> None:
        self._answers: dict[str, dict[_Entry[K], None]] = {}
        self._alone: dict[_Entry[K], dict[_Entry[K], None]] | None = None
        """Answers of one entry, which most are: one object for all values that have it."""
        self.values: dict[str, dict[_Entry[K], None]] = {}
        self.patterns: PatternTable[_Entry[K]] = PatternTable()
        self.present: dict[_Entry[K], None] = {}
        self._mentions: dict[str | Regex, int] = {}

    def mention(self, access: _Access, times: int) -> None:
        """Count ``times`` more groups (-1: one less) that could be filed under ``access``."""
        for term in _terms(access):
            count = self._mentions.get(term, 0) + times
            if count:
                self._mentions[term] = count
            else:
                del self._mentions[term]

    def cost(self, access: _Access) -> int:
        """Return the cost of an access predicate, comparable across labels."""
        mentions = max((self._mentions.get(term, 0) for term in _terms(access)), default=0)
        match access:
            case _ByValue():
                return mentions + len(access.values)
            case _ByPattern():
                return mentions + PATTERN_COST
            case _ByPresence():
                return PRESENCE_COST

    def candidates(self, value: str, pause: Callable[[], None]) -> dict[_Entry[K], None]:
        """Return the entries filed under a non-empty value, in the order of their addition.

        The caller must not modify the result.
        """
        if not self.patterns and not self.present:
            return self.values.get(value) or _NOTHING
        answer = self._answers.get(value)
        if answer is None:
            found = self.values.get(value, _NOTHING) | self.present
            self.patterns.collect(value, found, pause)
            answer = self._in_order(found)
            if len(value) <= ANSWER_CHARS_MAX:
                if len(self._answers) >= ANSWERS_MAX:
                    self._answers.clear()
                self._answers[value] = answer or _NOTHING
        return answer

    def _in_order(self, found: dict[_Entry[K], None]) -> dict[_Entry[K], None]:
        """Return the entries in the order of their addition."""
        if len(found) != 1:
            return dict.fromkeys(sorted(found, key=_by_sequence))
        if self._alone is None:
            self._alone = {}
        return self._alone.setdefault(next(iter(found)), found)

    def file(self, access: _Access, entry: _Entry[K]) -> None:
        self._answers.clear()
        self._alone = None
        match access:
            case _ByValue():
                for value in access.values:
                    self.values.setdefault(value, {})[entry] = None
            case _ByPattern():
                self.patterns.add(access.regex, entry)
            case _ByPresence():
                self.present[entry] = None

    def unfile(self, access: _Access, entry: _Entry[K]) -> None:
        """Undo :meth:`file`; do nothing if another group of the same entry already did."""
        self._answers.clear()
        self._alone = None
        match access:
            case _ByValue():
                for value in access.values:
                    filed = self.values.get(value, {})
                    filed.pop(entry, None)
                    if not filed:
                        self.values.pop(value, None)
            case _ByPattern():
                self.patterns.discard(access.regex, entry)
            case _ByPresence():
                self.present.pop(entry, None)

    @property
    def is_empty(self) -> bool:
        return not (self._mentions or self.present)

    @property
    def is_filed(self) -> bool:
        """True if any entry is filed here; groups may merely mention the label."""
        return bool(self.values or self.patterns or self.present)


_NOTHING: Final[dict[Any, None]] = {}


class SelectorIndex(Generic[K]):
    """Selectors by key, matched against one series at a time. Not thread-safe."""

    __slots__ = (
        "_always",
        "_entries",
        "_filed",
        "_label_counts",
        "_labels",
        "_sequence",
        "labels_read",
    )

    def __init__(self) -> None:
        self._entries: dict[K, _Entry[K]] = {}
        self._labels: dict[str, _LabelIndex[K]] = {}
        self._filed: dict[str, _LabelIndex[K]] = {}
        """Labels under which at least one entry is filed."""
        self._always: dict[_Entry[K], None] = {}
        self._sequence = 0
        self._label_counts: dict[str | None, int] = {}
        """Number of selectors that depend on a label; under None on other things than labels."""
        self.labels_read: tuple[str, ...] | None = ()
        """Labels that all results depend on; None if results depend on other things, or on more
        than :data:`LABELS_READ_MAX` labels. May change with each addition or removal."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def add(self, key: K, selector: Compiled) -> None:
        """Add a selector under a key that is not in the index."""
        assert key not in self._entries, f"{key!r} is in the index"
        groups = [_accesses(group) for group in selector.selector.groups]
        mentions = tuple(access for group in groups for access in group)
        self._sequence += 1
        entry = _Entry(key, selector, mentions, self._sequence)
        self._entries[key] = entry
        self._look_at(entry, 1)
        for access in mentions:
            self._at(access.label).mention(access, 1)
        if groups and all(groups):
            entry.filings = tuple(min(group, key=self._rank) for group in groups)
            for access in entry.filings:
                at = self._filed[access.label] = self._at(access.label)
                at.file(access, entry)
        else:
            self._always[entry] = None

    def remove(self, key: K) -> None:
        """Remove the selector of a key that is in the index."""
        entry = self._entries.pop(key)
        self._look_at(entry, -1)
        self._always.pop(entry, None)
        for access in entry.filings:
            at = self._at(access.label)
            at.unfile(access, entry)
            if not at.is_filed:
                self._filed.pop(access.label, None)
        for access in entry.mentions:
            self._at(access.label).mention(access, -1)
        for label in {access.label for access in entry.mentions}:
            if self._at(label).is_empty:
                del self._labels[label]

    def match(self, labels: Mapping[str, str], pause: Callable[[], None] = no_pause) -> list[K]:
        """Return the keys of all selectors that match a series, in the order of their addition.

        ``pause`` is called between regular expressions.
        """
        candidates = self._always
        is_sorted = True
        by_label = self._filed
        for label in by_label if len(by_label) < len(labels) else labels:
            value = labels.get(label)
            at = by_label.get(label)
            if at is None or not value:  # an empty value is a missing label
                continue
            filed = at.candidates(value, pause)
            if not candidates:
                candidates = filed
            elif filed:
                candidates = candidates | filed
                is_sorted = False
        found = []
        for entry in candidates:
            if entry.costly:
                pause()
            if entry.matches(labels):
                found.append(entry)
        if is_sorted:
            return [entry.key for entry in found]
        found.sort(key=_by_sequence)
        return [entry.key for entry in found]

    @property
    def always(self) -> int:
        """Number of selectors that are evaluated for every series."""
        return len(self._always)

    def statistics(self) -> IndexStatistics:
        """Return a snapshot; takes time in proportion to the number of distinct values."""
        at_labels = list(self._labels.values())
        patterns = [at.patterns.statistics() for at in at_labels]
        return IndexStatistics(
            selectors=len(self._entries),
            labels=len(at_labels),
            values=sum(len(at.values) for at in at_labels),
            longest_value=max(
                (len(filed) for at in at_labels for filed in at.values.values()), default=0
            ),
            patterns=sum(table.patterns for table in patterns),
            young=sum(table.young for table in patterns),
            sets=sum(table.sets for table in patterns),
            present=sum(len(at.present) for at in at_labels),
            always=len(self._always),
        )

    def __repr__(self) -> str:
        return f"<SelectorIndex {len(self._entries)} selectors, {len(self._always)} always asked>"

    def _look_at(self, entry: _Entry[K], times: int) -> None:
        """Count ``times`` more selectors (-1: one less) that depend on the entry's labels."""
        counts = self._label_counts
        known = len(counts)
        for label in (None,) if entry.labels_read is None else entry.labels_read:
            count = counts.get(label, 0) + times
            if count:
                counts[label] = count
            else:
                del counts[label]
        if len(counts) != known:
            labels = tuple(label for label in counts if label is not None)
            is_small = len(labels) == len(counts) <= LABELS_READ_MAX
            self.labels_read = labels if is_small else None

    def _at(self, label: str) -> _LabelIndex[K]:
        return self._labels.setdefault(label, _LabelIndex())

    def _rank(self, access: _Access) -> tuple[int, bool]:
        # Of equals, prefer the metric name: it has the fewest values that no selector knows.
        return self._at(access.label).cost(access), access.label != NAME


def _terms(access: _Access) -> Iterable[str | Regex]:
    match access:
        case _ByValue():
            return access.values
        case _ByPattern():
            return (access.regex,)
        case _ByPresence():
            return ()


def _accesses(group: tuple[Matcher, ...]) -> tuple[_Access, ...]:
    """Return all access predicates of a group."""
    found = map(_access, group)
    return tuple(access for access in found if access is not None)


def _access(matcher: Matcher) -> _Access | None:
    """Return the access predicate of ``matcher``; None if it accepts a missing label."""
    if matcher_test(matcher)(""):
        return None
    if matcher.op == "=":
        return _ByValue(matcher.label, frozenset((matcher.value,)))
    if matcher.op != "=~":
        return _ByPresence(matcher.label)
    regex = compile_regex(matcher.value)
    # A pattern for any text is no better than presence, and would be tested for every value.
    if regex.values is not None:
        return _ByValue(matcher.label, regex.values)
    return _ByPresence(matcher.label) if matcher.value == ".+" else _ByPattern(matcher.label, regex)
