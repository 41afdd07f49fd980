"""Which sinks a series goes to: tenancy, exporters that come and go, lanes, and what is counted."""

from __future__ import annotations

import gc
from weakref import ref

import pytest

from relay.codec.otlp.batch import memory_bytes_of
from relay.codec.remote_write.label_intern import label_field
from relay.codec.remote_write.label_parser import LabelParser
from relay.pipeline.routing.match_set import NO_MATCH
from relay.pipeline.routing.router import Router
from relay.pipeline.routing.tenancy import Tenancy
from relay.runtime.errors import DecodeError
from relay.selector.matchers import Matcher, Selector
from tests.kit.engine_rig import Rig, RigSink, named
from tests.kit.remote_write import raw

T = raw.T0_MS
UP, DOWN = [(b"__name__", b"up")], [(b"__name__", b"down")]


def of_project(project: bytes) -> bytes:
    """A request of one series of a project."""
    return raw.series([*UP, (b"tenant", project)], (1.0, T))


def test_under_tenancy_a_project_gets_its_own_series_only() -> None:
    rig = Rig(tenancy=Tenancy("tenant"))
    for project in ("acme", "zeta"):
        rig.export(
            RigSink("s", limit=10, exporter=f"{project}/x"),
            exporter=f"{project}/x",
            project=project,
        )
    rig.feed(of_project(b"acme") + of_project(b"other") + of_project(b"acme") + of_project(b""))
    rig.flush()
    statistics = rig.engine.statistics()
    acme, zeta = rig.sinks
    assert {dict(point.attributes)["tenant"] for point in acme.points()} == {"acme"}
    assert (acme.counter.points, zeta.counter.points) == (2, 0)
    assert statistics.router.unmatched_samples == 2


def test_without_tenancy_the_label_is_just_a_label() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=10))
    rig.feed(of_project(b"acme") + of_project(b"zeta"))
    assert sink.held == 2


def test_an_exporter_that_comes_back_goes_on_counting() -> None:
    rig = Rig()
    for _ in range(2):
        rig.export(RigSink("s", limit=10))
        rig.feed(raw.series(UP, (1.0, T)))
        rig.engine.remove_exporter("x")
    rig.feed(raw.series(UP, (1.0, T)))
    statistics = rig.engine.statistics().router
    (counter,) = rig.engine.router.source_counters()
    assert (counter.exporter, counter.source, counter.samples) == ("x", "all", 2)
    assert (statistics.exporters, statistics.sources, statistics.match_sets) == (0, 0, 0)
    assert statistics.unmatched_samples == 1
    rig.engine.router.forget_counters("x")
    assert list(rig.engine.router.source_counters()) == []


def test_what_a_removed_exporter_was_given_stays_in_its_batches() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=10))
    rig.feed(raw.series(UP, (1.0, T)))
    rig.engine.remove_exporter("x")
    assert sink.held == 1
    rig.due(5.0)
    assert [sealed.count for sealed in sink.sealed] == [1]


def test_series_with_the_same_sources_share_a_plan() -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=100), sources={"all": named("up"), "again": named("up")})
    for n in range(5):
        rig.feed(raw.series([*UP, (b"n", b"%d" % n)], (1.0, T)) + raw.series(DOWN, (1.0, T)))
    statistics = rig.engine.statistics().router
    assert statistics.match_sets == 1
    assert statistics.unmatched_samples == 5
    assert {counter.samples for counter in rig.engine.router.source_counters()} == {5}


def test_lanes_share_the_metrics() -> None:
    """Every lane gets some of many targets' metrics; all series of one metric go the same way."""
    rig = Rig()
    sink = rig.export(RigSink("s", limit=1000, shards=4))
    targets = [[*UP, (b"instance", b"h:%d" % n)] for n in range(200)]
    rig.feed(b"".join(raw.series(labels, (1.0, T)) for labels in targets))
    assert all(20 < batch.count < 80 for batch in sink.batches)
    before = [batch.count for batch in sink.batches]
    rig.feed(b"".join(raw.series([*UP, (b"n", b"%d" % n)], (1.0, T)) for n in range(200)))
    assert sorted(b.count - was for b, was in zip(sink.batches, before, strict=True)) == [
        0,
        0,
        0,
        200,
    ]


def test_answers_keep_no_sink_that_is_gone() -> None:
    """Router remembers its answers, which hold what they send to."""
    router = Router(tenancy=Tenancy("project"))
    reader = LabelParser(labels_max=10, bytes_max=9_999)
    sink = RigSink("s", limit=10)
    selector = Selector(((Matcher("a", "=", "x"),),))
    router.add("e", "acme", [("all", selector, [sink.target])])
    labels = reader.read(label_field("__name__", "up") + label_field("a", "x"))
    assert router.match(labels, "acme")[0] is not NO_MATCH
    router.remove("e")
    router.apply_inventory_changes()
    router.forget_counters("e")
    there = ref(sink)
    del sink
    gc.collect()
    assert there() is None


def test_a_refused_request_leaves_no_room_taken() -> None:
    """What a batch that stays empty had made room for would never be given back."""
    rig = Rig()
    sink = rig.export(RigSink("s", limit=10_000))
    body = b"".join(raw.series([(b"__name__", b"m%d" % n)], (1.0, T)) for n in range(2_000))
    with pytest.raises(DecodeError):
        rig.feed(body[:-1])
    assert memory_bytes_of(sink.batches) == 0
    rig.feed(body)
    assert sink.batches[0].count == 2_000


def test_an_exporter_may_not_be_added_twice() -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=1))
    with pytest.raises(AssertionError):
        rig.export(RigSink("s", limit=1))


def test_what_people_see() -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=10))
    rig.feed(raw.series(UP, (1.0, T)))
    rig.engine.statistics()
    engine = rig.engine
    assert repr(engine.table) == "<SeriesTable 0 known series, 1 new>"
    assert repr(engine.router) == "<Router 1 exporters of 1 projects>"
    assert repr(engine) == f"<MetricsPipeline {engine.table!r} {engine.router!r}>"
    assert repr(engine.offsets) == "<OffsetTracker 0..1, 1 holds>"
    assert repr(engine.translator) == "<Translator 1 metrics of 1 resources>"
    assert repr(engine.types) == "<TypeStore 0 families of 0 projects>"
    assert repr(rig.sinks[0].target) == "<SinkOutputSpec x s>"
    assert repr(rig.sinks[0].counter) == "<SinkCounter x s 1>"
    assert [repr(counter) for counter in engine.router.source_counters()] == [
        "<SourceCounter x all 1>"
    ]
    series = engine.table.first_in_request.predicted_next
    assert series is not None
    assert repr(series) == "<Series 'up' -> 1 routes>"
    assert repr(series.match_set) == "<MatchSet 1 sources, 1 sinks>"


@pytest.mark.parametrize("first", ["logs", "metrics", "traces"])
def test_exporters_without_sources_of_metrics_come_and_go(first: str) -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=10), exporter="metrics")
    for name in ("logs", "traces"):  # policies of other signals
        rig.engine.add_exporter(name, "", [])
    rig.engine.remove_exporter(first)
    for name in {"logs", "traces", "metrics"} - {first}:
        rig.engine.replace_exporter(name, [])
        rig.engine.remove_exporter(name)
    assert not rig.engine.router.has_project("")
