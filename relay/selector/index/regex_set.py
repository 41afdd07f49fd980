"""Find the items whose regular expression matches a value, among many patterns.

* Equal patterns share one slot with all their items.
* An RE2 set matches hundreds of patterns in one pass but is immutable. New patterns go to a short
  *young* list that is tested one by one; when it is full, it is built into a set together with the
  smallest set that has room. The size of sets is limited, which bounds the time of one build.
* Removed patterns only lose their items; a set half of whose patterns have none is rebuilt.
* A set caches its result for each value.
* RE2 reports a set that ran out of memory as one that matches nothing (google/re2#136), but only if
  its budget cannot hold a few states of at most four bytes per instruction: hence the limit on
  instructions.
* Patterns with a leading wildcard make large automata and get smaller sets of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec

from relay.selector.regex import Regex, engine, options

YOUNG_MAX: Final = 32
SET_PATTERNS_MAX: Final = 512
OPEN_SET_PATTERNS_MAX: Final = 128
"""Most patterns of a set whose patterns have a leading wildcard."""
SET_INSTRUCTIONS_MAX: Final = 8_000
"""Most RE2 instructions of a set. In the worst case each is visited for every character of a value:
10 ms for a long one."""
LONG_VALUE_CHARS: Final = 1_024
"""Characters; for longer values patterns are tested one by one, with pauses between."""
SET_MEMORY_BYTES_MAX: Final = 64 * 1024 * 1024
"""Most memory of a set; bytes. A limit, not a reservation: RE2 builds the automaton lazily."""
ANSWERS_MAX: Final = 4_096
"""Most values whose result a set caches; at the limit the cache is cleared."""
ANSWER_CHARS_MAX: Final = 256
"""Longest value that is cached, in characters."""

_OPEN: Final = re.compile(r"(?:^|[(|:^])\.[*+]")

T = TypeVar("T")


class PatternStatistics(msgspec.Struct, frozen=True):
    """Number of ``patterns``; ``young`` ones are tested one by one, others in ``sets``."""

    patterns: int
    young: int
    sets: int


class _Slot(Generic[T]):
    """One pattern and its items. Without items it is dead."""

    __slots__ = ("home", "items", "regex")

    def __init__(self, regex: Regex) -> None:
        self.regex = regex
        self.items: dict[T, None] = {}
        self.home: _Set[T] | None = None
        """None while young."""

    @property
    def is_open(self) -> bool:
        """True if the pattern seems to have a leading wildcard."""
        return _OPEN.search(self.regex.pattern) is not None


class _Set(Generic[T]):
    """Patterns compiled together; only the items of their slots change."""

    __slots__ = ("_answers", "_engine", "instructions", "is_open", "live", "slots")

    def __init__(self, slots: list[_Slot[T]], *, is_open: bool) -> None:
        self.slots: Final = slots
        self.live = len(slots)
        self.is_open: Final = is_open
        self.instructions: Final = sum(slot.regex.instructions for slot in slots)
        self._answers: dict[str, tuple[_Slot[T], ...]] = {}
        self._engine: Any = _compiled([slot.regex.engine_pattern for slot in slots])
        for slot in slots:
            slot.home = self

    def matching(self, value: str, pause: Callable[[], None]) -> tuple[_Slot[T], ...]:
        """Return the slots, dead ones included, whose pattern matches the whole of ``value``."""
        pause()
        answer = self._answers.get(value)
        if answer is None:
            slots = self.slots
            if self._engine is None or len(value) > LONG_VALUE_CHARS:
                answer = tuple(_matching_one_by_one(slots, value, pause))
            else:
                answer = tuple(slots[index] for index in self._engine.Match(value.encode()) or ())
            if len(value) <= ANSWER_CHARS_MAX:
                if len(self._answers) >= ANSWERS_MAX:
                    self._answers.clear()
                self._answers[value] = answer
        return answer


def no_pause() -> None:
    """Do nothing; for callers that need not yield."""


def _matching_one_by_one(
    slots: Iterable[_Slot[T]], value: str, pause: Callable[[], None]
) -> Iterator[_Slot[T]]:
    """Yield the slots whose pattern matches, testing each by itself."""
    for slot in slots:
        pause()
        if slot.regex.matches(value):
            yield slot


def _compiled(patterns: list[str]) -> Any:
    """Return the RE2 set of ``patterns``; None if it does not fit its memory."""
    re2 = engine()
    made = re2.Set.FullMatchSet(options(SET_MEMORY_BYTES_MAX))
    for pattern in patterns:
        made.Add(pattern)
    try:
        made.Compile()
    except re2.error:
        return None
    return made


class PatternTable(Generic[T]):
    """A mutable collection of (pattern, item); finds items by a value they match."""

    __slots__ = ("_sets", "_slots", "_young")

    def __init__(self) -> None:
        self._slots: dict[str, _Slot[T]] = {}
        self._young: dict[str, _Slot[T]] = {}
        self._sets: list[_Set[T]] = []

    def __len__(self) -> int:
        """Return the number of distinct patterns with items."""
        return len(self._slots)

    def add(self, regex: Regex, item: T) -> None:
        """Add ``item`` under a pattern; adding it twice has no further effect."""
        slot = self._slots.get(regex.pattern)
        if slot is None:
            slot = self._slots[regex.pattern] = self._young[regex.pattern] = _Slot(regex)
        slot.items[item] = None
        if len(self._young) > YOUNG_MAX:
            self._build_young()

    def discard(self, regex: Regex, item: T) -> None:
        """Remove ``item`` from a pattern; do nothing if it is not there."""
        slot = self._slots.get(regex.pattern)
        if slot is None or item not in slot.items:
            return
        del slot.items[item]
        if slot.items:
            return
        del self._slots[regex.pattern]
        home = slot.home
        if home is None:
            del self._young[regex.pattern]
            return
        home.live -= 1
        if home.live * 2 <= len(home.slots):
            self._split_up(home)

    def collect(
        self, value: str, into: dict[T, None], pause: Callable[[], None] = no_pause
    ) -> None:
        """Add every item whose pattern matches the whole of ``value`` to ``into``.

        ``pause`` is called between patterns.
        """
        for slot in _matching_one_by_one(self._young.values(), value, pause):
            into.update(slot.items)
        for group in self._sets:
            for slot in group.matching(value, pause):
                into.update(slot.items)

    def statistics(self) -> PatternStatistics:
        """Return a snapshot."""
        return PatternStatistics(len(self._slots), len(self._young), len(self._sets))

    def __repr__(self) -> str:
        return f"<PatternTable {self.statistics()}>"

    def _build_young(self) -> None:
        """Build the young patterns into sets, those with a leading wildcard apart."""
        young = list(self._young.values())
        self._young = {}
        for is_open in (False, True):
            slots = [slot for slot in young if slot.is_open is is_open]
            if slots:
                self._build(slots, is_open=is_open)

    def _build(self, slots: list[_Slot[T]], *, is_open: bool) -> None:
        partner = self._set_with_room(slots, is_open=is_open)
        if partner is not None:
            self._sets.remove(partner)
            slots = [slot for slot in partner.slots if slot.items] + slots
        self._sets.extend(_Set(part, is_open=is_open) for part in _parts(slots))

    def _set_with_room(self, slots: list[_Slot[T]], *, is_open: bool) -> _Set[T] | None:
        """Return the smallest set with room for ``slots``, or None."""
        room = (OPEN_SET_PATTERNS_MAX if is_open else SET_PATTERNS_MAX) - len(slots)
        spare = SET_INSTRUCTIONS_MAX - sum(slot.regex.instructions for slot in slots)
        fitting = [
            group
            for group in self._sets
            if group.is_open is is_open and group.live <= room and group.instructions <= spare
        ]
        return min(fitting, key=lambda group: group.live, default=None)

    def _split_up(self, group: _Set[T]) -> None:
        """Move the live patterns of a half-dead set into another set, or back among the young."""
        self._sets.remove(group)
        slots = [slot for slot in group.slots if slot.items]
        if len(slots) + len(self._young) <= YOUNG_MAX:
            for slot in slots:
                slot.home = None
                self._young[slot.regex.pattern] = slot
        else:
            self._build(slots, is_open=group.is_open)


def _parts(slots: list[_Slot[T]]) -> list[list[_Slot[T]]]:
    """Divide patterns into parts that keep to the limit on instructions, or have one pattern."""
    parts: list[list[_Slot[T]]] = []
    total = 0
    for slot in slots:
        total += slot.regex.instructions
        if not parts or total > SET_INSTRUCTIONS_MAX:
            parts.append([])
            total = slot.regex.instructions
        parts[-1].append(slot)
    return parts
