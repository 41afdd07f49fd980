"""Points that are too far ahead of their arrival are dropped and counted."""

from __future__ import annotations

import struct

import pytest

from relay.codec.protobuf import varint
from relay.codec.remote_write.v1 import WriteProtocol
from relay.config.settings.settings import Settings
from relay.pipeline.batching.unfinished import ReplayGate
from relay.pipeline.drop_counters import BEFORE_MATCHING, REASONS
from relay.pipeline.engine import MetricsPipeline
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.remote_write.hostile_bodies import (
    REFS,
    SYMBOLS,
    field,
    labels,
    native,
    number,
    series2,
    span,
    version2,
)

NOW_S = 1_700_000_000.0
LIMIT_MS = int(NOW_S * 1000) + 600_000
ONE = labels(__name__="m", job="j")
BUCKETS = span(0, 1) + field(12, b"\x06")


def sample(time_ms: int) -> bytes:
    """A Sample of 1."""
    return field(2, b"\x09" + struct.pack("<d", 1.0) + number(2, time_ms))


def histogram(time_ms: int, of: int = 4) -> bytes:
    """A native histogram with one bucket."""
    return field(of, b"\x08\x03\x20\x00\x78" + varint(time_ms) + BUCKETS)


def v1(*times_ms: int) -> bytes:
    """A series with these samples."""
    return field(1, ONE + b"".join(map(sample, times_ms)))


def v2(*times_ms: int) -> bytes:
    """The same in version 2.0."""
    return version2(SYMBOLS, series2(REFS, b"".join(map(sample, times_ms))))


def taken(body: bytes, protocol: WriteProtocol) -> tuple[list[int], dict[str, int]]:
    """The times of the points that leave, and what was dropped; the body comes twice, so that the
    series is known the second time."""
    rig = Rig(future_max_s=600.0)
    sink = rig.export(RigSink("s", limit=100))
    for _ in range(2):
        sink.forget()
        transaction = rig.engine.ingest(body, now=NOW_S, tick=0.0, protocol=protocol)
        rig.hand_over(transaction.sealed)
        rig.flush()
    for row in rig.engine.statistics().drops:
        # It is named for each sink, and not among what the sink's sources were counted for.
        assert row.reason in REASONS
        assert row.reason in BEFORE_MATCHING
    times = [point.time_ns // 1_000_000 for point in sink.any_points()]
    return times, dict(transaction.dropped)


@pytest.mark.parametrize(
    ("body", "protocol"),
    [
        (v1(LIMIT_MS) + v1(LIMIT_MS + 1), "remote_write_v1"),
        (v1(LIMIT_MS, LIMIT_MS + 1), "remote_write_v1"),
        (v1(LIMIT_MS + 1) + v1(LIMIT_MS), "remote_write_v1"),
        (field(1, ONE + histogram(LIMIT_MS) + histogram(LIMIT_MS + 1)), "remote_write_v1"),
        (v2(LIMIT_MS) + series2(REFS, sample(LIMIT_MS + 1)), "remote_write_v2"),
        (v2(LIMIT_MS, LIMIT_MS + 1), "remote_write_v2"),
        (
            version2(SYMBOLS, series2(REFS, histogram(LIMIT_MS, 3) + histogram(LIMIT_MS + 1, 3))),
            "remote_write_v2",
        ),
    ],
)
def test_the_limit_itself_is_taken(body: bytes, protocol: WriteProtocol) -> None:
    times, dropped = taken(body, protocol)
    assert times == [LIMIT_MS]
    assert dropped == {"too_far_in_future": 1}


@pytest.mark.parametrize("time_ms", [LIMIT_MS + 1, (1 << 63) // 1_000_000 - 1])
def test_a_series_with_nothing_else_is_dropped_whole(time_ms: int) -> None:
    assert taken(v1(time_ms), "remote_write_v1") == ([], {"too_far_in_future": 1})
    assert taken(v1(time_ms, time_ms + 1), "remote_write_v1")[0] == []
    assert taken(field(1, ONE + native(BUCKETS, time_ms)), "remote_write_v1")[0] == []


def test_a_replay_goes_by_the_time_of_arrival() -> None:
    rig = Rig(future_max_s=600.0)
    rig.export(RigSink("s", limit=100))
    rig.engine.begin_replay(ReplayGate(lambda _: 0, [], floor=0, ceiling=0))
    for position, now, dropped in ((0, NOW_S, 0), (1, NOW_S - 1, 1)):
        replayed = rig.engine.replay(v1(LIMIT_MS), position=position, now=now, tick=0.0)
        assert sum(replayed.transaction.dropped.values()) == dropped


def test_the_limit_is_ten_minutes() -> None:
    assert Settings().ingest.future_max_s == 600.0
    assert MetricsPipeline()._latest_ns(NOW_S) == (1 << 64) - 1
