"""What is still needed, one rule at a time; tests/property/pipeline/test_deaths.py has them all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from relay.pipeline.batching import unfinished
from relay.pipeline.batching.unfinished import ReplayGate, WaitingEntry
from relay.pipeline.batching.watermark import OffsetTracker
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.metrics import decoders
from relay.pipeline.metrics.hotpath import slow_path
from relay.pipeline.metrics.series import lookup
from relay.pipeline.routing.match_set import OutputOptions
from relay.runtime.errors import OverloadedError, TooLargeError
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write import raw
from tests.kit.remote_write.sample_writes import T0_MS, histogram, write

H = histogram("h", "", (("1", 2), ("+Inf", 3)), 4.5, 3)
TYPES = {"h": "histogram"}
MANY = [f'up{{n="{number}"}} 1' for number in range(30)]


def needing_rig() -> Rig:
    """A rig with one sink."""
    made = Rig()
    made.export(RigSink("s", limit=1000))
    return made


def replay(made: Rig, *bodies: bytes, low: int = 0, named: Sequence[WaitingEntry] = ()) -> None:
    """Replay bodies from position 0 on, for a sink with this low position."""
    gate = ReplayGate(lambda batch: low, named, floor=low, ceiling=low)
    made.engine.begin_replay(gate)
    for position, body in enumerate(bodies):
        replayed = made.engine.replay(body, position=position, now=1.0, tick=0.0)
        made.hand_over(replayed.transaction.sealed)
    made.hand_over(made.engine.end_replay(0.0))


@pytest.mark.parametrize(
    ("module", "limit"),
    [
        (lookup, "NEW_SERIES_MAX"),
        (lookup, "NEW_SERIES_BYTES_MAX"),
        (decoders, "ELEMENTS_MAX"),
        (slow_path, "SLOW_PATH_ENTRIES_MAX"),
        (slow_path, "EXPANSION_BYTES_MAX"),
    ],
)
def test_no_limit_of_a_request_applies_to_a_replay(
    monkeypatch: pytest.MonkeyPatch, module: object, limit: str
) -> None:
    monkeypatch.setattr(module, limit, 10)
    pairs = [(b"__name__", b"many")]
    many = raw.series(pairs, *((float(number), T0_MS + number) for number in range(40)))
    body = write(*MANY, types={"up": "gauge"}) + many
    with pytest.raises((OverloadedError, TooLargeError)):
        needing_rig().feed(body)
    made = needing_rig()
    replay(made, body)
    made.flush()
    assert len(made.sinks[0].points()) == len(MANY) + 40


def test_a_set_behind_an_older_one_is_named_beyond_its_own_deadline() -> None:
    made = needing_rig()
    made.feed(write(*H[:2], at_ms=T0_MS + 1000, types=TYPES), tick=0.0)
    made.feed(write(*H[:2], at_ms=T0_MS), tick=5.0)
    made.due(12.0)  # the deadline of the newer one, which came first
    entries, rest = made.engine.named()
    assert [entry.first for entry in entries] == [0, 1]
    assert rest is None
    assert made.engine.low_watermark == 0


def test_what_waits_holds_back_no_sink_and_is_named() -> None:
    made = needing_rig()
    made.feed(write(*H[:2], types=TYPES))
    made.feed(write("up 1"))
    made.feed(write(*H[2:]))
    (batch,) = made.sinks[0].batches
    assert batch.oldest_offset == 1, "the number"
    (entry,), rest = made.engine.named()
    assert entry[:2] == (0, unfinished.WAITING)
    assert rest is None
    made.flush()
    made.sinks[0].sealed.clear()
    made.engine.offsets.release(1)
    made.due(10.0)
    assert batch.oldest_offset == 2, "as of when it left, not as of when it came"
    (entry,), _ = made.engine.named()
    assert entry[:2] == (0, 2), "named until it is delivered"
    made.flush()
    made.engine.offsets.release(2)
    assert made.engine.named() == ([], None)
    assert made.engine.offsets.reach == 3


def test_a_named_set_is_made_again_and_nothing_else() -> None:
    first = needing_rig()
    bodies = [write(*H[:2], "up 1", types=TYPES), write("up 2", at_ms=T0_MS + 1), write(*H[2:])]
    for body in bodies:
        first.feed(body)
    named, _ = first.engine.named()
    second = needing_rig()
    replay(second, *bodies, low=3, named=named)
    second.due(20.0)
    second.flush()
    assert [point.name for point in second.sinks[0].any_points()] == ["h"]
    third = needing_rig()
    replay(third, *bodies, low=3)
    third.due(20.0)
    third.flush()
    assert third.sinks[0].any_points() == [], "it was delivered"


def test_part_of_what_was_delivered_makes_no_point() -> None:
    made = needing_rig()
    gate = ReplayGate(lambda batch: 7, [], floor=7, ceiling=7)
    made.engine.begin_replay(gate)
    made.engine.replay(write(*H[2:], types=TYPES), position=6, now=1.0, tick=0.0)
    made.hand_over(made.engine.end_replay(0.0))
    made.feed(write(*H[2:]), tick=1.0)  # sent again, for want of an answer
    made.due(30.0)
    made.flush()
    assert made.sinks[0].any_points() == []
    assert made.engine.statistics().assembly.outcomes["late"] == 2


def test_more_than_can_be_named_holds_sinks_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "LISTED_MAX", 3)
    made = needing_rig()
    for number in range(5):
        name = f"h{number}"
        made.feed(write(f"{name}_count 1", f'{name}_bucket{{le="1"}} 1', types={name: "histogram"}))
    entries, rest = made.engine.named()
    assert [entry.first for entry in entries] == [0, 1, 2]
    assert rest == 3
    for number in range(5, 10):
        name = f"h{number}"
        made.feed(write(f"{name}_count 1", f'{name}_bucket{{le="1"}} 1', types={name: "histogram"}))
    assert made.engine.named() == ([], 0)
    made.due(100.0)
    (batch,) = made.sinks[0].batches
    assert batch.oldest_offset == 0


def test_a_sum_of_requests_is_read_from_the_first_on() -> None:
    offsets = OffsetTracker()
    for _ in range(5):
        offsets.begin()
    offsets.tie(1, 3)
    offsets.tie(0, 2)
    for position in range(3):
        offsets.release(position)
    assert (offsets.low, offsets.reach) == (3, 1)
    offsets.release(3)
    assert (offsets.low, offsets.reach) == (4, 4)


def test_ties_stay_few_and_safe() -> None:
    offsets = OffsetTracker()
    held = offsets.begin()
    for _ in range(30_000):
        position = offsets.begin()
        offsets.tie(position - 1, position)
        offsets.release(position)
    assert offsets.reach == held
    assert len(offsets._ties) <= 10_001
    assert offsets.reach_of(29_999) == 29_998
    offsets.release(held)
    assert offsets.reach == offsets.following


def test_the_engine_forgets_the_gate_when_all_is_past_it() -> None:
    engine = MetricsPipeline()
    engine.begin_replay(ReplayGate(lambda batch: 0, [], floor=0, ceiling=0))
    engine.replay(write("up 1"), position=0, now=1.0, tick=0.0)
    engine.ingest(write("up 1"), now=1.0, tick=0.0)
    engine.ingest(write("up 1"), now=1.0, tick=0.0)
    assert engine._gate is None


def test_a_crash_repeats_increments_since_the_checkpoint_only() -> None:
    bodies = [write(f"c_total {10 * n}", at_ms=T0_MS + n) for n in range(10)]

    def deltas(made: Rig) -> list[tuple[int, int, float]]:
        made.flush()
        points = made.sinks[0].any_points()
        return [(point.start_ns, point.time_ns, point.value) for point in points]

    def delta_rig() -> Rig:
        made = Rig()
        options = OutputOptions(temporality="delta")
        made.export(RigSink("d", limit=100, options=options))
        return made

    first = delta_rig()
    for body in bodies:
        first.feed(body)
    before = deltas(first)
    assert len(before) == 9
    again = delta_rig()
    replay(again, *bodies, low=8)
    assert deltas(again) == before[-2:], "the same windows, of what came since"
