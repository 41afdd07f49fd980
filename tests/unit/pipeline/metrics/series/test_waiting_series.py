"""A series that waits for metadata is known once, and nothing of its wait is kept."""

from __future__ import annotations

import gc

import pytest

from relay.pipeline.limits import Limits
from relay.pipeline.metrics.metadata import metadata_wait
from relay.pipeline.metrics.metadata.waiting_family import FirstSamples, WaitingFamily
from tests.kit.engine_rig import EVERYTHING, Rig, RigSink, named
from tests.kit.remote_write.sample_writes import T0_MS, TYPES, write
from tests.kit.remote_write.symbolic import Request2

TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c"}


def waiting_rig(*sinks: RigSink) -> Rig:
    """A rig in which families wait for 1.5 s, with these sinks."""
    made = Rig(Limits(), first_sight_s=1.5)
    made.export(*sinks)
    return made


def family_of(made: Rig, name: str) -> WaitingFamily:
    """The family that a series of this name waits with."""
    family = made.engine.first_sight.family(name, "")
    assert family is not None
    return family


def leave(made: Rig, tick: float) -> None:
    """Let everything leave that is due."""
    while (due := made.engine.next_due()) is not None and due <= tick:
        made.due(tick)


def exemplar_of(name: str, at: int, *, is_alone: bool = False, kind: str = "") -> bytes:
    """A 2.0 request of an exemplar of a series, and its sample, unless it comes alone."""
    request = Request2()
    samples = () if is_alone else ((1.0 + at, T0_MS + at),)
    metadata = (TYPES[kind], "", "") if kind else None
    series = request.series({"__name__": name}, *samples, metadata=metadata)
    request.exemplar(series, TRACE, 0.5, T0_MS + at)
    return request.body


def handlers_alive() -> list[FirstSamples]:
    """Every handler of a series that waits, in this process."""
    return [one for one in gc.get_objects() if isinstance(one, FirstSamples)]


def test_a_series_that_waits_is_known_once_however_often_exporters_change() -> None:
    made = waiting_rig(RigSink("s", limit=100))
    made.feed(write("c 1"))
    for number in range(50):
        name = f"late{number}"
        made.export(RigSink(name, limit=100), exporter=name)
        made.feed(write("c 1", at_ms=T0_MS + 1 + number), tick=0.01 * number)
    family = family_of(made, "c")
    assert len(family.members) == 1
    wait = made.engine.first_sight
    expected = metadata_wait.SERIES_BYTES + 51 * metadata_wait.SAMPLE_BYTES
    assert family.bytes == wait._bytes == expected
    leave(made, 1.5)
    (series,) = made.engine.table.kept()
    assert not series.handlers
    assert series.generation == made.engine.table.generation, "it is not resolved anew"
    assert wait._bytes == 0


def test_a_series_that_no_source_takes_for_a_while_is_known_once() -> None:
    made = waiting_rig(RigSink("s", limit=100))
    targets = [made.sinks[0].target]
    for number in range(20):
        made.feed(write("c 1", at_ms=T0_MS + number), tick=0.01 * number)
        chosen = EVERYTHING if number % 2 else named("other")
        made.engine.replace_exporter("x", [("all", chosen, targets)])
    made.feed(write("c 1", at_ms=T0_MS + 20), tick=0.3)
    assert len(family_of(made, "c").members) == 1
    leave(made, 2.0)
    made.flush()
    assert made.sinks[0].held == 11, "while it was taken"


def test_a_removed_sink_gets_no_row_for_what_still_waits() -> None:
    made = waiting_rig(RigSink("s", limit=100))
    made.feed(write("c 1"))
    made.engine.replace_exporter("x", [])
    made.engine.drops.forget(made.sinks[0].target.counter)
    leave(made, 2.0)
    assert not made.engine.drops.rows()


def test_a_series_with_an_exemplar_that_came_alone_is_known_once() -> None:
    made = waiting_rig(RigSink("s", limit=100))
    for number in range(6):
        for is_alone in (False, True):
            body = exemplar_of("c", number, is_alone=is_alone)
            made.feed(body, tick=0.01, protocol="remote_write_v2")
        made.export(RigSink(f"late{number}", limit=100), exporter=f"late{number}")
    made.feed(write("c_total 1"), tick=0.02)  # of no type either: the family goes on waiting
    made.feed(exemplar_of("c", 6, kind="gauge"), tick=0.02, protocol="remote_write_v2")
    assert len(family_of(made, "c").members) == 2
    assert made.sinks[0].held == 0, "nothing overtakes what waits"
    leave(made, 2.0)
    made.flush()
    found = [point.value for point in made.sinks[0].any_points() if point.name == "c"]
    assert found == [1.0 + number for number in range(7)]


def test_a_type_that_a_series_declares_while_it_leaves_is_that_of_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata_wait, "SLICE", 1)
    made = waiting_rig(RigSink("s", limit=100))
    for number, kind in enumerate(("", "", "", "counter", "gauge")):
        request = Request2()
        metadata = (TYPES[kind], "", "") if kind else None
        request.series({"__name__": "q"}, (float(number), T0_MS + number), metadata=metadata)
        made.feed(request.body, protocol="remote_write_v2", tick=0.1 * number)
        if kind == "counter":
            assert made.engine.first_sight.statistics().samples == 3, "one has left"
    leave(made, 1.0)
    made.flush()
    assert [(point.value, point.identity.kind) for point in made.sinks[0].any_points()] == [
        (0.0, "sum"),
        (1.0, "gauge"),
        (2.0, "gauge"),
        (3.0, "gauge"),
        (4.0, "gauge"),
    ]


def test_nothing_of_a_series_that_waited_is_kept() -> None:
    gc.collect()
    before = handlers_alive()
    made = waiting_rig(RigSink("s", limit=1000))
    made.feed(write(*(f'c{{a="{number}"}} 1' for number in range(20)), "d 1"))
    assert len(handlers_alive()) == len(before) + 21
    leave(made, 1.5)
    assert len(handlers_alive()) == len(before)
    assert not made.engine.first_sight._ended


def test_a_series_that_is_to_be_resolved_anew_keeps_nothing_that_was_made_for_it() -> None:
    made = waiting_rig(RigSink("s", limit=1000))
    made.feed(write("c 1"))
    (first,) = family_of(made, "c").members.values()
    leave(made, 1.4)
    made.export(RigSink("late", limit=1000), exporter="late")
    leave(made, 1.5)
    (series,) = made.engine.table.kept()
    assert series.handlers == (first,), "until it is seen again"
    assert (first._handlers, first.made, first.series) == (None, None, None)
    assert not first.prepared
