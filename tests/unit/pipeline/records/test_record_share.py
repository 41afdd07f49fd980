"""A project above its limit of records has a share of them taken; traces stay whole."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.envelope import scan
from relay.codec.otlp.record_buffer import RecordBuffer
from relay.codec.signal_names import RecordSignal
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.pipeline.records.selecting import LOG_RECORD, SPAN, split_by_share
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.pipeline.routing.series_tally import SHARE_ALL
from relay.selector.records.selection import RecordSelection
from tests.kit.otlp.official import LOGS, TRACES

HALF = SHARE_ALL // 2


def request(kind: Any, count: int) -> bytes:
    """Records of one resource; every second span is of the trace before."""
    made = kind.request()
    if kind is LOGS:
        records = made.resource_logs.add().scope_logs.add().log_records
        for number in range(count):
            records.add(time_unix_nano=number)
    else:
        spans = made.resource_spans.add().scope_spans.add().spans
        for number in range(count):
            spans.add(trace_id=(number // 2).to_bytes(16, "big"), start_time_unix_nano=number)
    return bytes(made.SerializeToString())


def nothing() -> None:
    """Do not pause."""


def test_log_records_are_split_by_their_bytes() -> None:
    envelope = scan(request(LOGS, 200))
    kept, refused = split_by_share(HALF, envelope, [(3, 90), (100, 200)], LOG_RECORD, nothing)
    numbers = {
        side: [n for row in rows for n in range(*row)] for side, rows in enumerate((kept, refused))
    }
    assert sorted(numbers[0] + numbers[1]) == [*range(3, 90), *range(100, 200)]
    assert numbers[0] == [
        n for n in [*range(3, 90), *range(100, 200)] if crc32(envelope.record(n)) < HALF
    ]
    assert 60 < len(numbers[0]) < 130
    assert split_by_share(SHARE_ALL, envelope, [(0, 200)], LOG_RECORD, nothing) == ([(0, 200)], [])


def test_traces_stay_whole() -> None:
    envelope = scan(request(TRACES, 200))
    kept, refused = split_by_share(HALF, envelope, [(0, 200)], SPAN, nothing)
    assert kept
    assert refused
    assert all(not bound % 2 for rows in (kept, refused) for row in rows for bound in row)


class Rig:
    """A pipeline with two sinks of one project that take all."""

    def __init__(self, signal: RecordSignal) -> None:
        self.pipeline = RecordsPipeline(signal)
        self.batches = [OpenBatch(None, limit=1000, new_buffer=RecordBuffer) for _ in range(2)]
        self.targets = [
            SinkOutputSpec(SinkCounter("acme/x", f"s{at}/{signal}"), [batch])
            for at, batch in enumerate(self.batches)
        ]
        sources = [("all", RecordSelection(), self.targets)]
        self.pipeline.router.set_sources("acme/x", "", sources)

    def ingest(self, body: bytes) -> Any:
        """Apply a request."""
        return self.pipeline.ingest(body, now=1.0, tick=1.0)


def test_what_a_limit_refuses_is_matched_and_counted_for_each_sink() -> None:
    rig = Rig("logs")
    rig.ingest(request(LOGS, 100))
    rig.pipeline.router.set_share("", HALF)
    assert rig.ingest(request(LOGS, 100)).taken.samples == 100
    counts = [batch.count for batch in rig.batches]
    taken = counts[0]
    assert 120 < taken < 180
    assert counts == [taken, taken]
    for target in rig.targets:
        counter = target.counter
        assert (counter.samples, counter.refused) == (200, 200 - taken)
        assert counter.points == counter.exported == taken
    assert sorted((drop.sink, drop.reason, drop.samples) for drop in rig.pipeline.drops.rows()) == [
        ("s0/logs", "project_limit", 200 - taken),
        ("s1/logs", "project_limit", 200 - taken),
    ]
    assert rig.pipeline.statistics().unmatched == 0
    rig.pipeline.router.set_share("", SHARE_ALL)
    rig.ingest(request(LOGS, 100))
    assert rig.batches[0].count == taken + 100
