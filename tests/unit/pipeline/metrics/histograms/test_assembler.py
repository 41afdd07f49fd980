"""The rules of assembly one by one: order, deadlines, staleness, sources, memory."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from relay.codec.remote_write.label_parser import LabelParser
from relay.pipeline.limits import Limits
from relay.pipeline.metrics.histograms.group import MEMBERS_MAX, MISSES_MAX, SETS_MAX
from relay.pipeline.routing.match_set import OutputOptions
from relay.selector.matchers import NAME, Matcher, Selector
from tests.kit.engine_rig import Rig, RigSink, named
from tests.kit.oracle.any_points import STALE_FLAG, bits
from tests.kit.remote_write.sample_writes import T0_MS, T0_NS, histogram, write

BUCKETS = (("1", 2), ("+Inf", 3))
H = histogram("h", "", BUCKETS, 4.5, 3)
TYPES = {"h": "histogram"}
SECOND_NS = 1_000_000_000
POINT = (3, bits(4.5), (1.0,), (2, 1))


def learned(limits: Limits | None = None, **options: object) -> Rig:
    """A rig with one sink that has seen a first ``h`` and knows what to expect of it."""
    rig = Rig(limits, **options)
    rig.export(RigSink("s", limit=100_000))
    rig.feed(write(*H, at_ms=T0_MS - 1000, types=TYPES))
    rig.due(10.0)
    rig.flush()
    rig.sinks[0].sealed.clear()
    return rig


def assembly_outcomes(rig: Rig) -> dict[str, int]:
    """What became of samples, without those that teach the rig."""
    found = dict(rig.engine.statistics().assembly.outcomes)
    found["assembled"] -= len(H)
    return {name: count for name, count in found.items() if count}


def times(rig: Rig) -> list[int]:
    """Seconds behind T0 of the points that came out, in order."""
    rig.flush()
    return [(point.time_ns - T0_NS) // SECOND_NS for point in rig.sinks[0].any_points()]


def test_a_set_does_not_overtake_an_older_one_that_waits() -> None:
    rig = learned()
    rig.feed(write(H[0], H[2], at_ms=T0_MS), tick=20.0)
    rig.feed(write(*H, at_ms=T0_MS + 1000), tick=21.0)
    assert rig.sinks[0].held == 0
    rig.due(29.9)
    assert rig.sinks[0].held == 0
    rig.due(30.0)
    assert rig.sinks[0].held == 1, "the first has neither a count nor all of its buckets"
    assert times(rig) == [1]
    assert assembly_outcomes(rig) == {"assembled": 4, "no_count": 2}


def test_what_comes_whole_but_late_is_taken() -> None:
    rig = learned()
    rig.feed(write(*H, at_ms=T0_MS + 1000))
    rig.feed(write(*H, at_ms=T0_MS))
    assert times(rig) == [1, 0]


def test_what_is_older_than_all_that_is_remembered_is_late() -> None:
    rig = learned()
    for second in range(1, 40):
        rig.feed(write(*H, at_ms=T0_MS + 1000 * second))
    rig.feed(write(*H, at_ms=T0_MS))
    assert assembly_outcomes(rig) == {"assembled": 39 * 4, "late": 4}


def test_a_repeated_request_makes_no_second_point() -> None:
    rig = learned()
    for _ in range(2):
        rig.feed(write(*H))
    assert times(rig) == [0]
    assert assembly_outcomes(rig) == {"assembled": 4, "late": 4}


def test_a_member_that_contradicts_itself_counts_as_first_given() -> None:
    rig = learned()
    rig.feed(write(H[0], H[0], 'h_bucket{le="1"} 1'))
    rig.feed(write(*H[1:]))
    rig.flush()
    (point,) = rig.sinks[0].any_points()
    assert point.data == POINT
    assert assembly_outcomes(rig) == {"assembled": 4, "duplicate": 1, "conflict": 1}


def test_a_member_that_stays_away_is_not_waited_for_for_ever() -> None:
    rig = learned()
    rest = [line for line in H if 'le="1"' not in line]
    for second in range(MISSES_MAX + 1):
        tick = 20.0 + 20 * second
        rig.feed(write(*rest, at_ms=T0_MS + 1000 * second), tick=tick)
        assert rig.sinks[0].held == second + (second == MISSES_MAX)
        rig.due(tick + 10)
    rig.feed(write(*H, at_ms=T0_MS + 9000), tick=200.0)
    rig.feed(write(*rest, at_ms=T0_MS + 10_000), tick=201.0)
    assert times(rig) == [0, 1, 2, 3, 9]
    assert rig.engine.statistics().assembly.waiting_samples == 3, "it is expected again"


def test_a_member_that_ends_is_absent_and_not_expected() -> None:
    rig = learned()
    rest = [line for line in H if 'le="1"' not in line]
    rig.feed(write('h_bucket{le="1"} StaleNaN', *rest))
    rig.feed(write(*rest, at_ms=T0_MS + 1000))
    rig.flush()
    first, second = rig.sinks[0].any_points()
    assert first.data == second.data == (3, bits(4.5), (), (3,))


def test_a_target_that_comes_back_goes_on_at_once() -> None:
    rig = learned()
    stale = [f"{line.rpartition(' ')[0]} StaleNaN" for line in H]
    rig.feed(write(*stale))
    rig.feed(write(*H, at_ms=T0_MS + 1000))
    rig.flush()
    gone, back = rig.sinks[0].any_points()
    assert (gone.flags, back.flags, back.data) == (STALE_FLAG, 0, POINT)


def test_learning_of_a_type_stops_the_numbers_and_is_counted() -> None:
    rig = Rig(infer_types=False)
    rig.export(RigSink("s", limit=1000))
    rig.feed(write(*H))
    rig.feed(write(types=TYPES))
    rig.feed(write(*H, at_ms=T0_MS + 1000), tick=1.0)
    rig.due(100.0)
    rig.flush()
    kinds = [point.identity.kind for point in rig.sinks[0].any_points()]
    assert kinds == ["gauge"] * 4 + ["histogram"]
    assert rig.engine.statistics().types.retyped == 3


def test_a_bound_that_a_source_does_not_take_ends_the_whole() -> None:
    """A selector on ``le`` that the probes pass, and a member does not."""
    rig = Rig()
    no_half = Selector(((Matcher(NAME, "=~", "h_.*"), Matcher("le", "!=", "0.5")),))
    rig.export(RigSink("part", limit=1000), sources={"part": no_half})
    rig.export(RigSink("all", limit=1000, exporter="y"), exporter="y")
    lines = histogram("h", "", (("0.5", 1), *BUCKETS), 4.5, 3)
    for second in range(2):
        rig.feed(write(*lines, at_ms=T0_MS + 1000 * second, types=TYPES), tick=second)
    rig.due(100.0)
    rig.flush()
    part, whole = (sink.any_points() for sink in rig.sinks)
    later = [point for point in part if point.time_ns > T0_NS]
    assert {point.name for point in later} == {"h_bucket", "h_count", "h_sum"}
    assert ("le", "0.5") not in {pair for point in part for pair in point.attributes}
    assert [len(point.data[2]) for point in whole] == [2, 2]


def test_a_sink_that_takes_no_summaries_gets_their_members() -> None:
    rig = Rig()
    options = OutputOptions("delta", unsupported=frozenset({"summary"}))
    rig.export(RigSink("s", limit=1000, options=options), RigSink("t", limit=1000))
    lines = ('rpc{quantile="0.5"} 1.5', "rpc_sum 9.5", "rpc_count 7")
    for second in range(2):
        rig.feed(write(*lines, at_ms=T0_MS + 1000 * second, types={"rpc": "summary"}))
    rig.due(100.0)
    rig.flush()
    without, with_summaries = (sink.any_points() for sink in rig.sinks)
    found = {(point.name, point.identity.kind, point.identity.temporality) for point in without}
    assert found == {
        ("rpc", "gauge", ""),
        ("rpc_sum", "sum", "delta"),
        ("rpc_count", "sum", "delta"),
    }
    assert [point.identity.kind for point in with_summaries] == ["summary"] * 2


def test_removing_an_exporter_stops_its_histograms_and_keeps_others() -> None:
    rig = learned()
    rig.export(RigSink("other", limit=1000, exporter="y"), exporter="y", sources={"h": named("h")})
    rig.feed(write(*H[1:]))
    rig.engine.remove_exporter("x")
    rig.feed(write(*H[:1]))
    rig.hand_over(rig.engine.finish(1000.0))
    assert rig.sinks[0].held == 0
    assert assembly_outcomes(rig) == {"unwanted": 3}


def test_positions_are_held_until_the_point_is_in_its_batch() -> None:
    rig = learned()
    before = rig.engine.offsets.statistics().holds
    rig.feed(write(*H[:2]), tick=20.0)
    assert rig.engine.offsets.statistics().holds == before + 1
    rig.feed(write("up 1"), tick=20.0)
    rig.feed(write(*H[2:]), tick=20.0)
    assert rig.sinks[0].batches[0].oldest_offset == 2, "sinks are not held back by what has waited"
    assert rig.engine.offsets.reach_of(2) == 1, (
        "a replay reads from the histogram's first sample on"
    )
    assert rig.engine.offsets.statistics().holds == before + 1


def test_too_many_members_are_refused() -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=100_000))
    bounds = [(str(n), float(n)) for n in range(MEMBERS_MAX + 10)]
    rig.feed(write(*histogram("h", "", bounds, 1.0, 600.0), types=TYPES))
    rig.hand_over(rig.engine.finish(100.0))
    found = rig.engine.statistics().assembly.outcomes
    assert found["too_many_members"] == 12


def test_too_many_times_make_the_oldest_leave() -> None:
    rig = learned()
    for second in range(SETS_MAX + MISSES_MAX - 1):
        rig.feed(write(*H[1:], at_ms=T0_MS + 1000 * second), tick=20.0)
    assert rig.sinks[0].held == MISSES_MAX - 1
    assert rig.engine.statistics().assembly.waiting_samples == 3 * SETS_MAX


def test_families_are_bounded_and_the_forgotten_are_sent() -> None:
    rig = Rig(Limits(histograms_max=20))
    rig.export(RigSink("s", limit=100_000))
    for n in range(100):
        rig.feed(write(*histogram("h", f'n="{n}"', BUCKETS, 4.5, 3), types=TYPES))
        assert rig.engine.statistics().assembly.families <= 21
    rig.hand_over(rig.engine.finish(100.0))
    assert rig.sinks[0].held == 100
    assert rig.engine.statistics().assembly.waiting_samples == 0


def test_waiting_samples_are_bounded() -> None:
    rig = Rig(Limits(series_max=1000))
    rig.export(RigSink("s", limit=100_000))
    for n in range(1000):
        rig.feed(write(*histogram("h", f'n="{n}"', BUCKETS, 4.5, 3), types=TYPES))
        assert rig.engine.statistics().assembly.waiting_samples <= 1004
    rig.hand_over(rig.engine.finish(100.0))
    assert rig.sinks[0].held == 1000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bounds", "families", "never complete", "metadata"])
def test_memory_is_bounded_whatever_comes(kind: str) -> None:
    """What is held after ten times the bound is what was held at the bound, give or take."""
    limits = Limits(series_max=1_000, families_max=200, histograms_max=100)
    rig = Rig(limits)
    rig.export(RigSink("s", limit=100))

    def body(n: int) -> bytes:
        if kind == "bounds":
            return write(*(f'h_bucket{{le="{n}.{m}"}} 1' for m in range(100)), "h_count 1")
        if kind == "families":
            return write(*(f'h{n}_{m}_bucket{{le="1"}} 1' for m in range(100)))
        if kind == "never complete":
            lines = (f'h_bucket{{le="1",m="{m}"}} 1' for m in range(100))
            return write(*lines, at_ms=T0_MS + 1000 * n)
        types = {f"f{n}_{m}": "counter" for m in range(100)}
        return write("up 1", types=types)

    def held_bytes(first: int, last: int) -> int:
        for n in range(first, last):
            rig.feed(body(n), tick=0.001 * n)
            rig.sinks[0].forget()
        # The memo of label texts has a bound of its own, in megabytes.
        rig.engine.lookup.labels = LabelParser(labels_max=128, bytes_max=16 * 1024)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        at_bound = held_bytes(0, 30)
        later = held_bytes(30, 80)
    finally:
        tracemalloc.stop()
    assert later < 1.3 * at_bound + 200_000, (at_bound, later)
