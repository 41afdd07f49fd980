"""Evaluate a selection of records: first against a resource and scope, then against records.

* Each matcher is decided by the resource or scope, where that has its attribute; the others are the
  *residual*, which is asked of each record. Most selections have none, and their records are not
  looked at.
* A selection of whole traces asks the resource alone.
* Resource selectors ask the resource alone, by the plain names of its attributes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import msgspec

from relay.selector.evaluate import Test, matcher_test
from relay.selector.index.regex_set import no_pause
from relay.selector.matchers import Matcher
from relay.selector.quoting import quote_string
from relay.selector.records.logql import line_pattern
from relay.selector.records.selection import (
    CATEGORY_ATTRIBUTE,
    AttributeMatcher,
    LineFilter,
    RecordSelection,
    plain_name,
    severity_name,
)
from relay.selector.regex import compile_regex
from relay.selector.resources.compiler import Compiled, Compiler
from relay.selector.resources.object_lookup import Objects

LONG_CHARS: Final = 1 << 10
"""Texts that are longer are tested with a pause before each test."""

_PLAIN_CHOICE: Final = re.compile(r"[^\\^$.?*+()\[\]{}]*")
"""A regular expression of texts with ``|`` between them, in which nothing else has a meaning."""

LineTest: TypeAlias = Callable[[str, Callable[[], None]], bool]
"""A test of a line, with pauses where that is long."""


class Attributes:
    """Attributes by their names, and by their plain names. Of equal names the first counts.

    Those of ``before`` come first; they are shared, not copied.
    """

    __slots__ = ("_before", "exact", "plain")

    def __init__(
        self, texts: Iterable[tuple[str, str]] = (), *, before: Attributes | None = None
    ) -> None:
        self._before = before
        self.exact: dict[str, str] = {}
        self.plain: dict[str, str] = {}
        for name, text in texts:
            self.exact.setdefault(name, text)
            self.plain.setdefault(plain_name(name), text)

    def get(self, name: str, *, is_exact: bool) -> str | None:
        """Return an attribute's text; None where there is none."""
        if self._before is not None:
            found = self._before.get(name, is_exact=is_exact)
            if found is not None:
                return found
        return (self.exact if is_exact else self.plain).get(name)


class _Condition(msgspec.Struct, frozen=True):
    """A compiled matcher."""

    name: str
    is_exact: bool
    test: Test

    def holds(self, attributes: Attributes, pause: Callable[[], None] = no_pause) -> bool:
        return self.passes(self.get(attributes) or "", pause)

    def passes(self, value: str, pause: Callable[[], None]) -> bool:
        if len(value) > LONG_CHARS:
            pause()
        return self.test(value)

    def get(self, attributes: Attributes) -> str | None:
        return attributes.get(self.name, is_exact=self.is_exact)


_Group = tuple[_Condition, ...]


@dataclass(frozen=True, slots=True)
class Residual:
    """Conditions that only a record can meet; all must hold.

    ``severity_min`` and ``threshold`` are 0 where nothing is asked. One of ``groups`` has to hold,
    if there are any; ``category`` is the test of the category, if its attribute is asked for.
    """

    groups: tuple[_Group, ...] = ()
    category: _Condition | None = None
    severity_min: int = 0
    threshold: int = 0
    lines: tuple[LineTest, ...] = ()
    tests: int = 0
    """Texts and expressions that a record is compared with, at most."""

    def joined(self, other: Residual) -> Residual:
        """Return one of the same selection that asks what either asks: to be told, not tested."""
        names = {one.name for group in self.groups for one in group}
        more = (one for one in other.groups if any(part.name not in names for part in one))
        return replace(self, groups=(*self.groups, *more), category=self.category or other.category)

    @property
    def asks_nothing(self) -> bool:
        """True if every record meets it."""
        return self == NOTHING

    @property
    def asks_attributes(self) -> bool:
        """True if attributes of records are asked for."""
        return bool(self.groups) or self.category is not None

    def meets_attributes(
        self, attributes: Attributes, pause: Callable[[], None] = no_pause
    ) -> bool:
        """Return whether a record's attributes meet the conditions on them."""
        if self.category is not None and not self.category.holds(attributes, pause):
            return False
        return not self.groups or any(
            all(condition.holds(attributes, pause) for condition in group) for group in self.groups
        )

    def meets_line(self, line: str, pause: Callable[[], None] = no_pause) -> bool:
        """Return whether a record's body, as text, meets the line filters."""
        return all(test(line, pause) for test in self.lines)


NOTHING: Final = Residual()


class CompiledRecords:
    """A selection ready for evaluation. ``category_attribute`` names a record's category."""

    def __init__(
        self,
        selection: RecordSelection,
        *,
        compiler: Compiler,
        objects: Objects | None = None,
        category_attribute: str = CATEGORY_ATTRIBUTE,
    ) -> None:
        self.selection: Final = selection
        self._resources: Final[Compiled | None] = (
            compiler.compile(selection.resources, objects) if selection.resources else None
        )
        self._groups: Final = tuple(
            tuple(_condition(matcher) for matcher in group) for group in selection.selector.groups
        )
        self._category: Final = (
            _Condition(category_attribute, True, frozenset(selection.categories).__contains__)
            if selection.categories and "*" not in selection.categories
            else None
        )
        self._lines: Final = tuple(_line_test(one) for one in selection.selector.lines)
        self._line_tests: Final = sum(len(one.values) for one in selection.selector.lines)

    def decide(
        self, resource: Attributes, both: Attributes, pause: Callable[[], None] = no_pause
    ) -> Residual | None:
        """Return the conditions on each record of a resource and scope; None: take none.

        ``resource`` has the attributes of the resource, ``both`` those of the scope as well.
        """
        if self._resources is not None and not self._resources.matches(resource.plain):
            return None
        selection = self.selection
        known = resource if selection.whole_traces else both
        groups = self._decide_groups(known, pause)
        if groups is None:
            return None
        category = self._category
        if category is not None and category.get(known) is not None:
            if not category.holds(known):
                return None
            category = None
        tests = self._line_tests + sum(map(len, groups))
        return Residual(
            groups, category, selection.severity_min, selection.threshold, self._lines, tests
        )

    def explain(self, resource: Attributes, both: Attributes) -> tuple[bool, str]:
        """Return whether records may be taken, and why not, or what is asked of each of them."""
        residual = self.decide(resource, both)
        if residual is not None:
            return True, self.asked(residual)
        if self._resources is not None and not self._resources.matches(resource.plain):
            return False, "; ".join(map(str, self._resources.explain(resource.plain).failures))
        selection = self.selection
        known = resource if selection.whole_traces else both
        failures = [
            next(
                _failure(matcher, condition.get(known))
                for matcher, condition in zip(matchers, conditions, strict=True)
                if self._fails(condition, known)
            )
            for matchers, conditions in zip(selection.selector.groups, self._groups, strict=True)
            if any(self._fails(condition, known) for condition in conditions)
        ]
        if len(failures) == len(self._groups) and failures:
            return False, "; ".join(failures)
        assert self._category is not None
        value = quote_string(self._category.get(known) or "")
        return False, f"its category is {value}, not one of {', '.join(selection.categories)}"

    def _fails(self, condition: _Condition, known: Attributes) -> bool:
        value = condition.get(known)
        if value is None and not self.selection.whole_traces:
            return False
        return not condition.test(value or "")

    def asked(self, residual: Residual) -> str:
        """Return in words what is asked of each record; "" for nothing."""
        return " and ".join(self._asked(residual))

    def _asked(self, residual: Residual) -> Iterator[str]:
        selection = self.selection
        if residual.groups:
            yield f"attributes {self.asked_of_attributes(residual)}"
        if residual.category is not None:
            yield f"category {' or '.join(selection.categories)}"
        if residual.severity_min:
            yield f"severity {severity_name(residual.severity_min)} or more"
        yield from (f"a line that has {one}" for one in selection.selector.lines)
        if residual.threshold:
            yield f"a trace among {100 * selection.ratio:.4g} % of all"

    def asked_of_attributes(self, residual: Residual) -> str:
        """Return the matchers that a residual asks of the attributes of each record."""
        names = {one.name for group in residual.groups for one in group}
        groups = [
            ", ".join(map(str, (one for one in group if one.name in names)))
            for group in self.selection.selector.groups
        ]
        return " or ".join(group for group in groups if group)

    def _decide_groups(
        self, known: Attributes, pause: Callable[[], None]
    ) -> tuple[_Group, ...] | None:
        """Return the groups that may still hold; () if one holds, None if none can."""
        if not self._groups:
            return ()
        left: list[_Group] = []
        for group in self._groups:
            open_: list[_Condition] = []
            for condition in group:
                value = condition.get(known)
                if value is None and not self.selection.whole_traces:
                    open_.append(condition)
                elif not condition.passes(value or "", pause):
                    break
            else:
                if not open_:
                    return ()
                left.append(tuple(open_))
        return tuple(left) or None

    def __repr__(self) -> str:
        return f"<CompiledRecords {self.selection}>"


def _failure(matcher: AttributeMatcher, value: str | None) -> str:
    found = f"is {quote_string(value)}" if value else "is absent"
    return f"{matcher} fails: {matcher.name} {found}"


def _condition(matcher: AttributeMatcher) -> _Condition:
    test = matcher_test(Matcher(matcher.name, matcher.op, matcher.value), is_long=True)
    return _Condition(matcher.name, matcher.is_exact, test)


def _line_test(one: LineFilter) -> LineTest:
    tests: list[Test] = []
    for value in one.values:
        if one.op in ("|=", "!="):
            tests.append(_contains(value))
        elif _PLAIN_CHOICE.fullmatch(value):
            tests += map(_contains, value.split("|"))
        else:
            tests.append(compile_regex(line_pattern(value)).matches_start)
    is_wanted = one.op in ("|=", "|~")

    def meets(line: str, pause: Callable[[], None]) -> bool:
        is_long = len(line) > LONG_CHARS
        for test in tests:
            if is_long:
                pause()
            if test(line):
                return is_wanted
        return not is_wanted

    return meets


def _contains(text: str) -> Test:
    return lambda line: text in line
