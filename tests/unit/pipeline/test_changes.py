"""Changes while series flow: what a change of an exporter, or of an object, touches, what not."""

from __future__ import annotations

import pytest

from relay.codec.remote_write.label_parser import LabelParser, SeriesLabels
from relay.pipeline import engine as engine_module
from relay.pipeline.routing import router as router_module
from relay.pipeline.routing.tenancy import Tenancy
from relay.selector.inventory.store import ManifestIndex, Object
from relay.selector.metricsql.parser import parse_query
from relay.selector.resources.label_selector import (
    LabelSelector,
    Requirement,
    ResourceSelection,
    ResourceSelector,
    Selection,
)
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write import raw

T = raw.T0_MS
PRODUCTION = LabelSelector((Requirement("env", "In", ("production",)),))
IN_PRODUCTION = ResourceSelection("default", (ResourceSelector(PRODUCTION),))
WEB = ResourceSelection(
    "default",
    (ResourceSelector(LabelSelector(), LabelSelector((Requirement("app", "In", ("web",)),))),),
)


def one_series(name: str = "m", **labels: str) -> bytes:
    pairs = [(b"__name__", name.encode())]
    pairs += [(label.encode(), value.encode()) for label, value in labels.items()]
    return raw.series(pairs, (1.0, T))


def query(text: str) -> Selection:
    return parse_query(text)


def info(name: str, env: str) -> bytes:
    return one_series("kube_namespace_labels", namespace=name, label_env=env)


def replace(rig: Rig, sink: RigSink, sources: dict[str, Selection], exporter: str = "x") -> None:
    targets = [sink.target]
    rig.engine.replace_exporter(exporter, [(name, one, targets) for name, one in sources.items()])


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Keys of the series whose labels an engine that is made now has to look at."""
    seen: list[bytes] = []

    class Watched(LabelParser):
        """A reader that is watched; a compiled one cannot be patched."""

        def read(self, key: bytes) -> SeriesLabels:
            seen.append(key)
            return super().read(key)

    monkeypatch.setattr(engine_module, "LabelParser", Watched)
    return seen


def test_other_projects_changes_cost_a_series_nothing(parsed: list[bytes]) -> None:
    rig = Rig(tenancy=Tenancy("tenant"))
    rig.export(RigSink("s", limit=100, exporter="a/x"), exporter="a/x", project="a")
    body = one_series(tenant="a") + one_series(tenant="nobody")
    rig.feed(body)
    rig.export(RigSink("s", limit=100, exporter="b/x"), exporter="b/x", project="b")
    del parsed[:]
    for _ in range(3):
        rig.feed(body)
    assert [key.count(b"nobody") for key in parsed] == [1], "it might be the new project's"
    del parsed[:]
    rig.engine.remove_exporter("b/x")
    rig.feed(body)
    assert parsed == []
    assert rig.sinks[0].held == 5


def test_a_new_exporter_is_asked_about_known_series_and_nobody_else() -> None:
    rig = Rig()
    first = rig.export(RigSink("s", limit=100), sources={"m": query("m")})
    body = one_series() + one_series("n")
    rig.feed(body)
    second = rig.export(RigSink("s", limit=100, exporter="y"), exporter="y")
    rig.feed(body)
    assert (first.held, second.held) == (2, 2)


def test_leaving_needs_no_labels(parsed: list[bytes]) -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=100), exporter="x")
    rig.export(RigSink("s", limit=100, exporter="y"), exporter="y", sources={"n": query("n")})
    body = one_series() + one_series("n")
    rig.feed(body)
    del parsed[:]
    rig.engine.remove_exporter("y")
    rig.feed(body)
    assert parsed == []
    assert [sink.held for sink in rig.sinks] == [4, 1]


def test_only_the_sinks_of_an_exporter_change(parsed: list[bytes]) -> None:
    """The same selectors, another sink: series that match go there, their labels unseen."""
    rig = Rig()
    old = rig.export(RigSink("s", limit=100), sources={"m": query("m")})
    body = one_series() + one_series("n")
    rig.feed(body)
    del parsed[:]
    new = RigSink("s2", limit=100)
    replace(rig, new, {"m": query("m")})
    rig.feed(body)
    assert parsed == []
    assert (old.held, new.held) == (1, 1)
    (counter,) = rig.engine.router.source_counters()
    rig.engine.statistics()
    assert counter.samples == 2


def test_an_edited_selector_takes_the_place_of_the_old_one() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=100), sources={"a": query("m"), "b": query("n")})
    rig.feed(one_series() + one_series("n"))
    replace(rig, sink, {"a": query("n"), "b": query("n"), "c": query("o")})
    rig.feed(one_series() + one_series("n") + one_series("o"))
    rig.engine.statistics()
    assert {t.source: t.samples for t in rig.engine.router.source_counters()} == {
        "a": 2,
        "b": 2,
        "c": 1,
    }
    assert sink.held == sink.counter.points == 5


def test_series_that_missed_more_changes_than_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(router_module, "CHANGES_MAX", 3)
    rig = Rig()
    rig.export(RigSink("s", limit=100), exporter="first")
    rig.feed(one_series())
    for number in range(10):
        name = f"e{number}"
        rig.export(RigSink("s", limit=100, exporter=name), exporter=name)
    rig.feed(one_series())
    assert [sink.held for sink in rig.sinks] == [2] + [1] * 10


def test_more_plans_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "MATCH_SETS_MAX", 2)
    rig = Rig()
    names = ("a", "b", "c", "d", "e")
    sink = rig.export(RigSink("s", limit=1000), sources={name: query(name) for name in names})
    for _ in range(4):
        rig.feed(b"".join(map(one_series, names)))
        statistics = rig.engine.statistics().router
        assert statistics.match_sets <= 2
    assert sink.held == sink.counter.points == 20
    assert {counter.samples for counter in rig.engine.router.source_counters()} == {4}


def test_unmatched_samples_outlive_their_project() -> None:
    rig = Rig(tenancy=Tenancy("tenant"))
    name = "a/x"
    rig.export(
        RigSink("s", limit=1, exporter=name), exporter=name, project="a", sources={"m": query("n")}
    )
    rig.feed(one_series(tenant="a"))
    rig.engine.remove_exporter(name)
    assert rig.engine.statistics().router.unmatched_samples == 1
    rig.feed(one_series(tenant="a"))
    assert rig.engine.statistics().router.unmatched_samples == 2
    assert rig.engine.statistics().router.projects == 0


def test_series_follow_their_namespaces_labels() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=100), sources={"all": IN_PRODUCTION})
    body = one_series(resource_namespace="shop") + one_series(resource_namespace="lab")
    for env, held in (("dev", 0), ("production", 1), ("dev", 1), ("production", 2)):
        rig.feed(info("shop", env))
        rig.feed(info("shop", env))
        rig.feed(body)
        assert sink.held == held, env


def test_a_manifest_that_changes_moves_series_at_once() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=100), sources={"all": WEB})
    body = one_series(resource_kind="Gateway", resource_name="g", resource_namespace="a")
    rig.feed(body)
    for app, held in (("web", 1), ("db", 1), ("web", 2)):
        rig.engine.set_inventory(
            ManifestIndex([Object("", "", "Gateway", "a", "g", "", {"app": app})])
        )
        rig.feed(body)
        assert sink.held == held, app
    rig.engine.set_inventory(ManifestIndex([]))
    rig.feed(body)
    assert sink.held == 2


def test_what_nobody_looked_at_may_change_without_notice() -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=100), sources={"all": IN_PRODUCTION})
    rig.feed(one_series(resource_namespace="shop"))
    generation = rig.engine.table.generation
    rig.feed(info("lab", "production"))
    assert rig.engine.table.generation == generation
    rig.feed(info("shop", "production"))
    assert rig.engine.table.generation == generation + 1
    assert rig.engine.statistics().inventory.changes == 1


def test_of_several_sources_only_those_that_look_at_objects_are_asked_again() -> None:
    rig = Rig()
    sink = rig.export(
        RigSink("s", limit=100),
        sources={"a": query("m"), "b": IN_PRODUCTION, "c": query("m"), "d": IN_PRODUCTION},
    )
    body = one_series(resource_namespace="shop")
    rig.feed(body)
    for env in ("production", "production", "dev", "production"):
        rig.feed(info("shop", env))
    rig.feed(info("shop", "production"))
    rig.feed(body)
    rig.engine.statistics()
    assert {t.source: t.samples for t in rig.engine.router.source_counters()} == {
        "a": 2,
        "b": 1,
        "c": 2,
        "d": 1,
    }
    assert sink.held == 6


def test_what_people_see() -> None:
    rig = Rig(tenancy=Tenancy("tenant"))
    rig.export(RigSink("s", limit=1, exporter="a/x"), exporter="a/x", project="a")
    rig.feed(one_series(tenant="a"))
    (series_found,) = (one for one in [rig.engine.table.find(_key(one_series(tenant="a")))] if one)
    match_set = series_found.match_set
    assert repr(match_set.project_epoch) == "<_Project 'a' version 1>"
    assert repr(match_set.matched[0]) == "<MatchedSource a/x all>"
    assert repr(rig.engine.router) == "<Router 1 exporters of 1 projects>"
    statistics = rig.engine.statistics().router
    assert (statistics.projects, statistics.always_asked) == (1, 1)


def _key(body: bytes) -> bytes:
    """The label bytes of a request of one series with one sample."""
    return body[2 : body.index(b"\x12\x10", 2)]
