"""Whether a series matches a selector, and why.

Rules:

* A selector matches if one of its groups does, a group if all of its matchers do; a selector
  without groups matches everything.
* A label that is missing is the same as one with the value "", for all four operators and for
  ``__name__`` too: ``a!="b"`` matches a series without ``a``, ``a=~".+"`` does not.
* Labels are unique. Values are text that was decoded from UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeAlias

from relay.selector.matchers import Matcher, Selector
from relay.selector.quoting import quote_name, quote_string
from relay.selector.regex import compile_regex

Test: TypeAlias = Callable[[str], bool]

_COST_EQUAL: Final = 0
_COST_VALUES: Final = 1
_COST_REGEX: Final = 2
_COST_UNEQUAL: Final = 3
"""Behind the others: it is cheap, but hardly ever the one that fails."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The first matcher of a group that failed, and the value it met; "" for a missing label."""

    matcher: Matcher
    value: str

    def __str__(self) -> str:
        found = f"is {quote_string(self.value)}" if self.value else "is absent"
        return f"{render(self.matcher)} fails: {quote_name(self.matcher.label)} {found}"


@dataclass(frozen=True, slots=True)
class Unmet:
    """A condition that is no matcher and failed, in words."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a selector matched or not.

    ``group`` is the index of the first group that matched, None where none did or where there are
    no groups, which matches everything. ``failures`` has one entry for each group that was tried
    before.
    """

    matched: bool
    group: int | None
    failures: tuple[Failure | Unmet, ...]


class CompiledSelector:
    """A selector, ready to be asked. Immutable; make it with :func:`compile_selector`."""

    __slots__ = ("_groups", "looks_at", "selector")

    def __init__(self, selector: Selector) -> None:
        self.selector: Final = selector
        self.looks_at: Final = frozenset(
            matcher.label for group in selector.groups for matcher in group
        )
        """The labels that the answer rests on, and nothing else."""
        self._groups: Final = tuple(_tests(group) for group in selector.groups)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels, ``__name__`` among them, is selected."""
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
        """As :meth:`matches`, with the reasons, in the order in which the selector was written."""
        failures: list[Failure] = []
        for index, group in enumerate(self.selector.groups):
            failure = _first_failure(group, labels)
            if failure is None:
                return Explanation(True, index, tuple(failures))
            failures.append(failure)
        return Explanation(not failures, None, tuple(failures))

    def describe(self, group: int | None) -> str:
        """The group of that number as a selector of its own; ``{}`` where there are no groups."""
        return render_selector(Selector(() if group is None else (self.selector.groups[group],)))

    def __repr__(self) -> str:
        return f"<CompiledSelector {render_selector(self.selector)}>"


def compile_selector(selector: Selector) -> CompiledSelector:
    """Prepare ``selector``. Raises SelectorError for a regex that parsing would have refused."""
    return CompiledSelector(selector)


def matcher_test(matcher: Matcher) -> Test:
    """The decision on one label's value, "" where the label is missing."""
    return _costed_test(matcher)[1]


def render(matcher: Matcher) -> str:
    """Write a matcher as in a selector; it parses back to the same matcher."""
    return f"{quote_name(matcher.label)}{matcher.op}{quote_string(matcher.value)}"


def render_selector(selector: Selector) -> str:
    """Write a selector for people, names where they are, ``or`` between groups.

    It parses back to the same groups, except that MetricsQL then adds a metric name on which the
    other groups agree to a group without one: evaluate groups, never what is printed.
    """
    return "{" + " or ".join(",".join(map(render, group)) for group in selector.groups) + "}"


def _tests(group: tuple[Matcher, ...]) -> tuple[tuple[str, Test], ...]:
    costed = [(*_costed_test(matcher), matcher.label) for matcher in group]
    costed.sort(key=itemgetter(0))
    return tuple((label, test) for _, test, label in costed)


def _costed_test(matcher: Matcher) -> tuple[int, Test]:
    if matcher.op == "=":
        return _COST_EQUAL, matcher.value.__eq__
    if matcher.op == "!=":
        return _COST_UNEQUAL, matcher.value.__ne__
    regex = compile_regex(matcher.value)
    if matcher.op == "=~":
        return _COST_REGEX if regex.values is None else _COST_VALUES, regex.matches
    test = regex.matches
    return _COST_UNEQUAL, lambda value: not test(value)


def _first_failure(group: tuple[Matcher, ...], labels: Mapping[str, str]) -> Failure | None:
    for matcher in group:
        value = labels.get(matcher.label, "")
        if not matcher_test(matcher)(value):
            return Failure(matcher, value)
    return None
