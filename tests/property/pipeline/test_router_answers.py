"""What the router remembers of the index's answers is what the index would say now."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from relay.codec.otlp.batch import OpenBatch
from relay.codec.remote_write.label_intern import label_field
from relay.codec.remote_write.label_parser import LabelParser
from relay.pipeline.routing import router as router_module
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.pipeline.routing.router import Router
from relay.pipeline.routing.tenancy import Tenancy
from relay.selector.evaluate import compile_selector
from relay.selector.index.selector_index import LABELS_READ_MAX, SelectorIndex
from relay.selector.matchers import NAME, Matcher, Op, Selector
from relay.selector.named_views import NamedViews
from tests.kit.examples import examples

OPS: st.SearchStrategy[Op] = st.sampled_from(["=", "!=", "=~", "!~"])
VALUES = st.sampled_from(["", "x", "y", "x|y", "v" * 200])
MATCHERS = st.builds(Matcher, st.sampled_from([NAME, "a", "b", "c"]), OPS, VALUES)
SELECTORS = st.lists(st.lists(MATCHERS, max_size=2).map(tuple), max_size=2).map(
    lambda groups: Selector(groups=tuple(groups))
)
SERIES = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y", "v" * 200]), max_size=3
)
PROJECTS = ("p", "q")
STEPS = st.one_of(
    st.tuples(st.just("change"), st.integers(0, 3), SELECTORS, st.booleans()),
    st.tuples(st.just("remove"), st.integers(0, 3)),
    st.tuples(st.just("ask"), SERIES),
    st.tuples(st.just("ask"), SERIES),
)


def target() -> SinkOutputSpec:
    return SinkOutputSpec(SinkCounter("e", "s"), (OpenBatch(None, limit=10),))


@examples(200)
@given(st.lists(STEPS, max_size=40), st.sampled_from([1, 3, 1_000]))
def test_an_answer_that_is_remembered_is_the_one_that_would_be_given(
    steps: list[tuple[object, ...]], answers_max: int
) -> None:
    router = Router(tenancy=Tenancy("project"))
    reader = LabelParser(labels_max=10, bytes_max=9_999)
    wanted: dict[str, Selector] = {}
    asked: list[bytes] = []

    def check() -> None:
        for key in asked:
            labels = reader.read(key)
            for project in PROJECTS:
                match_set, matched = router.match(labels, project)
                names = [f"{project}/{n}" for n in range(4)]
                brute = {
                    name
                    for name in names
                    if name in wanted and compile_selector(wanted[name]).matches(dict(labels))
                }
                assert {route.counter.exporter for route in matched} == brute
                assert [route.counter for route in matched] == router.subscribers(
                    NamedViews((dict(labels),)), project
                )
                assert all(route.alive for route in matched)
                assert match_set.matched == matched
                assert match_set.project_epoch is match_set.home, "a dead plan"

    with mock.patch.object(router_module, "ANSWERS_MAX", answers_max):
        for what, *rest in steps:
            if what == "ask":
                (series,) = rest
                assert isinstance(series, dict)
                asked.append(b"".join(label_field(*item) for item in {NAME: "x", **series}.items()))
            elif what == "remove":
                for project in PROJECTS:
                    name = f"{project}/{rest[0]}"
                    if wanted.pop(name, None) is not None:
                        router.remove(name)
            else:
                number, selector, is_for_all = rest
                assert isinstance(selector, Selector)
                for project in PROJECTS[: 1 + bool(is_for_all)]:
                    name = f"{project}/{number}"
                    if name in wanted:
                        router.replace(name, [("s", selector, [target()])])
                    else:
                        router.add(name, project, [("s", selector, [target()])])
                    wanted[name] = selector
            check()
            assert len(router._answers) <= answers_max


def test_long_values_are_not_remembered() -> None:
    router = Router()
    router.add("e", "", [("s", Selector(((Matcher("a", "!=", ""),),)), [target()])])
    reader = LabelParser(labels_max=10, bytes_max=9_999)
    for size in (1, 256, 257, 5_000):
        key = label_field(NAME, "x") + label_field("a", "v" * size)
        for _ in range(2):
            assert len(router.match(reader.read(key), "")[1]) == 1
    assert [len(text) for _, values in router._answers for text in values if text] == [1, 256]


@given(st.lists(st.tuples(SELECTORS, st.booleans()), max_size=12))
def test_an_index_knows_which_labels_it_looks_at(steps: list[tuple[Selector, bool]]) -> None:
    index: SelectorIndex[int] = SelectorIndex()
    present: dict[int, Selector] = {}
    for number, (selector, leaves) in enumerate(steps):
        index.add(number, compile_selector(selector))
        present[number] = selector
        if leaves:
            first = next(iter(present))
            index.remove(first)
            del present[first]
        labels = {m.label for one in present.values() for group in one.groups for m in group}
        assert index.labels_read is not None
        assert set(index.labels_read) == labels
        assert len(index.labels_read) == len(labels)


def test_an_index_that_looks_at_too_many_labels_says_so() -> None:
    index: SelectorIndex[int] = SelectorIndex()
    for number in range(LABELS_READ_MAX + 1):
        assert index.labels_read is not None
        index.add(number, compile_selector(Selector(((Matcher(f"l{number}", "=", "x"),),))))
    assert index.labels_read is None
    index.remove(0)
    assert index.labels_read is not None
    assert len(index.labels_read) == LABELS_READ_MAX
