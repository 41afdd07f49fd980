"""Samples that wait for metadata count for the sinks that get them, whatever changes meanwhile."""

from __future__ import annotations

import pytest

from relay.pipeline.limits import Limits
from relay.pipeline.metrics.metadata import metadata_wait
from tests.kit.engine_rig import EVERYTHING, Rig, RigSink, named
from tests.kit.remote_write.sample_writes import T0_MS, write


def waiting_rig(*sinks: RigSink) -> Rig:
    """A rig in which families wait for 1.5 s, with these sinks."""
    made = Rig(Limits(), first_sight_s=1.5)
    made.export(*sinks)
    return made


def leave(made: Rig, tick: float) -> None:
    """Let everything leave that is due."""
    while (due := made.engine.next_due()) is not None and due <= tick:
        made.due(tick)


def ledger(made: Rig, sink: RigSink) -> tuple[int, int, int]:
    """Samples that a sink was matched for, those exported, and those dropped with a reason."""
    drops = made.engine.statistics().drops
    assert {drop.reason for drop in drops} <= {"source_changed"}
    dropped = sum(drop.samples for drop in drops if drop.sink == sink.name)
    return sink.counter.samples, sink.counter.exported, dropped


def test_samples_that_wait_count_for_the_sinks_that_get_them() -> None:
    first, late = RigSink("s", limit=100), RigSink("late", limit=100, exporter="late")
    made = waiting_rig(first)
    made.feed(write("c 1"))
    made.export(late, exporter="late")
    made.feed(write("c 2", at_ms=T0_MS + 1), tick=0.5)
    made.feed(write("d 1"), tick=0.5)
    leave(made, 2.0)
    assert ledger(made, first) == ledger(made, late) == (3, 3, 0)


@pytest.mark.parametrize("is_seen_again", [False, True])
def test_samples_that_wait_are_dropped_for_sinks_that_get_them_no_more(
    is_seen_again: bool,
) -> None:
    first, other = RigSink("s", limit=100), RigSink("t", limit=100, exporter="y")
    made = waiting_rig(first)
    made.export(other, exporter="y")
    made.feed(write("c 1", "d 2"))
    made.engine.replace_exporter("x", [("all", named("d"), [first.target])])
    if is_seen_again:
        made.feed(write("c 3", at_ms=T0_MS + 1), tick=0.5)
    leave(made, 2.0)
    assert ledger(made, first) == (2, 1, 1)
    assert ledger(made, other) == (2 + is_seen_again, 2 + is_seen_again, 0)
    (drop,) = made.engine.statistics().drops
    assert (drop.sink, drop.family, drop.reason) == ("s", "c", "source_changed")


def test_samples_that_no_source_takes_any_more_are_dropped_with_a_reason() -> None:
    sink = RigSink("s", limit=100)
    made = waiting_rig(sink)
    made.feed(write("c 1", "c 2"))
    made.engine.replace_exporter("x", [("all", named("other"), [sink.target])])
    leave(made, 2.0)
    assert ledger(made, sink) == (2, 0, 2)


def test_sinks_that_change_between_two_slices_count_what_they_get(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata_wait, "SLICE", 2)
    first, late = RigSink("s", limit=100), RigSink("late", limit=100, exporter="late")
    made = waiting_rig(first)
    for number in range(5):
        made.feed(write(f"c {number}", at_ms=T0_MS + number))
    made.due(1.5)  # two have left
    made.export(late, exporter="late")
    made.feed(write("c 5", at_ms=T0_MS + 5), tick=1.5)
    leave(made, 2.0)
    assert ledger(made, first) == (6, 6, 0)
    assert ledger(made, late) == (4, 4, 0)


def test_a_source_that_takes_a_series_again_counts_what_still_waits() -> None:
    sink = RigSink("s", limit=100)
    made = waiting_rig(sink)
    for number in range(4):
        made.feed(write("c 1", at_ms=T0_MS + number), tick=0.1 * number)
        chosen = EVERYTHING if number % 2 else named("other")
        made.engine.replace_exporter("x", [("all", chosen, [sink.target])])
    leave(made, 2.0)
    assert ledger(made, sink) == (2, 2, 0)
