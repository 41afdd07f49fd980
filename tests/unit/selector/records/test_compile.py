"""What a resource and scope decide, and what is left to records."""

from __future__ import annotations

import pytest

from relay.selector.records.compile import (
    LONG_CHARS,
    NOTHING,
    Attributes,
    CompiledRecords,
    Residual,
)
from relay.selector.records.logql import line_pattern, parse_selector
from relay.selector.records.selection import RecordSelection, threshold_of
from relay.selector.regex import compile_regex
from relay.selector.resources.compiler import Compiler
from relay.selector.resources.label_selector import (
    KindSelector,
    LabelSelector,
    ResourceSelection,
    ResourceSelector,
)
from tests.own_time import CountingPace

RESOURCE = [("service.name", "svc-1"), ("host_name", "h"), ("k8s.pod.name", "p")]
SCOPE = [("service.name", "other"), ("lib", "x")]


def decide(selector: str, **more: object) -> Residual | None:
    """Return what a selector asks of the records of the resource and scope above."""
    selection = RecordSelection(parse_selector(selector), **more)  # type: ignore[arg-type]
    compiled = CompiledRecords(selection, compiler=Compiler())
    return compiled.decide(Attributes(RESOURCE), Attributes(SCOPE, before=Attributes(RESOURCE)))


@pytest.mark.parametrize(
    "selector",
    [
        "",
        '{service_name="svc-1"}',
        '{service.name="svc-1"}',
        '{"service.name"="svc-1"}',
        '{"host_name"="h", lib="x"}',
        '{nothing="x" or service_name=~"svc-.*"}',
    ],
)
def test_a_resource_and_scope_may_decide_for_all(selector: str) -> None:
    assert decide(selector) == NOTHING


@pytest.mark.parametrize(
    "selector",
    ['{service_name="other"}', '{service_name!="svc-1"}', '{lib="x", k8s_pod_name="q"}'],
)
def test_a_resource_and_scope_may_decide_against_all(selector: str) -> None:
    assert decide(selector) is None


def test_a_quoted_name_is_one_attribute() -> None:
    found = decide('{"service_name"="svc-1"}')
    assert found is not None
    assert not found.asks_nothing
    assert found.meets_attributes(Attributes([("service_name", "svc-1")]))
    assert not found.meets_attributes(Attributes([("service.name", "svc-1")]))


def test_what_they_do_not_have_is_asked_of_records() -> None:
    found = decide('{service_name="svc-1", level="error" or lib="x", level=""} |= "a" != "b"')
    assert found is not None
    assert found.meets_attributes(Attributes([("level", "error")]))
    assert found.meets_attributes(Attributes())
    assert not found.meets_attributes(Attributes([("level", "info")]))
    assert found.meets_line("xax")
    assert not found.meets_line("ab")


def test_line_filters_find_a_part() -> None:
    found = decide('{} |~ "a.c" or "x$" !~ "(?i)NO"')
    assert found is not None
    assert [found.meets_line(line) for line in ("1abc2", "x", "xy", "abc no", "a\nc")] == [
        True,
        True,
        False,
        False,
        True,
    ]


def test_categories_may_stand_anywhere() -> None:
    found = decide("", categories=("access",))
    assert found is not None
    assert found.meets_attributes(Attributes([("log.category", "access")]))
    assert not found.meets_attributes(Attributes([("log.category", "audit")]))
    assert not found.meets_attributes(Attributes())
    assert decide("", categories=("*",)) == NOTHING
    selection = RecordSelection(categories=("access",))
    compiled = CompiledRecords(selection, compiler=Compiler(), category_attribute="lib")
    assert (
        compiled.decide(Attributes(RESOURCE), Attributes(SCOPE, before=Attributes(RESOURCE)))
        is None
    )


def test_whole_traces_are_decided_by_the_resource() -> None:
    assert decide('{lib="x"}', whole_traces=True) is None
    assert decide('{lib="", service_name="svc-1"}', whole_traces=True) == NOTHING


def test_resource_selectors_see_the_attributes_of_the_resource() -> None:
    pods = ResourceSelector(LabelSelector(), LabelSelector(), (KindSelector(("*",), ("Pod",)),))
    selection = RecordSelection(resources=ResourceSelection("default", (pods,)))
    compiled = CompiledRecords(selection, compiler=Compiler())
    kind = Attributes([("resource.kind", "Pod")])
    assert compiled.decide(kind, kind) == NOTHING
    other = Attributes([("resource.kind", "Node")])
    assert compiled.decide(other, other) is None


@pytest.mark.parametrize(
    ("ratio", "threshold"), [(1.0, 0), (0.5, 1 << 55), (0.25, 3 << 54), (1e-20, (1 << 56) - 1)]
)
def test_thresholds(ratio: float, threshold: int) -> None:
    assert threshold_of(ratio) == threshold


def test_a_regular_expression_looks_at_the_start_of_a_long_text() -> None:
    regex = compile_regex(line_pattern("a[ab]{500}c"))
    start = "a" + "b" * 500 + "c"
    assert regex.matches_start("é" * 1_000 + start)
    assert regex.matches("é" * 10_000 + start)
    assert not regex.matches_start("é" * 10_000 + start)
    assert regex.bytes_max < 10_000


def test_of_a_long_text_no_character_is_cut() -> None:
    regex = compile_regex("é*x{0,9}[^x]*")
    for begin in ("", "x"):
        assert regex.matches_start(begin + "é" * regex.bytes_max)


def test_a_choice_of_plain_texts_is_found_anywhere() -> None:
    found = decide('{} |~ "one|two"')
    assert found is not None
    assert found.meets_line("x" * 60_000 + "two")


def test_long_texts_are_tested_with_a_pause_before_each_test() -> None:
    found = decide('{a=~"x.*y", b!="x"} |= "a" or "b" !~ "c.d" or "e"')
    assert found is not None
    for size, pauses in ((LONG_CHARS, 0), (LONG_CHARS + 1, 4)):
        pace = CountingPace()
        assert found.meets_line("b" * size, pace.pause)
        assert pace.pauses == pauses
    pace = CountingPace()
    long = "x" + " " * LONG_CHARS + "y"
    assert found.meets_attributes(Attributes([("a", long), ("b", long)]), pace.pause)
    assert pace.pauses == 2


def test_a_very_large_pattern_is_asked_for_the_whole_of_a_name() -> None:
    regex = compile_regex("|".join(f"{number}-{'é' * 80}-[0-9]+" for number in range(500)))
    name = f"499-{'é' * 80}-7"
    assert regex.bytes_max < len(name)
    assert regex.matches(name)
    assert regex.matches_start(name)
