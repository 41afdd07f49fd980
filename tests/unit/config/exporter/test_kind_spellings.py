"""The spellings of kinds mean the same, as patterns and through the table of kinds."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config.exporter.kind_spellings import (
    read_group_kind,
    read_groups_kinds,
    read_groups_resources,
    read_kind,
    read_kinds,
)
from relay.selector.resources.compiler import Compiler
from relay.selector.resources.label_selector import (
    Conventions,
    KindMarks,
    KindRow,
    KindSelector,
    ResourceSelection,
    ResourceSelector,
)

GROUP = "gateway.networking.k8s.io"
GATEWAY = KindRow("Gateway", group=GROUP, marks=KindMarks("envoy_"))
SPELLINGS = [
    {"group": GROUP, "kind": "Gateway"},
    {"apiGroups": [GROUP], "resources": ["gateways"]},
    {"apiGroups": [GROUP], "kind": ["gateways"]},
]


@pytest.mark.parametrize("entry", SPELLINGS, ids=str)
@pytest.mark.parametrize("conventions", [Conventions(), Conventions(kinds=(GATEWAY,))])
def test_each_spelling_selects_the_kind(entry: dict[str, Any], conventions: Conventions) -> None:
    selection = ResourceSelection("default", (ResourceSelector(kinds=read_kinds([entry])),))
    one = Compiler(conventions).compile(selection)
    series = {"__name__": "envoy_rq", "resource_namespace": "default"}
    if not conventions.kinds:
        series |= {"service_name": GROUP, "resource_kind": "Gateway"}
    assert one.matches(series)
    assert not one.matches({**series, "__name__": "x", "service_name": "other.io"})


@pytest.mark.parametrize(
    ("entry", "pattern"),
    [
        (SPELLINGS[0], KindSelector((GROUP,), ("Gateway",))),
        (SPELLINGS[1], KindSelector((GROUP,), ("gateways",))),
        (SPELLINGS[2], KindSelector((GROUP,), ("gateways",))),
        ({"group": GROUP, "kind": "*"}, KindSelector((GROUP,), ("*",))),
        ({"group": "", "kind": "Secret"}, KindSelector(("",), ("Secret",))),
        ({"group": "*", "kind": "*"}, KindSelector()),
        ({"group": GROUP}, KindSelector((GROUP,), ("*",))),
        ({"kind": "Gateway"}, KindSelector(("*",), ("Gateway",))),
        ({"apiGroups": ["", GROUP]}, KindSelector(("", GROUP), ("*",))),
        ({"resources": ["a", "b", "a"]}, KindSelector(("*",), ("a", "b"))),
        ({"apiGroups": ["*"], "kind": ["*"]}, KindSelector()),
        ({"apiGroups": [None, "a"], "kind": ["b", None]}, KindSelector(("a",), ("b",))),
    ],
    ids=str,
)
def test_an_entry_as_a_pattern(entry: dict[str, Any], pattern: KindSelector) -> None:
    assert read_kind(entry) == pattern
    assert read_kinds(entry) == (pattern,), "one entry may stand without a list"


def test_each_spelling_has_its_reader() -> None:
    first, second, third = SPELLINGS
    assert read_group_kind(first) == KindSelector((GROUP,), ("Gateway",))
    assert read_groups_resources(second) == read_groups_kinds(third) == read_kind(third)
    assert read_kinds([first, None, third]) == (read_kind(first), read_kind(third))
    assert read_kinds([]) == ()
