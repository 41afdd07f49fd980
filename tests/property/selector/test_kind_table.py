"""The table of kinds, and selections through it, answer as asking each row in order would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.selector.evaluate import compile_selector
from relay.selector.index.selector_index import SelectorIndex
from relay.selector.matchers import NAME
from relay.selector.resources import compiler as compiler_module
from relay.selector.resources.compiler import Compiler
from relay.selector.resources.kind_table import KindTable
from relay.selector.resources.label_selector import (
    NAMESPACE_NAME,
    Conventions,
    KindMarks,
    KindNames,
    KindRow,
    KindSelector,
    LabelSelector,
    Requirement,
    ResourceSelection,
    ResourceSelector,
)
from tests.kit.examples import examples

metric_names = st.text("ab_", min_size=1, max_size=5)
label_names = st.sampled_from(["a", "b", "c", "service_name", "resource_kind"])
label_values = st.sampled_from(["x", "y", "Gateway", "g.io"])
marks = st.builds(
    KindMarks,
    st.just("") | st.text("ab_", min_size=1, max_size=4),
    st.just("") | label_names,
    st.lists(st.tuples(label_names, label_values), max_size=2, unique_by=lambda one: one[0]).map(
        tuple
    ),
).filter(lambda one: bool(one.metric_prefix or one.label or one.labels))
identity_labels = st.sampled_from([None, "", "a", "b", "c"])
kind_names = st.sampled_from(["Gateway", "Pod", "Index"])
rows = st.builds(
    KindRow,
    kind_names,
    st.just(()),
    st.sampled_from(["", "indices"]),
    st.sampled_from(["", "g.io", "h.io"]),
    identity_labels,
    identity_labels,
    identity_labels,
    st.none() | marks | marks | marks,
)
tables = st.lists(rows, max_size=12).map(lambda some: Conventions(kinds=tuple(some)))
series = st.builds(
    lambda name, labels: {NAME: name, **labels},
    metric_names,
    st.dictionaries(
        label_names | st.sampled_from(["resource_namespace", "resource_name", "d", "e", "f"]),
        label_values | st.just(""),
        max_size=8,
    ),
)


def naive(of: Conventions, labels: dict[str, str]) -> tuple[str, str, str, str, int | None]:
    """Group, kind, namespace, name and row by asking every row in order."""

    def value(given: str | None, default: str) -> str:
        return labels.get(default if given is None else given, "")

    for number, row in enumerate(of.kinds):
        if row.marks is None:
            continue
        conditions = [labels[NAME].startswith(row.marks.metric_prefix)]
        conditions += [labels.get(row.marks.label, "") != ""] if row.marks.label else []
        conditions += [labels.get(name) == wanted for name, wanted in row.marks.labels]
        if all(conditions):
            namespace = value(row.namespace_label, of.namespace_label)
            return row.group, row.kind, namespace, value(row.name_label, of.name_label), number
    group, kind = labels.get(of.api_group_label, ""), labels.get(of.kind_label, "")
    return group, kind, labels.get(of.namespace_label, ""), labels.get(of.name_label, ""), None


@examples(400)
@given(tables, st.lists(series, min_size=1, max_size=8))
def test_the_index_equals_asking_every_row(of: Conventions, asked: list[dict[str, str]]) -> None:
    table = KindTable(of)
    for labels in (*asked, *asked[::-1]):
        found = table.identify(labels)
        number = None if found.row.marks is None else found.row.number
        assert (*found[:4], number) == naive(of, labels)


patterns = st.builds(
    KindSelector,
    st.sampled_from([("*",), ("",), ("g.io",), ("", "h.io")]),
    st.sampled_from([("*",), ("gateways",), ("Pod",), ("indices", "gateway"), ("INDEX",)]),
)
namespaces = st.sampled_from(
    [
        None,
        LabelSelector(),
        LabelSelector((Requirement(NAMESPACE_NAME, "In", ("x", "y")),)),
        LabelSelector((Requirement(NAMESPACE_NAME, "NotIn", ("x",)),)),
    ]
)
selectors = st.builds(
    ResourceSelector,
    namespaces,
    st.just(LabelSelector()),
    st.lists(patterns, max_size=3).map(tuple),
)
selections = st.builds(
    ResourceSelection,
    st.sampled_from(["", "x"]),
    st.lists(selectors, min_size=1, max_size=2).map(tuple),
)


def selects(selection: ResourceSelection, of: Conventions, labels: dict[str, str]) -> bool:
    """Whether a selection takes a series, from the naive identity alone."""
    group, kind, namespace, _, _ = naive(of, labels)
    names = KindNames(of.kinds)

    def takes(one: ResourceSelector) -> bool:
        if one.kinds and not any(
            ("*" in pattern.groups or group in pattern.groups)
            and (
                "*" in pattern.kinds
                or any(kind.lower() in names.of(wanted) for wanted in pattern.kinds)
            )
            for pattern in one.kinds
        ):
            return False
        if one.namespaces is None:
            return namespace == selection.namespace
        return not one.namespaces.requirements or (
            namespace != ""
            and all(requirement.accepts(namespace) for requirement in one.namespaces.requirements)
        )

    return any(map(takes, selection.selectors))


@examples(400)
@given(
    tables,
    st.lists(selections, min_size=1, max_size=4),
    st.lists(series, min_size=1, max_size=6),
    st.sampled_from([0, 1, compiler_module.COVER_ROWS_MAX]),
)
def test_selections_and_their_covers_agree_with_the_naive_identity(
    of: Conventions, some: list[ResourceSelection], asked: list[dict[str, str]], rows_max: int
) -> None:
    index: SelectorIndex[int] = SelectorIndex()
    before, compiler_module.COVER_ROWS_MAX = compiler_module.COVER_ROWS_MAX, rows_max
    try:
        compiler = Compiler(of)
        compiled = [compiler.compile(one) for one in some]
        for key, one in enumerate(compiled):
            index.add(key, one)
    finally:
        compiler_module.COVER_ROWS_MAX = before
    for labels in asked:
        wanted = [key for key, one in enumerate(some) if selects(one, of, labels)]
        assert index.match(labels) == wanted
        for key, one in enumerate(compiled):
            taken = key in wanted
            assert one.explain(labels).matched is taken
            assert not taken or compile_selector(one.selector).matches(labels)
