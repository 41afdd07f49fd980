"""Samples that waited for metadata, and those after them, go by routes that are made once."""

from __future__ import annotations

import random

import pytest

from relay.pipeline.limits import Limits
from relay.pipeline.metrics.metadata import metadata_wait
from relay.pipeline.metrics.metadata.waiting_family import FirstSamples
from relay.pipeline.metrics.series.series import Series
from relay.pipeline.routing.match_set import OutputOptions
from tests.kit.engine_rig import EVERYTHING, NUMBERS, RAW1, Rig, RigSink, named
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.remote_write.sample_writes import T0_MS, histogram, write

DELTA = OutputOptions(temporality="delta")
PROMOTED = OutputOptions(promoted=frozenset({"a"}))
RESPONSES = (
    'a_total{a="b",job="j",instance="i"} 1',
    'a_total{a="c",job="j"} 2',
    "b 3",
    "gone StaleNaN",
    *histogram("h", 'job="j"', (("1", 2), ("+Inf", 3)), 4.5, 3),
    's{quantile="0.5"} 1',
    "s_sum 2",
    "s_count 3",
)


def waiting_rig(limits: Limits | None = None, **options: object) -> Rig:
    """A rig in which families wait for 1.5 s, with no sink."""
    return Rig(limits or Limits(), first_sight_s=1.5, **options)


def first_of(made: Rig, name: str) -> tuple[Series, FirstSamples]:
    """The only series of a name, and what it has while its family waits."""
    (series,) = (one for one in made.engine.table.kept() if one.name == name)
    (first,) = series.handlers
    assert isinstance(first, FirstSamples)
    return series, first


def leave(made: Rig, tick: float) -> None:
    """Let everything leave that is due."""
    while (due := made.engine.next_due()) is not None and due <= tick:
        made.due(tick)


def counted(made: Rig) -> list[tuple[int, int, int]]:
    """The ledgers of the sinks: samples, points, exported."""
    made.engine.router.flush_counters()
    return [(s.counter.samples, s.counter.points, s.counter.exported) for s in made.sinks]


def test_series_have_their_routes_when_the_wait_is_over() -> None:
    made = waiting_rig()
    sink = made.export(RigSink("s", limit=100))
    made.feed(write('c{a="b"} 1', "d 1"))
    made.feed(write('c{a="b"} 2', at_ms=T0_MS + 1), tick=1.0)
    series, first = first_of(made, "c")
    generation = made.engine.table.generation
    leave(made, 1.5)
    assert series.handlers == ()
    assert first.series is None, "no circle of the two is left"
    ((batches, group, _),) = series.routes
    assert batches == tuple(sink.batches)
    assert group.identity.name == "c"
    assert made.engine.table.generation == generation, "no other series is looked at again"
    assert made.engine.resolver.is_fresh(series)
    made.feed(write('c{a="b"} 3', at_ms=T0_MS + 2), tick=2.0)
    made.flush()
    assert [p.value for p in sink.any_points() if p.name == "c"] == [1.0, 2.0, 3.0]
    assert counted(made) == [(4, 4, 4)]


def settled(made: Rig) -> list[list[AnyPoint]]:
    """All that has left, sorted."""
    made.flush()
    return [sorted(sink.any_points(), key=repr) for sink in made.sinks]


@pytest.mark.parametrize("shards", [1, 3])
def test_what_waited_is_what_would_have_gone_at_once(shards: int) -> None:
    kinds = {"a_total": "counter", "b": "gauge", "gone": "gauge", "h": "histogram", "s": "summary"}
    rigs = []
    for wait_s in (0.0, 1.5):
        made = Rig(Limits(), first_sight_s=wait_s, assembly_wait_s=1.0)
        made.export(
            RigSink("plain", limit=5, shards=shards),
            RigSink("promoted", limit=100, options=PROMOTED),
            RigSink("numbers", limit=100, options=NUMBERS),
            RigSink("delta", limit=100, options=DELTA),
            RigSink("twin", limit=100, shards=2),
        )
        made.export(RigSink("other", limit=3), exporter="y", sources={"b": named("b")})
        if not wait_s:
            made.feed(write(types=kinds))
        rigs.append(made)
    for number in range(4):
        body = write(*RESPONSES, at_ms=T0_MS + number)
        for made in rigs:
            made.feed(body, tick=0.1 * number)
    for made in rigs:
        made.feed(write(types=kinds), tick=0.5)
        for tick in (1.0, 30.0):
            leave(made, tick)
        made.feed(write(*RESPONSES, at_ms=T0_MS + 9), tick=31.0)
        leave(made, 60.0)
    direct, waited = rigs
    assert settled(waited) == settled(direct)
    assert counted(waited) == counted(direct)
    assert waited.engine.first_sight.statistics().samples == 0


def test_samples_of_a_series_never_overtake_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_wait, "SLICE", 3)
    draw = random.Random(7)
    made = waiting_rig()
    sink = made.export(RigSink("s", limit=4))
    at = 0
    for _ in range(60):
        lines = []
        for _ in range(draw.randint(1, 4)):
            at += 1
            lines.append(f'{draw.choice("cd")}{{a="{draw.randint(0, 3)}"}} {at} @{T0_MS + at}')
        made.feed(write(*lines), tick=0.1 * at)
        for _ in range(draw.randint(0, 2)):
            made.due(0.1 * at)
    leave(made, 0.1 * at + 2.0)
    made.flush()
    found: dict[tuple[str, object], list[float]] = {}
    for point in sink.any_points():
        assert isinstance(point.value, float)
        found.setdefault((point.name, repr(point.attributes)), []).append(point.value)
    assert sum(map(len, found.values())) == at
    assert all(values == sorted(values) for values in found.values())
    assert counted(made) == [(at, at, at)]


def test_exporters_that_change_meanwhile_get_what_leaves_and_what_follows() -> None:
    made = waiting_rig()
    sink = made.export(RigSink("s", limit=100))
    made.feed(write("c 1"))
    late = made.export(RigSink("late", limit=100), exporter="late")
    leave(made, 1.5)
    (series,) = made.engine.table.kept()
    assert not made.engine.resolver.is_fresh(series) or not series.handlers
    made.feed(write("c 2", at_ms=T0_MS + 1), tick=2.0)
    made.flush()
    assert [point.value for point in sink.any_points()] == [1.0, 2.0]
    assert [point.value for point in late.any_points()] == [1.0, 2.0]


def test_a_series_that_is_forgotten_meanwhile_leaves_all_the_same() -> None:
    made = waiting_rig(Limits(series_max=1))
    sink = made.export(RigSink("s", limit=100))
    made.feed(write("c 1"))
    made.feed(write("d 2"), tick=0.1)
    (series,) = made.engine.table.kept()
    assert series.name == "d"
    leave(made, 2.0)
    made.feed(write("c 3", at_ms=T0_MS + 1), tick=2.0)
    made.flush()
    assert sorted((p.name, p.value) for p in sink.any_points()) == [
        ("c", 1.0),
        ("c", 3.0),
        ("d", 2.0),
    ]


def test_metadata_between_two_slices_is_what_the_series_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata_wait, "SLICE", 1)
    made = waiting_rig()
    sink = made.export(RigSink("s", limit=100))
    made.feed(write('c{a="1"} 1', 'c{a="2"} 2'))
    made.due(1.5)  # one of the two has left, as a gauge
    made.feed(write(types={"c": "counter"}), tick=1.6)
    leave(made, 1.7)
    made.feed(write('c{a="1"} 3', 'c{a="2"} 4', at_ms=T0_MS + 1), tick=1.8)
    made.flush()
    found = [(p.value, p.identity.kind) for p in sink.any_points()]
    assert sorted(found) == [(1.0, "gauge"), (2.0, "sum"), (3.0, "sum"), (4.0, "sum")]


def test_sinks_that_take_series_as_they_came_keep_their_routes() -> None:
    made = waiting_rig()
    sink = made.export(RigSink("s", limit=100), RigSink("raw", limit=100, options=RAW1))
    made.feed(write("c 1"))
    assert made.sinks[1].held == 1, "whatever its type"
    leave(made, 1.5)
    made.feed(write("c 2", at_ms=T0_MS + 1), tick=2.0)
    made.flush()
    assert [point.value for point in sink.any_points()] == [1.0, 2.0]
    assert sum(batch.count for batch in made.sinks[1].sealed) == 2


def test_many_families_end_their_wait_in_rounds() -> None:
    made = waiting_rig()
    made.export(RigSink("s", limit=10_000))
    names = [f"family{number}" for number in range(1_000)]
    made.feed(write(*(f"{name} 1" for name in names)))
    rounds = 0
    while made.engine.next_due() is not None and made.engine.first_sight.statistics().families:
        made.due(1.5)
        rounds += 1
    most = metadata_wait.SLICE / metadata_wait.FAMILY_STEPS
    assert rounds >= len(names) / most
    leave(made, 1.5)
    assert not any(series.handlers for series in made.engine.table.kept())
    assert counted(made) == [(1_000, 1_000, 1_000)]


def test_a_request_lets_more_leave_than_it_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_wait, "SLICE", 10)
    made = waiting_rig()
    made.export(RigSink("s", limit=10_000))
    for number in range(100):
        made.feed(write(f"c {number}", at_ms=T0_MS + number))
    made.due(1.5)
    assert made.engine.first_sight.statistics().samples == 90
    made.feed(write(*(f"c {n} @{T0_MS + n}" for n in range(200, 205))), tick=1.5)
    assert made.engine.first_sight.statistics().samples == 85
    made.feed(write("other 1"), tick=1.5)
    assert made.engine.first_sight.statistics().samples == 86, "it brought none of those"


def test_a_request_of_many_samples_lets_no_more_leave_than_its_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata_wait, "SLICE", 10)
    monkeypatch.setattr(metadata_wait, "REQUEST_STEPS", 20)
    monkeypatch.setattr(metadata_wait, "SAMPLES_MAX", 150)
    made = waiting_rig()
    made.export(RigSink("s", limit=10_000))
    made.feed(write(*(f"c {n} @{T0_MS + n}" for n in range(100))))
    made.due(1.5)
    assert made.engine.first_sight.statistics().samples == 90
    made.feed(write(*(f"c {n} @{T0_MS + n}" for n in range(100, 130))), tick=1.5)
    assert made.engine.first_sight.statistics().samples == 90 + 30 - 20
    for number in range(10):
        first = T0_MS + 1000 * (number + 1)
        made.feed(write(*(f"c {n} @{first + n}" for n in range(30))), tick=1.5)
        assert made.engine.first_sight.statistics().samples <= 150
    leave(made, 2.0)
    assert counted(made) == [(430, 430, 430)]


def test_the_counters_of_batches_are_those_of_their_sinks() -> None:
    made = Rig()
    sinks = [RigSink("one", limit=10, shards=2), RigSink("two", limit=10)]
    made.export(*sinks, sources={"all": EVERYTHING, "again": named("c")})
    made.feed(write("c 1"))
    (series,) = made.engine.table.kept()
    ((batches, _, _),) = series.routes
    counters = series.match_set.counters_of(batches)
    assert [batch.sink.name for batch in batches] == [counter.sink for counter in counters]
    assert len(counters) == 4


def test_a_full_table_grows_no_further_while_a_family_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_wait, "SAMPLES_MAX", 50)
    made = waiting_rig()
    made.export(RigSink("s", limit=10_000))
    made.feed(write(*(f'large{{a="{number}"}} 1' for number in range(50))))
    for number in range(60):
        made.feed(write(f"family{number} 1"))
        assert made.engine.first_sight.statistics().samples <= 50
    leave(made, 2.0)
    assert made.engine.first_sight._bytes == 0
    assert counted(made) == [(110, 110, 110)]
