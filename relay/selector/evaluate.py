"""Evaluate one selector against a series' labels, and explain the result.

* A selector matches if one of its groups does, a group if all of its matchers do; a selector
  without groups matches everything.
* A missing label equals the value "", for all four operators and for ``__name__``: ``a!="b"``
  matches a series without ``a``, ``a=~".+"`` does not.
* Label names are unique. Values are text decoded from UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Final, TypeAlias

import msgspec

from relay.selector.matchers import Matcher, Selector
from relay.selector.quoting import quote_name, quote_string
from relay.selector.regex import compile_regex

Test: TypeAlias = Callable[[str], bool]

_SHARED_MAX: Final = 1_024
_COST_EQUAL: Final = 0
_COST_VALUES: Final = 1
_COST_REGEX: Final = 2
_COST_UNEQUAL: Final = 3
"""Evaluated last: cheap, but rarely the matcher that fails."""


class MatchFailure(msgspec.Struct, frozen=True):
    """The first matcher of a group that failed, and the label's value ("" if missing)."""

    matcher: Matcher
    value: str

    def __str__(self) -> str:
        found = f"is {quote_string(self.value)}" if self.value else "is absent"
        return f"{render(self.matcher)} fails: {quote_name(self.matcher.label)} {found}"


class Unmet(msgspec.Struct, frozen=True):
    """A failed condition that is not a matcher, as text."""

    text: str

    def __str__(self) -> str:
        return self.text


class Explanation(msgspec.Struct, frozen=True):
    """The result of a selector on one series, with reasons.

    ``group`` is the index of the first group that matched, None if none did or if there are no
    groups, which matches everything. ``failures`` has one entry for each group tried before.
    ``subject`` is the resource that the series is about, and how it was recognised; "" where there
    is nothing to say of it.
    """

    matched: bool
    group: int | None
    failures: tuple[MatchFailure | Unmet, ...]
    subject: str = ""


class CompiledSelector:
    """A selector ready for evaluation. Immutable; make it with :func:`compile_selector`."""

    __slots__ = ("_groups", "labels_read", "selector")

    def __init__(self, selector: Selector) -> None:
        self.selector: Final = selector
        self.labels_read: Final = _shared_names(
            frozenset(matcher.label for group in selector.groups for matcher in group)
        )
        """Names of all labels that the result depends on."""
        self._groups: Final = tuple(_tests(group) for group in selector.groups)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether a series with these labels, ``__name__`` included, matches."""
        groups = self._groups
        if not groups:
            return True
        get = labels.get
        for group in groups:
            for label, test in group:
                if not test(get(label, "")):
                    break
            else:
                return True
        return False

    def explain(self, labels: Mapping[str, str]) -> Explanation:
        """Return the result of :meth:`matches` with reasons, in the selector's order."""
        failures: list[MatchFailure] = []
        for index, group in enumerate(self.selector.groups):
            failure = _first_failure(group, labels)
            if failure is None:
                return Explanation(True, index, tuple(failures))
            failures.append(failure)
        return Explanation(not failures, None, tuple(failures))

    def describe(self, group: int | None) -> str:
        """Return one group as a selector of its own; ``{}`` if there are no groups."""
        return render_selector(Selector(() if group is None else (self.selector.groups[group],)))

    def __repr__(self) -> str:
        return f"<CompiledSelector {render_selector(self.selector)}>"


@lru_cache(maxsize=_SHARED_MAX)
def _shared_names(names: frozenset[str]) -> frozenset[str]:
    """Return the first of equal sets: each takes 232 bytes, and most selectors read the same."""
    return names


def compile_selector(selector: Selector) -> CompiledSelector:
    """Compile ``selector``. Raise SelectorError for a regex that parsing would have refused."""
    return CompiledSelector(selector)


def matcher_test(matcher: Matcher, *, is_long: bool = False) -> Test:
    """Return the test of one label's value; it is given "" for a missing label.

    ``is_long``: values may be of any length; see :attr:`relay.selector.regex.Regex.matches_start`.
    """
    return _costed_test(matcher, is_long=is_long)[1]


def render(matcher: Matcher) -> str:
    """Write a matcher as in a selector; it parses back to the same matcher."""
    return f"{quote_name(matcher.label)}{matcher.op}{quote_string(matcher.value)}"


def render_selector(selector: Selector) -> str:
    """Write a selector for people, names inside the braces, ``or`` between groups.

    It parses back to the same groups, except that MetricsQL adds a metric name on which all other
    groups agree to a group without one: evaluate groups, never the printed text.
    """
    return "{" + " or ".join(",".join(map(render, group)) for group in selector.groups) + "}"


def _tests(group: tuple[Matcher, ...]) -> tuple[tuple[str, Test], ...]:
    costed = [(*_costed_test(matcher), matcher.label) for matcher in group]
    costed.sort(key=itemgetter(0))
    return tuple((label, test) for _, test, label in costed)


def _costed_test(matcher: Matcher, *, is_long: bool = False) -> tuple[int, Test]:
    if matcher.op == "=":
        return _COST_EQUAL, matcher.value.__eq__
    if matcher.op == "!=":
        return _COST_UNEQUAL, matcher.value.__ne__
    regex = compile_regex(matcher.value)
    test = regex.matches_start if is_long else regex.matches
    if matcher.op == "=~":
        return _COST_REGEX if regex.values is None else _COST_VALUES, test
    return _COST_UNEQUAL, lambda value: not test(value)


def _first_failure(group: tuple[Matcher, ...], labels: Mapping[str, str]) -> MatchFailure | None:
    for matcher in group:
        value = labels.get(matcher.label, "")
        if not matcher_test(matcher)(value):
            return MatchFailure(matcher, value)
    return None
