"""All signals as one: dispatch by protocol, one sequence of positions, one flush schedule."""

from __future__ import annotations

import pytest

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.point_buffer import PointBuffer
from relay.codec.otlp.record_buffer import RecordBuffer
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.pacing import Pace
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.pipeline.records.routing import STEP, RecordRouter
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.pipeline.routing.tenancy import ANYWHERE
from relay.pipeline.signals import Signals
from relay.selector.records.compile import Attributes
from relay.selector.records.selection import RecordSelection
from tests.kit.engine_rig import EVERYTHING
from tests.kit.otlp.batches import request_of
from tests.kit.otlp.official import LOGS, TRACES
from tests.kit.remote_write.sample_writes import write

BODIES = {
    "remote_write_v1": write("up 1"),
    "otlp_logs": request_of(LOGS, [1.0]),
    "otlp_traces": request_of(TRACES, [1.0]),
}


class Rig:
    """Pipelines that each fill a batch of their own."""

    def __init__(self) -> None:
        metrics = MetricsPipeline()
        logs = RecordsPipeline("logs", offsets=metrics.offsets)
        traces = RecordsPipeline("traces", offsets=metrics.offsets)
        self.signals = Signals(metrics, logs, traces)
        self.batches = {
            name: OpenBatch(
                None,
                limit=10,
                timeout_s=timeout_s,
                new_buffer=PointBuffer if name == "remote_write_v1" else RecordBuffer,
            )
            for name, timeout_s in zip(BODIES, (5.0, 3.0, 4.0), strict=True)
        }
        targets = {
            name: [SinkOutputSpec(SinkCounter("x", name), [batch])]
            for name, batch in self.batches.items()
        }
        metrics.add_exporter("x", "", [("all", EVERYTHING, targets["remote_write_v1"])])
        for one in (logs, traces):
            sources = [("all", RecordSelection(), targets[one.protocol])]
            one.router.set_sources("x", "", sources)

    def ingest(self, protocol: str) -> int:
        """Apply a request; return its position."""
        return self.signals.ingest(
            BODIES[protocol], now=1.0, tick=0.0, origin=ANYWHERE, protocol=protocol, pace=Pace()
        ).request


def test_requests_go_to_the_signal_of_their_protocol_in_one_sequence() -> None:
    rig = Rig()
    assert [rig.ingest(protocol) for protocol in BODIES] == [0, 1, 2]
    assert [batch.count for batch in rig.batches.values()] == [1, 1, 1]
    assert [batch.oldest_offset for batch in rig.batches.values()] == [0, 1, 2]
    assert rig.signals.offsets.low == 0
    assert rig.signals.low_watermark == 3
    assert rig.signals.grown > 0


def test_what_is_due_first_is_flushed_first_and_most_is_for_all() -> None:
    rig = Rig()
    for protocol in BODIES:
        rig.ingest(protocol)
    assert rig.signals.next_due() == 3.0
    assert [batch for batch, _ in rig.signals.flush_due(3.5)] == [rig.batches["otlp_logs"]]
    assert rig.signals.next_due() == 4.0
    assert len(rig.signals.flush_due(9.0, most=1)) == 1
    assert len(rig.signals.flush_due(9.0, most=1)) == 1
    assert rig.signals.flush_due(9.0) == []


def test_every_deadline_of_a_signal_is_one_of_all() -> None:
    rig = Rig()
    signals = rig.signals
    for protocol in BODIES:
        rig.ingest(protocol)
    bucket = write('b_bucket{le="1"} 1', types={"b": "histogram"})
    signals.ingest(
        bucket, now=1.0, tick=0.0, origin=ANYWHERE, protocol="remote_write_v1", pace=Pace()
    )
    metrics = signals.metrics
    assert metrics.schedule.armed > 0
    assert metrics.assembly.armed > 0
    assert signals.armed == metrics.armed + signals.logs.armed + signals.traces.armed


@pytest.mark.parametrize("protocol", BODIES)
def test_a_dry_run_asks_the_same_signal(protocol: str) -> None:
    rig = Rig()
    probed = rig.signals.dry_run(
        BODIES[protocol], now=1.0, origin=ANYWHERE, protocol=protocol, pace=Pace()
    )
    assert probed.wanted
    assert not any(batch.count for batch in rig.batches.values())


def test_a_plan_over_many_sources_pauses() -> None:
    router, pauses = RecordRouter(), []
    for number in range(STEP * 3):
        router.set_sources(f"x{number}", "", [("all", RecordSelection(), [])])
    plan = router.plan("", Attributes(), Attributes(), lambda: pauses.append(1))
    assert len(plan.takes) == STEP * 3
    assert len(pauses) == 3
