"""A request processed once more: under its old position, for those who still want it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from relay.pipeline.batching.unfinished import ReplayGate, WaitingEntry
from relay.runtime.errors import DecodeError
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write import raw


def up(number: int, value: float, timestamp_ms: int) -> bytes:
    """One series of a metric with one sample."""
    pairs = [(b"__name__", b"up"), (b"n", b"%d" % number)]
    return raw.series(pairs, (value, timestamp_ms))


BODY = b"".join(up(n, float(n), 1000) for n in range(5))


def begin(made: Rig, *late: RigSink, low: int, named: Sequence[WaitingEntry] = ()) -> None:
    """Replay for these sinks from the start, for all others from ``low`` on."""
    floor = 0 if late else low
    gate = ReplayGate(
        lambda batch: 0 if batch.sink in late else low, named, floor=floor, ceiling=low
    )
    made.engine.begin_replay(gate)


def two_sinks_rig(*, limit: int = 100) -> tuple[Rig, RigSink, RigSink]:
    made = Rig()
    first, second = RigSink("first", limit=limit), RigSink("second", limit=limit)
    made.export(first, second)
    return made, first, second


def test_a_replayed_request_keeps_its_position_and_its_time() -> None:
    made, first, _ = two_sinks_rig()
    replayed = made.engine.replay(BODY, position=40, now=123.0, tick=7.0)
    assert replayed.transaction.request == 40
    assert replayed.withheld == []
    (batch,) = first.batches
    assert (batch.count, batch.oldest_offset, batch.opened_at) == (5, 40, 123.0)
    assert made.engine.offsets.low == 40
    assert made.feed(BODY).request == 41
    made.flush()
    assert made.engine.schedule.next_due() is None


@pytest.mark.parametrize("limit", [2, 5, 100])
def test_who_has_had_it_gets_nothing(limit: int) -> None:
    made, first, second = two_sinks_rig(limit=limit)
    begin(made, second, low=1)
    replayed = made.engine.replay(BODY, position=0, now=1.0, tick=0.0)
    made.hand_over(replayed.transaction.sealed)
    assert replayed.withheld == [(first.batches[0], 5)]
    assert first.held == 0
    assert second.held == 5
    made.engine.router.flush_counters()
    assert (first.counter.points, second.counter.points) == (5, 5), "the owner takes them back"


def test_what_is_open_already_stays_when_a_request_is_withheld() -> None:
    made, first, second = two_sinks_rig(limit=4)
    begin(made, low=0)
    made.engine.replay(up(9, 9.0, 500), position=3, now=1.0, tick=0.0)
    begin(made, first, low=6)
    replayed = made.engine.replay(BODY, position=5, now=2.0, tick=0.0)
    made.hand_over(replayed.transaction.sealed)
    assert replayed.withheld == [(second.batches[0], 5)]
    assert second.batches[0].count == 1
    assert second.batches[0].oldest_offset == 3
    assert first.held == 6
    assert made.engine.offsets.low == 3


def test_a_request_that_cannot_be_replayed_changes_nothing() -> None:
    made, first, _ = two_sinks_rig()
    with pytest.raises(DecodeError):
        made.engine.replay(BODY + b"\x0a\xff", position=8, now=1.0, tick=0.0)
    assert first.held == 0
    offsets = made.engine.offsets.statistics()
    assert (offsets.low, offsets.next, offsets.holds) == (8, 8, 0)


def test_a_probe_says_what_a_request_holds_and_takes_nothing() -> None:
    made, first, _ = two_sinks_rig(limit=3)
    made.feed(BODY)
    before = made.snapshot()
    faulty = up(0, 1.0, 2000) + raw.series([], (1.0, 2000))
    probed = made.engine.dry_run(faulty, now=5.0)
    assert probed.taken.samples == 1
    assert sum(probed.dropped.values()) == 1
    assert len(probed.examples) == 1
    assert probed.wanted
    assert made.snapshot() == before
    with pytest.raises(DecodeError):
        made.engine.dry_run(faulty + b"\x0a\xff", now=5.0)
    assert made.snapshot() == before
    # What was probed is taken like any other request.
    made.feed(faulty, tick=1.0)
    made.flush()
    assert len(first.points()) == 6


def test_what_nobody_wants_is_told() -> None:
    made = Rig()
    assert not made.engine.dry_run(BODY, now=1.0).wanted
    assert not made.feed(BODY).has_effect
