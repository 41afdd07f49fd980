"""A family that is new and of no known type waits a moment, and then is of one type only."""

from __future__ import annotations

import pytest

from relay.pipeline.batching.unfinished import ReplayGate
from relay.pipeline.limits import Limits
from relay.pipeline.metrics.metadata import metadata_wait
from relay.pipeline.metrics.metadata.metric_types import root_of
from relay.pipeline.routing.match_set import OutputOptions
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.oracle.any_points import AnyPoint, bits
from tests.kit.remote_write.sample_writes import T0_MS, histogram, write

H = histogram("h", "", (("1", 2), ("+Inf", 3)), 4.5, 3)
S = ['s{quantile="0.5"} 1', "s_sum 2", "s_count 3"]


def waiting_rig(**options: object) -> Rig:
    """A rig with one sink, in which families wait for 1.5 s."""
    made = Rig(Limits(), first_sight_s=1.5, **options)
    made.export(RigSink("s", limit=1000, timeout_s=0.1))
    return made


def points_out(made: Rig) -> list[AnyPoint]:
    """What has left, in order."""
    made.flush()
    return made.sinks[0].any_points()


def kinds(made: Rig) -> list[tuple[str, str, str]]:
    """Name, kind and type of what has left."""
    return [
        (point.name, point.identity.kind, point.identity.prometheus_type)
        for point in points_out(made)
    ]


def test_metadata_behind_the_samples_lets_them_leave_at_once() -> None:
    made = waiting_rig()
    made.feed(write("c 1", "g 2", *H, *S))
    assert made.sinks[0].held == 0
    made.feed(
        write(types={"c": "counter", "g": "gauge", "h": "histogram", "s": "summary"}), tick=0.5
    )
    assert kinds(made) == [("c", "sum", "counter"), ("g", "gauge", "gauge")]
    made.due(20.0)
    assert kinds(made)[2:] == [("h", "histogram", "histogram"), ("s", "summary", "summary")]


def test_shards_may_send_the_count_before_the_buckets() -> None:
    made = waiting_rig()
    made.feed(write(H[3], H[2]), tick=0.0)
    made.feed(write(*H[:2]), tick=1.0)
    made.due(1.5)
    made.due(15.0)
    (point,) = points_out(made)
    assert point.name == "h"
    assert point.data == (3, bits(4.5), (1.0,), (2, 1))
    assert made.engine.statistics().assembly.outcomes == {"assembled": 4}


def test_without_metadata_a_family_waits_once_and_is_settled() -> None:
    made = waiting_rig()
    made.feed(write("a_total 1", "b 1"), tick=0.0)
    made.feed(write("a_total 2", "b 2", at_ms=T0_MS + 1), tick=1.0)
    made.due(1.4)
    assert made.sinks[0].held == 0
    assert made.engine.next_due() == 1.5
    made.due(1.5)
    assert [point.value for point in points_out(made)] == [1.0, 2.0, 1.0, 2.0]
    made.feed(write("a_total 3", "b 3", at_ms=T0_MS + 2), tick=1.6)
    made.feed(write('a_total{x="y"} 3', at_ms=T0_MS + 2), tick=1.6)
    assert len(points_out(made)) == 7
    again = waiting_rig()
    again.engine.import_metadata(made.engine.export_metadata())
    again.feed(write("a_total 1"))
    assert len(points_out(again)) == 1


def test_a_family_of_known_type_never_waits() -> None:
    made = waiting_rig()
    made.feed(write("c 1", types={"c": "counter"}))
    made.feed(write('c{x="y"} 1'))
    assert kinds(made) == [("c", "sum", "counter")] * 2


def test_samples_leave_in_the_order_in_which_they_came() -> None:
    made = waiting_rig()
    for number in range(5):
        made.feed(write(f"c {number}", at_ms=T0_MS + number), tick=0.1 * number)
    made.feed(write("c 5", at_ms=T0_MS + 5, types={"c": "counter"}), tick=0.6)
    made.feed(write("c 6", at_ms=T0_MS + 6), tick=0.7)
    assert [point.value for point in points_out(made)] == [float(number) for number in range(7)]


def test_the_ledger_counts_each_sample_once() -> None:
    made = waiting_rig()
    made.feed(write("c 1", "d 2"))
    made.due(2.0)
    made.feed(write("c 1", "d 2", at_ms=T0_MS + 1), tick=2.0)
    made.flush()
    sink = made.sinks[0]
    made.engine.router.flush_counters()
    assert sink.counter.points == sum(sealed.count for sealed in sink.sealed) == 4
    assert sink.counter.samples == 4
    (source,) = made.engine.router.source_counters()
    assert source.samples == 4


def test_deltas_go_on_over_the_wait() -> None:
    made = Rig(first_sight_s=1.5)
    made.export(RigSink("d", limit=10, options=OutputOptions(temporality="delta")))
    made.feed(write("c_total 1"), tick=0.0)
    made.feed(write("c_total 5", at_ms=T0_MS + 1), tick=1.0)
    made.due(1.5)
    made.feed(write("c_total 7", at_ms=T0_MS + 2), tick=2.0)
    assert [point.value for point in points_out(made)] == [4.0, 2.0]


def test_a_refused_request_leaves_nothing_and_the_family_still_waits() -> None:
    made = waiting_rig()
    with pytest.raises(Exception, match=r"truncated|past"):
        made.feed(write("c 1") + b"\x0a\x7f")
    made.due(2.0)
    made.feed(write("c 1"), tick=3.0)
    assert made.sinks[0].held == 0
    made.due(4.5)
    assert len(points_out(made)) == 1


def test_what_waits_holds_its_position_and_is_named() -> None:
    made = waiting_rig()
    made.feed(write("c 1"))
    made.feed(write("c 2", at_ms=T0_MS + 1))
    assert made.engine.offsets.low == 0
    (entry,), rest = made.engine.named()
    assert (entry.first, rest) == (0, None)
    made.due(1.5)
    (batch,) = made.sinks[0].batches
    assert batch.oldest_offset == 1, "as of when it left"
    assert made.engine.offsets.reach == 0
    (entry,), _ = made.engine.named()
    assert entry[:2] == (0, 1), "until it is delivered"
    made.flush()
    made.engine.offsets.release(1)
    assert made.engine.named() == ([], None)


@pytest.mark.parametrize("known", [False, True])
def test_a_replay_brings_what_has_waited_and_nothing_else(known: bool) -> None:
    made = waiting_rig()
    bodies = [write("c 1", "up 1"), write("c 2", at_ms=T0_MS + 1)]
    made.feed(write("up 0", types={"up": "gauge"}))
    for body in bodies:
        made.feed(body)
    named, _ = made.engine.named()
    again = waiting_rig()
    if known:  # metadata was saved behind the checkpoint
        again.feed(write(types={"c": "counter"}))
    gate = ReplayGate(lambda batch: 3, named, floor=3, ceiling=3)
    again.engine.begin_replay(gate)
    for position, body in enumerate(bodies, 1):
        again.engine.replay(body, position=position, now=1.0, tick=0.0)
    again.hand_over(again.engine.end_replay(0.0))
    again.due(2.0)
    assert [point.value for point in points_out(again)] == [1.0, 2.0]
    assert {point.name for point in points_out(again)} == {"c"}


def test_too_much_that_waits_leaves_early_that_of_the_largest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata_wait, "SAMPLES_MAX", 10)
    made = waiting_rig()
    made.feed(write("first 1", "second 1"))
    for number in range(12):
        made.feed(write(f"second {number}", at_ms=T0_MS + number))
    found = points_out(made)
    assert [point.name for point in found][:1] == ["first"]
    made.due(2.0)
    assert len(points_out(made)) == 14
    assert made.engine.first_sight.statistics().early == 2
    assert made.engine.first_sight._bytes == 0
    assert made.engine.first_sight._samples == {}


def test_many_leave_in_slices_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_wait, "SLICE", 3)
    made = waiting_rig()
    for number in range(8):
        made.feed(write(f"c {number}", at_ms=T0_MS + number))
    made.due(2.0)
    made.flush()
    assert made.sinks[0].held == 3
    assert made.engine.next_due() == 0.0, "at once"
    made.feed(write("c 8", at_ms=T0_MS + 8, types={"c": "counter"}), tick=2.0)
    for _ in range(3):
        made.due(2.0)
    made.feed(write("c 9", at_ms=T0_MS + 9), tick=3.0)
    assert [point.value for point in points_out(made)] == [float(number) for number in range(10)]
    statistics = made.engine.first_sight.statistics()
    assert (statistics.families, statistics.samples) == (0, 0)


def test_a_family_of_series_that_do_not_come_again_keeps_no_names() -> None:
    made = waiting_rig()
    made.feed(write("c_total 1", "c_sum 2"))
    family = made.engine.first_sight.family("c_total", "")
    assert family is not None
    assert family.names == {"c_total", "c_sum"}
    made.due(1.5)
    assert not family.names


def test_a_family_of_which_no_sample_came_is_let_go() -> None:
    made = waiting_rig()
    made.engine.dry_run(write("c 1"), now=1.0)
    assert made.engine.first_sight.statistics().families == 1
    made.due(2.0)
    assert made.engine.first_sight.statistics().families == 0
    assert made.engine.first_sight.settled() == []


def test_the_root_of_a_name() -> None:
    names = ["foo", "foo_total", "foo_bucket", "foo_sum", "foo_count", "foo_created", "foo_info"]
    assert {root_of(name) for name in names} == {"foo"}
    assert root_of("_total") == "_total"
