"""The index: where selectors are filed, and that it forgets them."""

from __future__ import annotations

import pytest

from relay.selector.evaluate import CompiledSelector, compile_selector
from relay.selector.index import regex_set
from relay.selector.index.regex_set import PatternTable, no_pause
from relay.selector.index.selector_index import IndexStatistics, SelectorIndex
from relay.selector.matchers import NAME
from relay.selector.metricsql.parser import parse_query
from relay.selector.regex import compile_regex

EMPTY = IndexStatistics(0, 0, 0, 0, 0, 0, 0, 0, 0)


def compiled(text: str) -> CompiledSelector:
    return compile_selector(parse_query(text))


def index_of(*texts: str) -> SelectorIndex[str]:
    index: SelectorIndex[str] = SelectorIndex()
    for text in texts:
        index.add(text, compiled(text))
    return index


def test_matches_come_in_the_order_of_adding() -> None:
    texts = ['{a=~"b+"}', "foo", '{a="b"}', '{a!="x"}', "", '{a!=""}']
    index = index_of(*texts)
    assert index.match({NAME: "foo", "a": "b"}) == texts
    index.remove("foo")
    index.add("foo", compiled("foo"))
    assert index.match({NAME: "foo", "a": "b"}) == [*texts[:1], *texts[2:], "foo"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("foo", {"values": 1}),
        ('{a=~"x|y|z"}', {"values": 3}),
        ('{a=~"x|"}', {"always": 1}),
        ('{a=~"x+"}', {"patterns": 1, "young": 1}),
        ('{a!=""}', {"present": 1}),
        ('{a=~".+"}', {"present": 1}),
        ('{a!~"x|"}', {"present": 1}),
        ('{a!="x"}', {"always": 1}),
        ('{a=""}', {"always": 1}),
        ("", {"always": 1}),
        ('{a="b" or c!="d"}', {"always": 1}),
        ('{a!="b",c="d"}', {"values": 1}),
    ],
)
def test_where_groups_are_filed(text: str, expected: dict[str, int]) -> None:
    index = index_of(text)
    statistics = index.statistics()
    filed = {
        name: getattr(statistics, name)
        for name in ("values", "patterns", "young", "present", "always")
        if getattr(statistics, name)
    }
    assert filed == expected
    index.remove(text)
    assert index.statistics() == EMPTY


def test_the_rarest_condition_is_chosen() -> None:
    index = index_of(*(f'{{service="s",resource="r{n}"}}' for n in range(50)))
    assert index.statistics().longest_value <= 3


def test_a_pattern_is_chosen_over_a_value_that_everybody_asks_for() -> None:
    index = index_of(*(f'{{kind="k",{NAME}=~"p{n}_[a-z]+"}}' for n in range(200)))
    assert index.statistics().longest_value < 20
    assert index.match({NAME: "p7_x", "kind": "k"}) == ['{kind="k",__name__=~"p7_[a-z]+"}']


def test_an_empty_value_is_a_missing_label() -> None:
    index = index_of('{a!=""}', '{a=~".*"}', '{a="b"}')
    assert index.match({"a": ""}) == ['{a=~".*"}']


def test_a_key_is_added_once() -> None:
    index = index_of("foo")
    assert "foo" in index
    assert len(index) == 1
    with pytest.raises(AssertionError):
        index.add("foo", compiled("foo"))
    with pytest.raises(KeyError):
        index.remove("bar")
    assert repr(index) == "<SelectorIndex 1 selectors, 0 always asked>"


def table_of(count: int) -> PatternTable[int]:
    table: PatternTable[int] = PatternTable()
    for number in range(count):
        table.add(compile_regex(f"t{number}_[a-z]+"), number)
    return table


def found(table: PatternTable[int], value: str) -> list[int]:
    into: dict[int, None] = {}
    table.collect(value, into)
    return list(into)


def test_patterns_settle_into_sets_of_limited_size() -> None:
    table = table_of(1_200)
    statistics = table.statistics()
    assert statistics.patterns == 1_200
    assert statistics.young <= regex_set.YOUNG_MAX
    assert 3 <= statistics.sets <= 5
    assert all(len(group.slots) <= regex_set.SET_PATTERNS_MAX for group in table._sets)
    for number in (0, 31, 32, 500, 1_199):
        assert found(table, f"t{number}_x") == [number]


def test_removed_patterns_are_forgotten() -> None:
    table = table_of(300)
    for number in range(300):
        regex = compile_regex(f"t{number}_[a-z]+")
        assert found(table, f"t{number}_x") == [number]
        table.discard(regex, number)
        table.discard(regex, number)
        assert found(table, f"t{number}_x") == []
        assert number % 37 or found(table, f"t{(number + 300) // 2}_x")
    assert repr(table) == "<PatternTable PatternStatistics(patterns=0, young=0, sets=0)>"


def test_a_pattern_that_comes_back_is_found_again() -> None:
    table = table_of(100)
    regex = compile_regex("t5_[a-z]+")
    table.add(regex, -1)
    table.discard(regex, 5)
    assert found(table, "t5_x") == [-1]
    table.discard(regex, -1)
    table.add(regex, 6)
    assert found(table, "t5_x") == [6]


def test_patterns_beyond_a_sets_memory_are_asked_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(regex_set, "SET_MEMORY_BYTES_MAX", 1)
    table = table_of(100)
    assert all(group._engine is None for group in table._sets)
    assert found(table, "t50_x") == [50]


def test_sets_keep_to_the_limit_on_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex_set, "SET_INSTRUCTIONS_MAX", 200)
    table = table_of(100)
    assert all(group.instructions <= 200 for group in table._sets)
    assert found(table, "t50_x") == [50]


def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex_set, "ANSWERS_MAX", 5)
    table = table_of(40)
    for _ in range(2):
        for number in range(20):
            assert found(table, f"t{number}_x") == [number]
    assert found(table, "t1_" + "x" * 5_000) == [1]
    assert all(len(group._answers) <= 5 for group in table._sets)


def test_open_patterns_have_sets_of_their_own() -> None:
    table: PatternTable[int] = PatternTable()
    for number in range(200):
        table.add(compile_regex(f"(?:.*|q)o{number}[a-z]+"), number)
        table.add(compile_regex(f"c{number}[a-z]+"), -number - 1)
    assert {group.is_open for group in table._sets} == {True, False}
    assert found(table, "xo77z") == [77]
    assert found(table, "c77z") == [-78]


def test_values_with_the_same_single_answer_share_it_until_the_index_changes() -> None:
    texts = ['{a=~"b+"}', '{a=~"b+c?"}', '{a=~"d+"}']
    index = index_of(*texts)
    at = index._filed["a"]
    one, other = at.candidates("d", no_pause), at.candidates("dd", no_pause)
    assert one is other
    assert [entry.key for entry in at.candidates("b", no_pause)] == texts[:2]
    assert index.match({"a": "dd"}) == texts[2:]
    index.remove(texts[1])
    assert [entry.key for entry in at.candidates("b", no_pause)] == texts[:1]
    index.add("more", compiled('{a=~"dd"}'))
    assert index.match({"a": "dd"}) == [texts[2], "more"]
    assert index.match({"a": "d"}) == texts[2:]
