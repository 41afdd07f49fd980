"""Routes of series that go to sinks as they came, rule by rule."""

from __future__ import annotations

import pytest

from relay.pipeline.limits import Limits
from relay.pipeline.metrics.raw import metadata as raw_metadata
from relay.pipeline.routing.match_set import OutputOptions
from relay.pipeline.routing.tenancy import MULTITENANT, IngestPath, Tenancy
from relay.runtime.errors import DecodeError
from relay.selector.matchers import NAME, Matcher, Selector
from tests.kit.engine_rig import RAW1, RAW2, Rig, RigSink, named
from tests.kit.remote_write import raw
from tests.kit.remote_write.as_sent import Labels, SentPoint
from tests.kit.remote_write.raw import STALE, T0_MS, bits_of
from tests.kit.remote_write.sample_writes import histogram, write
from tests.kit.remote_write.symbolic import Request2

UP = [(b"__name__", b"up"), (b"job", b"api")]
QUIET = OutputOptions(protocol="remoteWrite1")
PLAIN = OutputOptions()


def rig_of(*options: OutputOptions, limit: int = 100, **given: object) -> Rig:
    """An engine with one exporter of a sink for each of these options."""
    rig = Rig(Limits(series_max=1000), **given)
    rig.export(*[RigSink(f"s{n}", limit=limit, options=one) for n, one in enumerate(options)])
    return rig


def points_of(sink: RigSink) -> dict[Labels, list[SentPoint]]:
    """The points of each series that arrived."""
    return {labels: series.points for labels, series in sink.as_sent().series.items()}


def the_series(rig: Rig, name: str) -> object:
    """The one series of this name."""
    (found,) = [series for series in rig.engine.table.kept() if series.name == name]
    return found


def test_labels_keep_their_order() -> None:
    rig = rig_of(QUIET)
    rig.feed(raw.series([(b"zone", b"b"), (b"__name__", b"up"), (b"__type__", b"x")], (1.0, T0_MS)))
    rig.flush()
    assert points_of(rig.sinks[0]) == {
        (("zone", "b"), ("__name__", "up"), ("__type__", "x")): [SentPoint(T0_MS, bits_of(1.0))]
    }


def test_a_label_without_a_value_is_no_label() -> None:
    rig = rig_of(QUIET)
    rig.feed(raw.series([(b"zone", b"b"), (b"__name__", b"up"), (b"Alpha", b"")], (1.0, T0_MS)))
    rig.flush()
    assert set(points_of(rig.sinks[0])) == {(("__name__", "up"), ("zone", "b"))}


def test_a_stale_marker_keeps_its_bits() -> None:
    rig = rig_of(QUIET, PLAIN)
    rig.feed(raw.message(1, raw.labels(UP) + raw.sample(STALE, T0_MS)))
    rig.flush()
    ((point,),) = points_of(rig.sinks[0]).values()
    assert point.content == STALE
    (otlp,) = rig.sinks[1].any_points()
    assert otlp.flags == 1


def test_members_of_histograms_are_not_assembled() -> None:
    rig = rig_of(QUIET, PLAIN)
    lines = histogram("h", "", (("1", 2), ("+Inf", 3)), 4.5, 3)
    rig.feed(write(*lines, at_ms=T0_MS, types={"h": "histogram"}))
    for sink in rig.sinks[:1]:
        assert sink.batches[0].count == len(lines)
    rig.due(100.0)
    rig.flush()
    assert len(points_of(rig.sinks[0])) == len(lines)
    assert [point.name for point in rig.sinks[1].any_points()] == ["h"]


def test_nothing_waits_for_a_type() -> None:
    rig = rig_of(QUIET, PLAIN, first_sight_s=10.0)
    rig.feed(raw.series(UP, (1.0, T0_MS)))
    assert [sink.batches[0].count for sink in rig.sinks] == [1, 0]
    rig.feed(raw.series(UP, (2.0, T0_MS + 1)), tick=1.0)
    assert [sink.batches[0].count for sink in rig.sinks] == [2, 0]
    rig.due(20.0)
    rig.flush()
    assert [sink.held for sink in rig.sinks] == [2, 2]
    rig.engine.statistics()
    assert [sink.counter.points for sink in rig.sinks] == [2, 2]


def test_target_info_is_a_series_and_still_describes() -> None:
    rig = rig_of(QUIET)
    rig.export(RigSink("otlp", limit=10), exporter="y", sources={"up": named("up")})
    target = [(b"__name__", b"target_info"), (b"job", b"api"), (b"zone", b"b")]
    rig.feed(raw.series(target, (1.0, T0_MS)))
    rig.feed(raw.series(UP, (1.0, T0_MS)))
    rig.flush()
    assert len(points_of(rig.sinks[0])) == 2
    (point,) = rig.sinks[1].any_points()
    assert ("zone", "b") in point.resource


def test_a_raw_series_depends_on_nothing_but_its_sources() -> None:
    rig = rig_of(QUIET)
    rig.feed(raw.series(UP, (1.0, T0_MS)))
    series = the_series(rig, "up")
    assert series.dependencies == ()  # type: ignore[attr-defined]
    assert series.metric_type is None  # type: ignore[attr-defined]
    assert series.handlers == ()  # type: ignore[attr-defined]


def test_external_labels_do_not_override() -> None:
    options = OutputOptions(
        protocol="remoteWrite1", external_labels=(("cluster", "c1"), ("job", "no"))
    )
    rig = rig_of(options)
    rig.feed(raw.series(UP, (1.0, T0_MS)))
    rig.flush()
    (labels,) = points_of(rig.sinks[0])
    assert labels == (("__name__", "up"), ("cluster", "c1"), ("job", "api"))


def test_the_account_of_the_path_is_left_out_and_the_tenancy_label_stays() -> None:
    rig = Rig(tenancy=Tenancy("project", {(1, 2): "p1"}))
    rig.export(RigSink("s", limit=10, options=QUIET), project="p1")
    account = [(b"vm_account_id", b"1"), (b"vm_project_id", b"2"), (b"project", b"p1")]
    rig.feed(raw.series([*UP, *account], (1.0, T0_MS)), origin=MULTITENANT)
    rig.feed(raw.series([*UP, *account], (2.0, T0_MS)), origin=IngestPath("p1"))
    rig.flush()
    stripped = (("__name__", "up"), ("job", "api"), ("project", "p1"))
    assert set(points_of(rig.sinks[0])) == {
        stripped,
        (
            ("__name__", "up"),
            ("job", "api"),
            ("vm_account_id", "1"),
            ("vm_project_id", "2"),
            ("project", "p1"),
        ),
    }


def test_shards_go_by_series() -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=1000, shards=4, options=QUIET))
    bodies = [
        raw.series([*UP, (b"n", b"%d" % n)], (float(at), T0_MS + at))
        for at in range(2)
        for n in range(40)
    ]
    rig.feed(b"".join(bodies))
    rig.flush()
    sink = rig.sinks[0]
    by_shard = []
    for sealed in sink.sealed_by_lane:
        sink.sealed = sealed
        by_shard.append(points_of(sink))
    assert all(by_shard)
    seen = [labels for found in by_shard for labels in found]
    assert len(seen) == len(set(seen)) == 40


def test_a_refused_request_leaves_no_trace() -> None:
    rig = rig_of(RAW1, RAW2, PLAIN, limit=3)
    rig.feed(raw.series(UP, (1.0, T0_MS)))
    before = rig.snapshot()
    exemplar = raw.message(3, raw.label(b"trace_id", b"x") + b"\x18" + raw.varint(T0_MS))
    body = b"".join(
        [
            raw.series(UP, (2.0, T0_MS + 1), (3.0, T0_MS + 2)),
            raw.message(1, raw.labels(UP) + exemplar),
            raw.message(1, raw.labels(UP) + raw.message(4, b"\x78" + raw.varint(T0_MS + 3))),
            b"\x0a\x7f",
        ]
    )
    with pytest.raises(DecodeError):
        rig.feed(body)
    assert rig.snapshot() == before
    rig.feed(raw.series(UP, (4.0, T0_MS + 4)))
    rig.flush()
    for sink in rig.sinks[:2]:
        ((*points,),) = points_of(sink).values()
        assert [point.time_ms for point in points] == [T0_MS, T0_MS + 4]


def test_both_kinds_of_sinks_get_a_series_and_are_counted() -> None:
    rig = rig_of(RAW1, PLAIN, OutputOptions(temporality="delta"))
    types = {"up_total": "counter"}
    for at in range(3):
        rig.feed(write(f"up_total {at}", at_ms=T0_MS + at, types=types), tick=float(at))
    rig.flush()
    rig.engine.statistics()
    assert [sink.counter.points for sink in rig.sinks] == [3, 3, 2]
    assert [sink.counter.samples for sink in rig.sinks] == [3, 3, 3]
    assert [sink.held for sink in rig.sinks] == [3, 3, 2]


def test_a_raw_sink_that_comes_and_goes() -> None:
    rig = rig_of(PLAIN)
    sink = RigSink("raw", limit=100, options=RAW1)
    rig.feed(raw.series(UP, (1.0, T0_MS)))
    both = [("all", Selector(()), [rig.sinks[0].target, sink.target])]
    rig.engine.replace_exporter("x", both)
    rig.sinks.append(sink)
    rig.feed(raw.series(UP, (2.0, T0_MS + 1)))
    rig.engine.replace_exporter("x", [("all", Selector(()), [sink.target])])
    rig.feed(raw.series(UP, (3.0, T0_MS + 2)))
    rig.engine.replace_exporter("x", [("all", Selector(()), [rig.sinks[0].target])])
    rig.feed(raw.series(UP, (4.0, T0_MS + 3)))
    rig.flush()
    assert [sink.held for sink in rig.sinks] == [3, 2]
    ((*points,),) = points_of(sink).values()
    assert [point.time_ms for point in points] == [T0_MS + 1, T0_MS + 2]


def test_sources_choose_as_for_otlp() -> None:
    rig = Rig()
    only = Selector(((Matcher(NAME, "=", "up"), Matcher("job", "=", "api")),))
    rig.export(RigSink("s", limit=10, options=QUIET), sources={"up": only})
    rig.feed(raw.series(UP, (1.0, T0_MS)) + raw.series([(b"__name__", b"up")], (1.0, T0_MS)))
    rig.flush()
    assert len(points_of(rig.sinks[0])) == 1
    rig.engine.statistics()
    assert rig.engine.statistics().router.unmatched_samples == 1


def test_starts_go_to_2_0_alone() -> None:
    rig = rig_of(RAW1, RAW2)
    message = Request2()
    message.series({"__name__": "up"}, (1.0, T0_MS, T0_MS - 5))
    message.series({"__name__": "old"}, (1.0, T0_MS), created_ms=T0_MS - 7)
    rig.feed(message.body, protocol="remote_write_v2")
    rig.flush()
    starts = [
        sorted(point.start_ms for points in points_of(sink).values() for point in points)
        for sink in rig.sinks
    ]
    assert starts == [[0, 0], [T0_MS - 7, T0_MS - 5]]


def test_a_table_of_dead_labels_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = rig_of(QUIET, RAW2, PLAIN)
    rig.feed(raw.series(UP, (1.0, T0_MS)))
    table = rig.engine.resolver.raw.table
    renew = rig.engine.resolver.raw.renew
    monkeypatch.setattr(
        type(rig.engine.resolver.raw), "renew", lambda routes, live: _renewed(routes, renew, live)
    )
    rig.feed(raw.series(UP, (2.0, T0_MS + 1)))
    monkeypatch.undo()
    assert rig.engine.resolver.raw.table is not table
    rig.feed(raw.series(UP, (3.0, T0_MS + 2)))
    rig.flush()
    rig.engine.statistics()
    for sink in rig.sinks:
        assert sink.counter.points == sink.held == 3
    ((*points,),) = points_of(rig.sinks[0]).values()
    assert [point.time_ms for point in points] == [T0_MS, T0_MS + 1, T0_MS + 2]


def _renewed(routes: object, renew: object, live: int) -> bool:
    """Replace the table although it is small."""
    del renew, live
    routes.table = type(routes.table)()  # type: ignore[attr-defined]
    return True


def test_the_bound_of_names_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_metadata, "NAMES_MAX", 5)
    routes = raw_metadata.RawMetadata(Rig().engine.types, names_max=5)
    for number in range(20):
        routes.feed("", f"n{number}", ())
    assert len(routes._subjects) == 5
    assert len(routes._by_name) == 5
