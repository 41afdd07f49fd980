"""What changes while families leave their wait for metadata, in more than one round."""

from __future__ import annotations

import pytest

from relay.pipeline.limits import Limits
from relay.pipeline.metrics.metadata import metadata_wait
from relay.selector.matchers import Matcher, Selector
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write.sample_writes import T0_MS, write

BAD_SERIES = b"\x0a\x03\x12\x01\xff"
"""A series that is found to be undecodable when it is decoded, not when metadata is read ahead."""


def waiting_rig(**options: object) -> Rig:
    return Rig(Limits(), first_sight_s=1.5, **options)


def test_what_was_told_of_a_family_that_ended_ends_no_other() -> None:
    made = waiting_rig()
    sink = made.export(RigSink("s", limit=1000))
    with pytest.raises(Exception, match=r"truncated|past"):
        made.feed(write('foo_bucket{x="1"} 1', 'foo{__type__="gauge"} 1') + BAD_SERIES)
    made.due(2.0)
    made.feed(write('foo_bucket{x="1"} 2'), tick=3.0)
    made.due(4.5)
    made.flush()
    assert [point.value for point in sink.any_points()] == [2.0]


def test_what_came_after_the_last_one_left_goes_to_no_removed_sink() -> None:
    made = waiting_rig()
    sink = made.export(RigSink("s", limit=100_000))
    made.feed(write(*(f'c{{a="{number}"}} 1' for number in range(1_000))))
    made.due(1.5)  # 200 have left
    made.feed(write('c{a="0"} 2', at_ms=T0_MS + 1), tick=1.5)  # behind the others
    made.flush()
    made.engine.remove_exporter("x")
    for _ in range(20):
        made.due(1.6)
    assert sum(batch.count for batch in sink.batches) == 0


def test_a_family_that_is_taken_apart_while_it_leaves_loses_nothing() -> None:
    made = waiting_rig(assembly_wait_s=1.0)
    most = Selector(((Matcher("le", "!=", "1"),),))
    sink = made.export(RigSink("s", limit=10_000), sources={"most": most})
    made.export(RigSink("t", limit=10_000), exporter="y")
    lines = [
        line
        for pod in range(300)
        for line in (
            f'h_bucket{{p="{pod}",le="+Inf"}} 3',
            f'h_count{{p="{pod}"}} 3',
            f'h_sum{{p="{pod}"}} 4',
            f'h_bucket{{p="{pod}",le="1"}} 2',
        )
    ]
    made.feed(write(*lines))
    made.feed(write(types={"h": "histogram"}), tick=0.5)
    made.feed(write(*lines, at_ms=T0_MS + 1000), tick=0.6)
    for number in range(60):
        made.due(2.0 + number)
    made.flush()
    made.engine.router.flush_counters()
    counter = sink.counter
    dropped = sum(drop.samples for drop in made.engine.statistics().drops if drop.sink == "s")
    assert counter.samples == counter.exported + dropped


def test_series_of_families_that_ended_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_wait, "SAMPLES_MAX", 3_000)
    made = waiting_rig()
    made.export(RigSink("s", limit=1_000_000))
    wait = made.engine.first_sight
    for number in range(8):
        made.feed(write(*(f'f{number}{{a="{n}"}} 1' for n in range(2_000))), tick=0.1 * number)
        made.due(0.1 * number)  # as the flush timer gets one turn between two long requests
    assert sum(len(family.members) for family in wait._ended) <= 3_000
    assert wait._bytes <= 3_000 * (metadata_wait.SAMPLE_BYTES + 2 * metadata_wait.SERIES_BYTES)
    for _ in range(200):
        made.due(10.0)
    assert (len(wait._ended), wait._bytes) == (0, 0)
