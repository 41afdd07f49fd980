"""Which of many selectors match a series, without asking them all.

Rules:

* Every group of a selector is filed under one condition that each series it matches must meet, the
  *access predicate* (Fabret et al., "Filtering Algorithms and Implementation for Very Fast
  Publish/Subscribe Systems", SIGMOD 2001): in order of what asking costs,

  1. a label has one of a few values: ``=``, or ``=~`` where the pattern is an alternation of words;
  2. a label's value matches a pattern: ``=~``, answered for all patterns at once (``patterns``);
  3. a label is there at all: a negative matcher that refuses "".

  Among several, the one that the fewest groups mention is taken, as the best guess at the rarest:
  many customers ask for a service, few for a resource. A matcher that accepts "" is never an access
  predicate: it also matches series without the label, which no lookup by label finds.
* A group without an access predicate, or without matchers, puts its selector among those that are
  *always* asked. Their number is in the statistics, as each costs every series.
* Resource selectors are filed by their cover, a selector that matches at least what they match.
* What the access predicates find are candidates. Each is asked itself: the index can make an answer
  slow but never wrong.
* Values repeat far more than series do: where more than values are filed under a label, what its
  values lead to is remembered until something else is filed there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar

from relay.selector.evaluate import matcher_test
from relay.selector.index.regex_set import PatternTable, no_pause
from relay.selector.matchers import NAME, Matcher
from relay.selector.regex import Regex, compile_regex
from relay.selector.resources.compiler import Compiled

PATTERN_COST: Final = 8
PRESENCE_COST: Final = 1_000
"""Asking for a pattern, or only for presence, is as bad as a value that so many groups mention."""

ANSWERS_MAX: Final = 1_024
"""Values of a label whose candidates are remembered; at the limit all are forgotten."""
ANSWER_CHARS_MAX: Final = 256
"""Longer values are not remembered."""

LOOKS_AT_MAX: Final = 8
"""Labels that answers rest on, for whoever remembers those: with more, equal ones are rare."""

K = TypeVar("K", bound=Hashable)

_by_sequence = attrgetter("sequence")


@dataclass(frozen=True, slots=True)
class IndexStatistics:
    """``always`` selectors are asked for every series; ``longest_value`` are filed under one value.

    ``patterns`` are distinct; ``young`` ones are asked one by one, the rest in ``sets``.
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


@dataclass(frozen=True, slots=True)
class _ByValue:
    label: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class _ByPattern:
    label: str
    regex: Regex


@dataclass(frozen=True, slots=True)
class _ByPresence:
    label: str


_Access: TypeAlias = _ByValue | _ByPattern | _ByPresence


class _Entry(Generic[K]):
    """One selector in the index, what its groups mention, and where it is filed."""

    __slots__ = ("costly", "filings", "key", "looks_at", "matches", "mentions", "sequence")

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
        self.looks_at: Final = selector.looks_at
        self.mentions: Final = mentions
        self.sequence: Final = sequence
        self.filings: tuple[_Access, ...] = ()


class _LabelIndex(Generic[K]):
    """What is filed under one label, and how often groups mention its values and patterns."""

    __slots__ = ("_answers", "_mentions", "patterns", "present", "values")

    def __init__(self) -> None:
        self._answers: dict[str, dict[_Entry[K], None]] = {}
        self.values: dict[str, dict[_Entry[K], None]] = {}
        self.patterns: PatternTable[_Entry[K]] = PatternTable()
        self.present: dict[_Entry[K], None] = {}
        self._mentions: dict[str | Regex, int] = {}

    def mention(self, access: _Access, times: int) -> None:
        """Count that a group more, or with -1 a group less, could be filed under ``access``."""
        for term in _terms(access):
            count = self._mentions.get(term, 0) + times
            if count:
                self._mentions[term] = count
            else:
                del self._mentions[term]

    def cost(self, access: _Access) -> int:
        """How bad an access predicate is, compared to others of any label."""
        mentions = max((self._mentions.get(term, 0) for term in _terms(access)), default=0)
        match access:
            case _ByValue():
                return mentions + len(access.values)
            case _ByPattern():
                return mentions + PATTERN_COST
            case _ByPresence():
                return PRESENCE_COST

    def candidates(self, value: str, pause: Callable[[], None]) -> dict[_Entry[K], None]:
        """What is filed under a value that is not empty, in the order in which it was added. The
        caller changes nothing in it."""
        if not self.patterns and not self.present:
            return self.values.get(value) or _NOTHING
        answer = self._answers.get(value)
        if answer is None:
            found = self.values.get(value, _NOTHING) | self.present
            self.patterns.collect(value, found, pause)
            answer = dict.fromkeys(sorted(found, key=_by_sequence))
            if len(value) <= ANSWER_CHARS_MAX:
                if len(self._answers) >= ANSWERS_MAX:
                    self._answers.clear()
                self._answers[value] = answer or _NOTHING
        return answer

    def file(self, access: _Access, entry: _Entry[K]) -> None:
        self._answers.clear()
        match access:
            case _ByValue():
                for value in access.values:
                    self.values.setdefault(value, {})[entry] = None
            case _ByPattern():
                self.patterns.add(access.regex, entry)
            case _ByPresence():
                self.present[entry] = None

    def unfile(self, access: _Access, entry: _Entry[K]) -> None:
        """Undo :meth:`file`, also where another group of the same entry already did."""
        self._answers.clear()
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
        """Whether anything is filed here; groups may only mention the label."""
        return bool(self.values or self.patterns or self.present)


_NOTHING: Final[dict[Any, None]] = {}


class SelectorIndex(Generic[K]):
    """Selectors by key, to be asked for one series at a time. Not for several threads at once."""

    __slots__ = ("_always", "_entries", "_filed", "_labels", "_looked_at", "_sequence", "looks_at")

    def __init__(self) -> None:
        self._entries: dict[K, _Entry[K]] = {}
        self._labels: dict[str, _LabelIndex[K]] = {}
        self._filed: dict[str, _LabelIndex[K]] = {}
        """Those of the labels under which something is filed."""
        self._always: dict[_Entry[K], None] = {}
        self._sequence = 0
        self._looked_at: dict[str | None, int] = {}
        """How many selectors rest on a label, under None on something else."""
        self.looks_at: tuple[str, ...] | None = ()
        """The labels that all answers rest on alone; None where they rest on something else, or on
        more than :data:`LOOKS_AT_MAX`. To be asked anew after each change."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def add(self, key: K, selector: Compiled) -> None:
        """Take in a selector under a key that is not in the index."""
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
        """Take out the selector of a key that is in the index."""
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
        """The keys of all selectors that match a series, in the order in which they were added;
        ``pause`` is called between regular expressions."""
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
        """How many selectors are asked for every series."""
        return len(self._always)

    def statistics(self) -> IndexStatistics:
        """A snapshot; takes time in proportion to the distinct values."""
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
        """Count that a selector more, or with -1 a selector less, rests on its labels."""
        counts = self._looked_at
        known = len(counts)
        for label in (None,) if entry.looks_at is None else entry.looks_at:
            count = counts.get(label, 0) + times
            if count:
                counts[label] = count
            else:
                del counts[label]
        if len(counts) != known:
            labels = tuple(label for label in counts if label is not None)
            is_small = len(labels) == len(counts) <= LOOKS_AT_MAX
            self.looks_at = labels if is_small else None

    def _at(self, label: str) -> _LabelIndex[K]:
        return self._labels.setdefault(label, _LabelIndex())

    def _rank(self, access: _Access) -> tuple[int, bool]:
        # Of equals, the metric name: it has the fewest values that no selector knows.
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
    """All the access predicates of a group."""
    found = map(_access, group)
    return tuple(access for access in found if access is not None)


def _access(matcher: Matcher) -> _Access | None:
    """What a series must have to meet ``matcher``; None where it may also lack the label."""
    if matcher_test(matcher)(""):
        return None
    if matcher.op == "=":
        return _ByValue(matcher.label, frozenset((matcher.value,)))
    if matcher.op != "=~":
        return _ByPresence(matcher.label)
    regex = compile_regex(matcher.value)
    # A pattern for any text at all is no better than presence, and would be asked of every value.
    if regex.values is not None:
        return _ByValue(matcher.label, regex.values)
    return _ByPresence(matcher.label) if matcher.value == ".+" else _ByPattern(matcher.label, regex)
