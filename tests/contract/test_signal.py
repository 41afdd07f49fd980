"""What holds of every signal: metrics, logs, traces, and a signal of text lines made up here.

The last one stands on the same transactions, offsets and flush schedule, and on nothing else of
the pipeline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.codec.otlp.data_points import NumberPoint, encode_point
from relay.codec.otlp.point_buffer import PointBuffer
from relay.codec.otlp.record_buffer import RecordBuffer
from relay.codec.signal_names import RecordSignal
from relay.control.flush_timer import FlushTimer
from relay.control.time_slicing import Turns
from relay.pipeline.batching.flush_schedule import FlushSchedule, seal_all
from relay.pipeline.batching.transaction import (
    AcceptedCounts,
    BatchTransaction,
    IngestMark,
)
from relay.pipeline.batching.unfinished import ReplayGate, WaitingEntry
from relay.pipeline.batching.watermark import OffsetTracker
from relay.pipeline.contract import Tenant
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.pacing import UNPACED, Pace
from relay.pipeline.records.pipeline import FIELDS, RecordsPipeline
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath
from relay.pipeline.signal import ProbeResult, Sealed, Signal
from relay.runtime.errors import DecodeError
from relay.selector.records.selection import RecordSelection
from tests.kit.batches import GROUP
from tests.kit.engine_rig import EVERYTHING
from tests.kit.ingest_server import eventually
from tests.kit.otlp.batches import request_of
from tests.kit.otlp.official import LOGS, METRICS, TRACES
from tests.kit.remote_write.sample_writes import write


@dataclass
class Owner:
    """Keeps what it is offered."""

    exporter_id: str = "x"
    sink_id: str = "s"
    shards: list[OpenBatch] = field(default_factory=list)
    offered: list[tuple[int, int]] = field(default_factory=list)

    def offer(self, sealed: SealedBatch, shard: int) -> None:
        """Note the shard and the number of points."""
        self.offered.append((shard, sealed.count))


@dataclass
class Again:
    """See :class:`relay.pipeline.signal.ReplayResult`."""

    transaction: BatchTransaction
    withheld: Sequence[tuple[OpenBatch, int]]


class LineSignal:
    """Lines of text, each a point of one batch; a line that is not ASCII is no body."""

    def __init__(self, batch: OpenBatch) -> None:
        self.offsets = OffsetTracker()
        self.grown = 0
        self._batch = batch
        self._schedule = FlushSchedule()
        self._gate: ReplayGate | None = None

    low_watermark = property(lambda self: self.offsets.following)
    armed = property(lambda self: self._schedule.armed)
    metadata_version = 0

    def path_of(self, tenant: Tenant | None) -> IngestPath:
        """Everything is everybody's."""
        return ANYWHERE

    def ingest(
        self, body: bytes, *, now: float, tick: float, is_replayed: bool = False, **_: Any
    ) -> BatchTransaction:
        """Append the lines."""
        transaction = BatchTransaction(self.offsets.begin(), now)
        try:
            self._append(body, transaction)
        except BaseException:
            transaction.rollback()
            self.offsets.give_up(transaction.request, is_replayed=is_replayed)
            raise
        transaction.commit(self.offsets, self._schedule, tick)
        self.grown += transaction.batch_growth_bytes
        self.offsets.release(transaction.request)
        return transaction

    def dry_run(self, body: bytes, *, now: float, **_: Any) -> ProbeResult:
        """Count the lines."""
        count = len(self._lines(body))
        return ProbeResult(AcceptedCounts(count, 0, 0), {}, [], bool(count))

    def begin_replay(self, gate: ReplayGate) -> None:
        """Remember the gate."""
        self._gate = gate

    def replay(
        self, body: bytes, *, position: int, now: float, tick: float, pace: Pace = UNPACED, **_: Any
    ) -> Again:
        """Append the lines that are still needed."""
        assert self._gate is not None
        self.offsets.advance(position)
        if self._gate.low(self._batch) > position:
            offset = self.offsets.begin()
            self.offsets.release(offset)
            return Again(BatchTransaction(offset, now), [(self._batch, len(self._lines(body)))])
        return Again(self.ingest(body, now=now, tick=tick, is_replayed=True), [])

    def end_replay(self, tick: float) -> Sealed:
        """Nothing was collected."""
        return []

    def named(self) -> tuple[list[WaitingEntry], int | None]:
        """Nothing waits."""
        return [], None

    def next_due(self) -> float | None:
        """As the schedule says."""
        return self._schedule.next_due()

    def flush_due(self, tick: float, *, most: int | None = None) -> Sealed:
        """As the schedule says."""
        return list(seal_all(list(self._schedule.due(tick))[:most]))

    def flush(self, batches: Sequence[OpenBatch]) -> Sealed:
        """Seal them."""
        return list(seal_all(batches))

    def finish(self, tick: float) -> Sealed:
        """Nothing waits."""
        return []

    @staticmethod
    def _lines(body: bytes) -> list[bytes]:
        return body.splitlines()

    def _append(self, body: bytes, transaction: BatchTransaction) -> None:
        mark = IngestMark(transaction.request, transaction.now)
        for line in self._lines(body):
            # Found on the way, so that something has to be rolled back.
            point = encode_point(b"", NumberPoint(len(line), bytes(8)))
            transaction.append_point(self._batch, GROUP, point, mark)
            if not line.isascii():
                raise DecodeError("not ASCII", offset=body.index(line))


@dataclass
class Made:
    """A signal with one batch of one owner, and how its bodies are written."""

    signal: Signal
    batch: OpenBatch
    owner: Owner
    body: Callable[[int], bytes]
    undecodable: bytes
    protocol: str = "remote_write_v1"

    def ingest(self, count: int, *, tick: float = 0.0, now: float = 1e9) -> Any:
        """Ingest so many items."""
        return self.signal.ingest(
            self.body(count),
            now=now,
            tick=tick,
            origin=ANYWHERE,
            protocol=self.protocol,
            pace=Pace(),
        )


LIMIT = 4
TIMEOUT_S = 5.0


def metrics(batch: OpenBatch) -> MetricsPipeline:
    """The pipeline, routing everything to the batch."""
    made = MetricsPipeline()
    target = SinkOutputSpec(SinkCounter("x", "s"), [batch])
    made.add_exporter("x", "", [("all", EVERYTHING, [target])])
    return made


def records(signal: RecordSignal, batch: OpenBatch) -> RecordsPipeline:
    """The pipeline of logs or traces, routing everything to the batch."""
    made = RecordsPipeline(signal)
    target = SinkOutputSpec(SinkCounter("x", "s"), [batch])
    made.router.set_sources("x", "", [("all", RecordSelection(), [target])])
    return made


@pytest.fixture(params=["metrics", "otlp_metrics", "logs", "traces", "lines"])
def made(request: pytest.FixtureRequest) -> Made:
    """Each signal in turn."""
    owner = Owner()
    is_records = request.param in FIELDS
    batch = OpenBatch(
        owner,
        limit=LIMIT,
        timeout_s=TIMEOUT_S,
        new_buffer=RecordBuffer if is_records else PointBuffer,
    )
    owner.shards.append(batch)
    if is_records:
        kind = LOGS if request.param == "logs" else TRACES
        return Made(
            records(request.param, batch),
            batch,
            owner,
            lambda count: request_of(kind, map(float, range(count))),
            request_of(kind, [1.0]) + b"\x0a\xff",
            f"otlp_{request.param}",
        )
    if request.param == "metrics":
        return Made(metrics(batch), batch, owner, _samples, _samples(2) + b"\x0a\xff")
    if request.param == "otlp_metrics":
        torn = _otlp_points(2) + b"\x0a\xff"
        return Made(metrics(batch), batch, owner, _otlp_points, torn, "otlp_metrics")
    return Made(LineSignal(batch), batch, owner, _lines, b"good\n\xff\n")


def _samples(count: int) -> bytes:
    return write(*(f"up{number} 1" for number in range(count)))


def _otlp_points(count: int) -> bytes:
    return request_of(METRICS, map(float, range(count)))


def _lines(count: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(count))


def test_positions_count_up_and_are_held_by_batches(made: Made) -> None:
    offsets = made.signal.offsets
    first, second = made.ingest(1), made.ingest(1)
    assert (first.request, second.request) == (0, 1)
    assert offsets.following == made.signal.low_watermark == 2
    assert offsets.low == 0, "the open batch has the first request's point"
    assert made.batch.oldest_offset == 0
    assert made.signal.grown > 0


def test_a_full_batch_is_in_the_answer_and_holds_its_position(made: Made) -> None:
    result = made.ingest(LIMIT + 1)
    assert [(batch, sealed.count) for batch, sealed in result.sealed] == [(made.batch, LIMIT)]
    assert made.batch.count == 1
    offsets = made.signal.offsets
    offsets.release(result.sealed[0][1].oldest)
    assert offsets.low == 0, "the rest is open"
    (rest,) = made.signal.flush([made.batch])
    offsets.release(rest[1].oldest)
    assert offsets.low == 1


def test_what_cannot_be_decoded_changes_nothing(made: Made) -> None:
    made.ingest(3)
    before = (made.batch.point_buffer.encode(), made.batch.count, made.batch.oldest_offset)
    due, grown = made.signal.next_due(), made.signal.grown
    with pytest.raises(DecodeError):
        made.signal.ingest(
            made.undecodable,
            now=2e9,
            tick=1.0,
            origin=ANYWHERE,
            protocol=made.protocol,
            pace=Pace(),
        )
    assert (made.batch.point_buffer.encode(), made.batch.count, made.batch.oldest_offset) == before
    assert (made.signal.next_due(), made.signal.grown) == (due, grown)
    made.ingest(LIMIT)
    assert made.signal.offsets.low == 0


def test_a_dry_run_says_the_same_and_changes_nothing(made: Made) -> None:
    probed = made.signal.dry_run(
        made.body(3), now=1e9, origin=ANYWHERE, protocol=made.protocol, pace=Pace()
    )
    assert probed.wanted
    assert not made.batch.count
    assert made.signal.offsets.following == 0
    assert made.signal.next_due() is None
    result = made.ingest(3)
    assert result.has_effect
    assert made.batch.count == 3


def test_an_empty_request_has_no_effect(made: Made) -> None:
    assert not made.ingest(0).has_effect
    assert made.signal.offsets.low == made.signal.offsets.following == 1


def test_a_batch_is_due_after_its_timeout(made: Made) -> None:
    assert made.signal.next_due() is None
    made.ingest(1, tick=10.0)
    made.ingest(1, tick=12.0)
    assert made.signal.next_due() == 10.0 + TIMEOUT_S
    assert made.signal.flush_due(14.9) == []
    ((batch, sealed),) = made.signal.flush_due(15.0)
    assert (batch, sealed.count) == (made.batch, 2)
    assert made.signal.next_due() is None


def test_a_replayed_request_that_fails_does_not_count_as_finished(made: Made) -> None:
    made.signal.begin_replay(ReplayGate(lambda batch: 0, [], floor=0, ceiling=0))

    def replay(body: bytes) -> Any:
        return made.signal.replay(
            body,
            position=5,
            now=1e9,
            tick=0.0,
            origin=ANYWHERE,
            protocol=made.protocol,
            pace=Pace(),
        )

    offsets = made.signal.offsets
    with pytest.raises(DecodeError):
        replay(made.undecodable)
    assert offsets.low == offsets.following == made.signal.low_watermark == 5
    assert offsets.undelivered == 5
    assert replay(made.body(3)).transaction.request == 5
    assert (offsets.low, offsets.following, made.batch.count) == (5, 6, 3)


def test_a_replay_takes_positions_and_leaves_out_what_is_not_needed(made: Made) -> None:
    made.signal.begin_replay(ReplayGate(lambda batch: 7, [], floor=5, ceiling=7))
    counts = []
    for position in (5, 7):
        replayed = made.signal.replay(
            made.body(2),
            position=position,
            now=1.0,
            tick=0.0,
            origin=ANYWHERE,
            protocol=made.protocol,
            pace=Pace(),
        )
        assert replayed.transaction.request == position
        counts.append(sum(count for _, count in replayed.withheld))
    assert made.signal.end_replay(0.0) == []
    assert counts == [2, 0]
    assert made.batch.count == 2
    assert made.batch.oldest_offset == 7
    assert made.ingest(1).request == 8


def test_nothing_waits_for_others(made: Made) -> None:
    made.ingest(2)
    assert made.signal.named() == ([], None)
    assert made.signal.finish(1.0) == []
    assert made.signal.path_of(None) == ANYWHERE
    assert made.signal.metadata_version == 0


async def test_the_flush_timer_hands_over_what_is_full_and_what_is_due(made: Made) -> None:
    made.batch.timeout_s = 0.02
    timer = FlushTimer(made.signal, Turns(), tick=time.monotonic)
    timer.deliver(made.ingest(LIMIT + 1, tick=time.monotonic()).sealed)
    assert made.owner.offered == [(0, LIMIT)]
    await eventually(lambda: len(made.owner.offered) == 2)
    assert made.owner.offered[1] == (0, 1)
    timer.close()
    timer.deliver(made.ingest(1, tick=time.monotonic()).sealed)
    await asyncio.sleep(0.05)
    assert len(made.owner.offered) == 2, "a closed timer wakes up no more"
