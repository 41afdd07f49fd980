"""The index answers as asking every selector would, whatever was added and removed before."""

from __future__ import annotations

from contextlib import AbstractContextManager
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from relay.selector.evaluate import CompiledSelector, compile_selector
from relay.selector.index import regex_set
from relay.selector.index.selector_index import SelectorIndex
from relay.selector.matchers import NAME, Matcher, Op, Selector
from tests.kit.examples import examples

names = st.sampled_from([NAME, "a", "b"])
plain: st.SearchStrategy[Op] = st.sampled_from(["=", "!="])
regex: st.SearchStrategy[Op] = st.sampled_from(["=~", "=~", "!~"])
values = st.sampled_from(["", "x", "y", "xy", "foo"])
expressions = st.sampled_from(
    ["", "x", "x|y", "x|", "x.*", ".*y", ".+", ".*", "[xy]+", "f.o", "(?i)X", "x?y", "[^x]*", ".o+"]
)
matchers = st.builds(Matcher, names, plain, values) | st.builds(Matcher, names, regex, expressions)
selectors = st.lists(st.lists(matchers, max_size=3).map(tuple), max_size=3).map(
    lambda groups: compile_selector(Selector(groups=tuple(groups)))
)
series = st.dictionaries(names, values, max_size=3)

additions = st.tuples(st.just("add"), selectors)
removals = st.tuples(st.just("remove"), st.integers(0, 30))
questions = st.tuples(st.just("match"), series)


def _small_sets() -> AbstractContextManager[object]:
    return mock.patch.dict(
        vars(regex_set), YOUNG_MAX=1, SET_PATTERNS_MAX=4, OPEN_SET_PATTERNS_MAX=2
    )


def _brute(asked: dict[int, CompiledSelector], labels: dict[str, str]) -> list[int]:
    return [key for key, selector in asked.items() if selector.matches(labels)]


@examples(150)
@given(st.lists(selectors, max_size=20), st.lists(series, min_size=1, max_size=10))
def test_index_equals_brute_force(
    added: list[CompiledSelector], asked: list[dict[str, str]]
) -> None:
    with _small_sets():
        index: SelectorIndex[int] = SelectorIndex()
        for key, selector in enumerate(added):
            index.add(key, selector)
        for labels in asked:
            assert index.match(labels) == _brute(dict(enumerate(added)), labels)


@examples(150)
@given(st.lists(additions | additions | removals | questions, max_size=40))
def test_any_order_of_adding_and_removing(
    steps: list[tuple[str, CompiledSelector | int | dict[str, str]]],
) -> None:
    with _small_sets():
        index: SelectorIndex[int] = SelectorIndex()
        present: dict[int, CompiledSelector] = {}
        for key, (_, what) in enumerate(steps):
            if isinstance(what, CompiledSelector):
                index.add(key, what)
                present[key] = what
            elif isinstance(what, dict):
                assert index.match(what) == _brute(present, what)
            elif present:
                gone = list(present)[what % len(present)]
                index.remove(gone)
                del present[gone]
        fresh: SelectorIndex[int] = SelectorIndex()
        for key, selector in present.items():
            fresh.add(key, selector)
        for labels in ({}, {NAME: "foo", "a": "x"}, {"a": "xy", "b": "y"}, {NAME: "x", "b": ""}):
            assert index.match(labels) == fresh.match(labels) == _brute(present, labels)
        for key in list(present):
            index.remove(key)
        assert index.statistics() == SelectorIndex[int]().statistics()
