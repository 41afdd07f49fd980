"""Exporters of several projects come, change and go between requests, and the inventory with them:

every sink gets exactly what asking each selector of its own project for each series would give it,
and never a series of another project, whatever its selectors say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from relay.pipeline.routing import router as router_module
from relay.pipeline.routing.tenancy import ANYWHERE, MULTITENANT, IngestPath, Tenancy
from relay.selector.inventory.store import ManifestIndex, Object
from relay.selector.metricsql.parser import parse_query
from relay.selector.resources.compiler import Compiler
from relay.selector.resources.label_selector import (
    NAMESPACE_NAME,
    Conventions,
    KindMarks,
    KindRow,
    KindSelector,
    LabelSelector,
    Requirement,
    ResourceSelection,
    ResourceSelector,
    Selection,
)
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.examples import examples
from tests.kit.remote_write import raw

TENANCY = Tenancy("tenant", {(1, 0): "acme", (2, 0): "zeta"})
PROJECTS = ("acme", "zeta")
# Rows that are marked by what tells the project, and read the resource's identity from it.
TABLE = Conventions(
    kinds=(
        KindRow("Pod", group="g.io", namespace_label="a", marks=KindMarks("m", "tenant")),
        KindRow("Gateway", name_label="tenant", marks=KindMarks(labels=(("tenant", "zeta"),))),
        KindRow("Pod", namespace_label="vm_account_id", marks=KindMarks(label="vm_account_id")),
        KindRow("Pod", marks=KindMarks("n")),
    )
)
ORIGINS = (ANYWHERE, ANYWHERE, IngestPath("acme"), IngestPath("zeta"), MULTITENANT)

# Everything here is meant to reach beyond the own project.
matchers = st.sampled_from(
    [
        'tenant="acme"',
        'tenant="zeta"',
        'tenant=~"acme|zeta"',
        'tenant=~".*"',
        'tenant!~"acme"',
        'tenant!=""',
        'tenant=""',
        'vm_account_id=""',
        'vm_account_id="2"',
        '__name__=~".+"',
        'a="x"',
        'a!="x"',
        'a=~"x|"',
        '"m"',
        "t",
    ]
)
groups = st.lists(matchers, max_size=3).map(",".join)
queries = (
    st.lists(groups.filter(bool), min_size=1, max_size=3)
    .map(lambda parts: 'WITH (t={tenant=~"acme|zeta"}) {' + " or ".join(parts) + "}")
    .map(parse_query)
) | st.sampled_from(["", "{}", "m", 'm{tenant="zeta"}']).map(parse_query)

keys = st.sampled_from(["env", NAMESPACE_NAME])
words = st.sampled_from(["prod", "dev", "x"])
bare = st.builds(Requirement, keys, st.sampled_from(["Exists", "DoesNotExist"]))
valued = st.builds(
    Requirement, keys, st.sampled_from(["In", "NotIn"]), words.map(lambda word: (word,))
)
label_selectors = st.lists(bare | valued, max_size=2).map(lambda some: LabelSelector(tuple(some)))
kinds = st.builds(
    KindSelector,
    st.sampled_from([("*",), ("g.io",), ("", "g.io")]),
    st.sampled_from([("*",), ("pods",), ("Gateway", "pod")]),
)
resource_selectors = st.builds(
    ResourceSelector,
    st.none() | label_selectors,
    label_selectors,
    st.lists(kinds, max_size=2).map(tuple),
)
resources = st.lists(resource_selectors, min_size=1, max_size=2).map(
    lambda some: ResourceSelection("prod", tuple(some))
)
sources: st.SearchStrategy[dict[str, Selection]] = st.dictionaries(
    st.sampled_from(["s1", "s2"]), queries | resources, min_size=1
)

series = st.fixed_dictionaries(
    {"__name__": st.sampled_from(["m", "n"])},
    optional={
        "tenant": st.sampled_from([*PROJECTS, "other"]),
        "vm_account_id": st.sampled_from(["0", "1", "2", "x"]),
        "a": st.sampled_from(["x", "y"]),
        "resource_namespace": words,
        "resource_kind": st.sampled_from(["Pod", "gateway"]),
        "resource_name": st.just("r"),
        "service_name": st.just("g.io"),
        "label_env": words,
    },
)
exporters = st.tuples(st.sampled_from(PROJECTS), st.sampled_from(["e1", "e2", "e3"]))
objects = st.builds(
    Object,
    st.sampled_from(PROJECTS),
    st.just(""),
    st.sampled_from(["Namespace", "Pod"]),
    st.just(""),
    words | st.just("r"),
    st.just(""),
    st.dictionaries(st.just("env"), words),
)
infos = st.fixed_dictionaries(
    {
        "__name__": st.just("kube_namespace_labels"),
        "namespace": words,
        "tenant": st.sampled_from(PROJECTS),
    },
    optional={"label_env": words},
)
changes = st.one_of(
    st.tuples(st.just("put"), exporters, sources, st.booleans()),
    st.tuples(st.just("put"), exporters, sources, st.booleans()),
    st.tuples(st.just("remove"), exporters),
    st.tuples(st.just("inventory"), st.lists(objects, max_size=3)),
    st.tuples(st.just("info"), infos),
)


def encoded(labels: Mapping[str, str]) -> bytes:
    pairs = [(name.encode(), value.encode()) for name, value in labels.items()]
    return raw.series(pairs, (1.0, raw.T0_MS))


@dataclass
class World:
    """The engine, and the simplest thing that could stand in its place."""

    conventions: Conventions
    rig: Rig = field(init=False)
    running: dict[tuple[str, str], tuple[dict[str, Selection], RigSink]] = field(
        default_factory=dict
    )
    expected: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rig = Rig(tenancy=TENANCY, compiler=Compiler(self.conventions))

    def put(self, who: tuple[str, str], chosen: dict[str, Selection], new_sink: bool) -> None:
        name = "/".join(who)
        known = self.running.get(who)
        sink = known[1] if known and not new_sink else RigSink("s", limit=10_000, exporter=name)
        if known is None:
            self.rig.export(sink, exporter=name, project=who[0], sources=chosen)
        else:
            targets = [sink.target]
            self.rig.engine.replace_exporter(
                name, [(source, selection, targets) for source, selection in chosen.items()]
            )
            self.rig.sinks.append(sink)
        self.running[who] = (chosen, sink)
        self.expected.setdefault(id(sink), 0)

    def remove(self, who: tuple[str, str]) -> None:
        if self.running.pop(who, None) is not None:
            self.rig.engine.remove_exporter("/".join(who))

    def feed(self, some: list[dict[str, str]], origin: IngestPath) -> None:
        for (project, _), (chosen, sink) in self.running.items():
            known = self.rig.engine.inventory.for_project(project)
            for labels in some:
                if TENANCY.project_of(labels, origin) != project:
                    continue
                visible = dict(labels)
                if origin.by_labels:
                    visible.pop("vm_account_id", None)
                self.expected[id(sink)] += sum(
                    Compiler(self.conventions).compile(selection, known).matches(visible)
                    for selection in chosen.values()
                )
        self.rig.feed(b"".join(map(encoded, some)), origin=origin)

    def inventory(self, some: list[Object]) -> None:
        self.rig.engine.set_inventory(ManifestIndex(some))

    def info(self, labels: dict[str, str]) -> None:
        self.rig.feed(encoded(labels))
        for sink in self.rig.sinks:
            self.expected[id(sink)] = sink.held

    def check(self) -> None:
        for sink in self.rig.sinks:
            assert sink.held == self.expected[id(sink)], sink
        self.rig.engine.statistics()
        for sink in {id(sink): sink for sink in self.rig.sinks}.values():
            assert sink.counter.points == sink.held


@examples(150)
@given(
    st.lists(series, min_size=1, max_size=4, unique_by=str),
    st.lists(changes, max_size=15),
    st.sampled_from(ORIGINS),
    st.booleans(),
    st.sampled_from([Conventions(), TABLE]),
)
def test_each_gets_its_own_and_nothing_else(
    pool: list[dict[str, str]],
    changes: list[tuple],  # type: ignore[type-arg] - a name and its arguments
    origin: IngestPath,
    small: bool,
    conventions: Conventions,
) -> None:
    limits = {"CHANGES_MAX": 3, "ASK_MAX": 1, "MATCH_SETS_MAX": 2} if small else {}
    with mock.patch.dict(vars(router_module), limits):
        world = World(conventions)
        for what, *arguments in changes:
            getattr(world, what)(*arguments)
            for way in (ANYWHERE, origin):
                world.feed(pool, way)
            world.check()
        # Everybody leaves: nothing of them may stay, and nobody may get anything any more.
        for who in list(world.running):
            world.remove(who)
        statistics = world.rig.engine.statistics().router
        assert (statistics.exporters, statistics.sources, statistics.match_sets) == (0, 0, 0)
        assert statistics.projects == 0
        world.feed(pool, origin)
        world.check()


@examples(100)
@given(
    st.lists(st.tuples(st.sampled_from(PROJECTS), sources), min_size=1, max_size=5),
    st.lists(series, min_size=1, max_size=8),
    st.sampled_from([Conventions(), TABLE]),
)
def test_no_point_of_another_project_ever_leaves(
    chosen: list[tuple[str, dict[str, Selection]]],
    some: list[dict[str, str]],
    conventions: Conventions,
) -> None:
    rig = Rig(tenancy=TENANCY, compiler=Compiler(conventions))
    for number, (project, selections) in enumerate(chosen):
        name = f"{project}/{number}"
        sink = RigSink("s", limit=3, exporter=name)
        rig.export(sink, exporter=name, project=project, sources=selections)
    rig.feed(b"".join(map(encoded, some)))
    rig.flush()
    for sink in rig.sinks:
        project = sink.counter.exporter.partition("/")[0]
        assert {dict(point.attributes)["tenant"] for point in sink.points()} <= {project}
