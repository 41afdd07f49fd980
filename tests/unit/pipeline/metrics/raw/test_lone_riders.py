"""Exemplars and metadata in batches without a point: few of them wait, and not for ever."""

from __future__ import annotations

import pytest

from relay.pipeline.batching.transaction import RIDERS_WAIT_S
from relay.pipeline.routing.match_set import OutputOptions
from tests.kit.engine_rig import RAW1, RAW2, Rig, RigSink
from tests.kit.remote_write.prompb import WriteRequest
from tests.kit.remote_write.raw import T0_MS

MEMORY_BYTES_MAX = 200_000

each_version = pytest.mark.parametrize("options", [RAW1, RAW2], ids=["1.0", "2.0"])


def write(*, exemplars: int = 0, samples: int = 0, name: str = "hits_total") -> bytes:
    """One series with so many samples or exemplars."""
    request = WriteRequest()
    series = request.timeseries.add()
    series.labels.add(name="__name__", value=name)
    for number in range(samples):
        series.samples.add(value=1.0, timestamp=T0_MS + number)
    for number in range(exemplars):
        exemplar = series.exemplars.add(value=0.5, timestamp=T0_MS + number)
        exemplar.labels.add(name="trace_id", value=f"{number:032}")
    encoded: bytes = request.SerializeToString()
    return encoded


def rig_of(options: OutputOptions) -> tuple[Rig, RigSink]:
    rig = Rig()
    return rig, rig.export(RigSink("s", limit=1_000, options=options))


@each_version
def test_a_flood_of_exemplars_without_a_point_takes_little_memory(options: OutputOptions) -> None:
    rig, sink = rig_of(options)
    for _ in range(500):
        rig.feed(write(exemplars=50))
    (batch,) = sink.batches
    assert batch.point_buffer.room() < MEMORY_BYTES_MAX
    statistics = rig.engine.statistics().exemplars
    assert statistics.received == 25_000
    assert statistics.sent + statistics.dropped == 25_000
    assert statistics.dropped > 20_000


@each_version
def test_they_are_dropped_where_no_point_comes(options: OutputOptions) -> None:
    rig, sink = rig_of(options)
    rig.feed(write(exemplars=3))
    assert rig.engine.next_due() == RIDERS_WAIT_S
    rig.feed(write(exemplars=2), tick=30.0)
    rig.due(RIDERS_WAIT_S - 1.0)
    (batch,) = sink.batches
    assert batch.point_buffer.count == 2
    rig.due(RIDERS_WAIT_S)
    assert batch.point_buffer.count == 0
    assert rig.engine.next_due() is None
    assert rig.engine.statistics().exemplars.dropped == 5
    rig.feed(write(samples=1), tick=100.0)
    rig.flush()
    assert sink.held == 1


@each_version
def test_they_leave_with_the_point_that_comes(options: OutputOptions) -> None:
    rig, sink = rig_of(options)
    rig.feed(write(exemplars=3))
    rig.feed(write(samples=1), tick=20.0)
    rig.due(25.0)
    (series,) = sink.as_sent().series.values()
    assert len(series.exemplars) == 3
    rig.due(RIDERS_WAIT_S)
    assert rig.engine.statistics().exemplars.dropped == 0
