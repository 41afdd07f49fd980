"""Evaluate a selection against a series that has more than one name.

An OTLP metric has its own name and the one that Prometheus would give it; a histogram has the names
of its members besides. Rules:

* A group of matchers takes the series if it matches under one of the names that stand for all of
  it, or if every member is taken.
* A matcher that excludes a name excludes the series whichever of its names it is: otherwise the
  other one would let it through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, TypeVar

import msgspec

from relay.selector.evaluate import (
    CompiledSelector,
    Explanation,
    Test,
    compile_selector,
    matcher_test,
)
from relay.selector.index.selector_index import SelectorIndex
from relay.selector.matchers import NAME, Matcher, Selector
from relay.selector.resources.compiler import Compiled

_GROUPS_MAX: Final = 4_096
_EXCLUDING: Final = ("!=", "!~")

_Subscriber = TypeVar("_Subscriber")


class NamedViews(msgspec.Struct, frozen=True):
    """The labels of a series under each of its names.

    ``alone``: each of these stands for the series. ``members``: these do together.
    """

    alone: tuple[Mapping[str, str], ...]
    members: tuple[Mapping[str, str], ...] = ()

    @property
    def every(self) -> tuple[Mapping[str, str], ...]:
        """All of them."""
        return self.alone + self.members


def takes(compiled: Compiled, views: NamedViews) -> bool:
    """Return whether a selection takes the series."""
    if views.members and all(compiled.matches(view) for view in views.members):
        return True
    if not any(compiled.matches(view) for view in views.alone):
        return False
    if compiled.labels_read is None or len(views.every) == 1:
        return True
    groups = compiled.selector.groups
    return not groups or any(_group_takes(group, views) for group in groups)


def takers(
    index: SelectorIndex[_Subscriber],
    selections: Mapping[_Subscriber, Compiled],
    views: NamedViews,
    pause: Callable[[], None],
) -> list[_Subscriber]:
    """Return those of an index whose selection takes the series."""
    found = {one: None for view in views.every for one in index.match(view, pause)}
    return [one for one in found if takes(selections[one], views)]


def explain(compiled: Compiled, views: NamedViews) -> Explanation:
    """Return the result of :func:`takes` with reasons, each once.

    A group is told with the names under which it fails.
    """
    first = compiled.explain(views.alone[0])
    if len(views.every) == 1:
        return first
    groups = compiled.selector.groups if compiled.labels_read is not None else ()
    if not takes(compiled, views):
        parts: list[Compiled] = [_of_group(group)[0] for group in groups]
        told = {
            str(failure): failure
            for part in parts or [compiled]
            for view in _failing(part, views)
            for failure in part.explain(view).failures
        }
        return Explanation(False, None, tuple(told.values()), first.subject)
    for number, group in enumerate(groups):
        if _group_takes(group, views):
            return Explanation(True, number, (), first.subject)
    found = [compiled.explain(view) for view in (*views.members, *views.alone)]
    by = next(one.group for one in found if one.matched)
    return Explanation(True, by, (), first.subject)


def _failing(compiled: Compiled, views: NamedViews) -> list[Mapping[str, str]]:
    """Return the views by which a group fails: members alone tell nothing that the rest does."""
    alone = [view for view in views.alone if not compiled.matches(view)]
    if len(alone) == len(views.alone):
        return alone
    return [view for view in views.every if not compiled.matches(view)]


def _group_takes(group: tuple[Matcher, ...], views: NamedViews) -> bool:
    compiled, excluding = _of_group(group)
    if not any(compiled.matches(view) for view in views.alone):
        return False
    return all(test(view.get(NAME, "")) for test in excluding for view in views.every)


@lru_cache(maxsize=_GROUPS_MAX)
def _of_group(group: tuple[Matcher, ...]) -> tuple[CompiledSelector, tuple[Test, ...]]:
    """Return a group as a selector, and the tests of its matchers that exclude names."""
    excluding = [
        matcher_test(matcher)
        for matcher in group
        if matcher.label == NAME and matcher.op in _EXCLUDING
    ]
    return compile_selector(Selector((group,))), tuple(excluding)
