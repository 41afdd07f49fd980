"""An engine with sinks that keep what they are given: the bench that pipeline tests work on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.codec.otlp.point_buffer import PointBuffer
from relay.codec.remote_write.raw.buffer import RawPointBuffer
from relay.codec.remote_write.raw.encoder import V1Encoder, V2Encoder
from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.limits import Limits
from relay.pipeline.routing.match_set import OutputOptions, SinkCounter, SinkOutputSpec
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath
from relay.selector.matchers import NAME, Matcher, Selector
from relay.selector.resources.label_selector import Selection
from tests.kit.oracle.any_points import AnyPoint, read_points
from tests.kit.oracle.number_points import Point, decode
from tests.kit.remote_write.as_sent import AsSent

EVERYTHING = Selector(())
PLAIN = OutputOptions()
RAW1 = OutputOptions(protocol="remoteWrite1", sends_metadata=True)
RAW2 = OutputOptions(protocol="remoteWrite2", sends_metadata=True)
"""Of sinks that get series as they came."""
NUMBERS = OutputOptions(unsupported=frozenset({"histogram", "exponential_histogram", "summary"}))
"""Of a sink that gets everything as the number series that it was on the wire."""


def named(name: str) -> Selector:
    """The selector of one metric."""
    return Selector(((Matcher(NAME, "=", name),),))


class ReplaceablePipeline(MetricsPipeline):
    """A pipeline whose methods a test can replace, which a compiled class does not allow."""


class RigSink:
    """One sink: its open batches, and the sealed ones in the order in which they left."""

    def __init__(
        self,
        name: str,
        *,
        limit: int,
        timeout_s: float = 5.0,
        shards: int = 1,
        exporter: str = "x",
        options: OutputOptions = PLAIN,
    ) -> None:
        self.name = name
        self.limit = limit
        new_buffer = RawPointBuffer if options.is_raw else PointBuffer
        self.batches = [
            OpenBatch(self, limit=limit, shard=shard, timeout_s=timeout_s, new_buffer=new_buffer)
            for shard in range(shards)
        ]
        self.target = SinkOutputSpec(SinkCounter(exporter, name), self.batches, options)
        self.sealed: list[SealedBatch] = []
        self.sealed_by_lane: list[list[SealedBatch]] = [[] for _ in range(shards)]
        self.lone_exemplars = 0
        """Exemplars that :meth:`as_sent` found to have no form in the sink's version."""

    def forget(self) -> None:
        """Keep nothing of what has left so far."""
        self.sealed.clear()
        for shard in self.sealed_by_lane:
            shard.clear()

    @property
    def counter(self) -> SinkCounter:
        """The left side of the sink's ledger."""
        return self.target.counter

    @property
    def held(self) -> int:
        """Points that came out or wait in open batches."""
        return sum(s.count for s in self.sealed) + sum(b.count for b in self.batches)

    def points(self) -> list[Point]:
        """Every point that left, decoded by the official classes."""
        return [point for sealed in self.sealed for point in decode(sealed.point_buffer.encode())]

    def any_points(self) -> list[AnyPoint]:
        """Every point that left, of whatever kind."""
        return [
            point for sealed in self.sealed for point in read_points(sealed.point_buffer.encode())
        ]

    @property
    def encoder(self) -> V1Encoder | V2Encoder:
        """The encoder of a sink that takes series as they came."""
        return V1Encoder() if self.target.options.protocol == "remoteWrite1" else V2Encoder()

    def as_sent(self) -> AsSent:
        """All that left of a sink that takes series as they came."""
        found = AsSent()
        self.lone_exemplars = 0
        for sealed in self.sealed:
            (body,) = self.encoder.encode_bodies(sealed, "none", 1 << 40)
            if self.encoder.protocol == "remote_write_v1":
                found.read_v1(body.data)
            else:
                found.read_v2(body.data)
            assert body.points == sealed.count
            self.lone_exemplars += body.lone_exemplars
        return found

    def open_points(self) -> list[Point]:
        """Every point that waits in an open batch."""
        return [
            point
            for batch in self.batches
            if batch.count
            for point in decode(batch.point_buffer.encode())
        ]

    def __repr__(self) -> str:
        return f"<RigSink {self.name} limit {self.limit}>"


class Rig:
    """An engine, its exporters' sinks, and a monotonic clock that only :meth:`feed` is given."""

    def __init__(self, limits: Limits | None = None, **options: Any) -> None:
        self.engine = MetricsPipeline(limits or Limits(), **options)
        self.sinks: list[RigSink] = []

    def export(
        self,
        *sinks: RigSink,
        exporter: str = "x",
        sources: Mapping[str, Selection] | None = None,
        project: str = "",
    ) -> RigSink:
        """Add an exporter all of whose sources feed all of its sinks; return the first sink."""
        targets = [sink.target for sink in sinks]
        chosen = sources or {"all": EVERYTHING}
        self.engine.add_exporter(
            exporter, project, [(name, selector, targets) for name, selector in chosen.items()]
        )
        self.sinks += sinks
        return sinks[0]

    def feed(
        self,
        body: bytes,
        *,
        tick: float = 0.0,
        origin: IngestPath = ANYWHERE,
        protocol: WriteProtocol = "remote_write_v1",
    ) -> BatchTransaction:
        """Ingest a decompressed body and hand what is sealed to its sinks."""
        transaction = self.engine.ingest(
            body, now=1e9 + tick, tick=tick, origin=origin, protocol=protocol
        )
        self.hand_over(transaction.sealed)
        return transaction

    def due(self, tick: float) -> None:
        """Let the time be ``tick``."""
        self.hand_over(self.engine.flush_due(tick))

    def flush(self) -> None:
        """Seal whatever is open."""
        self.hand_over(self.engine.flush([b for sink in self.sinks for b in sink.batches]))

    @staticmethod
    def hand_over(pairs: Iterable[tuple[OpenBatch, SealedBatch]]) -> None:
        """Give sealed batches to the sinks that own them."""
        for batch, sealed in pairs:
            assert isinstance(batch.sink, RigSink)
            batch.sink.sealed.append(sealed)
            batch.sink.sealed_by_lane[batch.shard].append(sealed)

    def snapshot(self) -> dict[str, Any]:
        """All that a refused request must leave as it was, copied.

        Not in it: the series table, what metadata taught, and the next position, which may move.
        """
        engine = self.engine
        statistics = engine.statistics()
        batches = [batch for sink in self.sinks for batch in sink.batches]
        return {
            "batches": [_batch_state(batch) for batch in batches],
            "sealed": [list(map(id, sink.sealed)) for sink in self.sinks],
            "received": statistics.received_samples,
            "dropped": statistics.dropped_samples,
            "exemplars": statistics.exemplars.received,
            "unmatched": statistics.router.unmatched_samples,
            "sinks": [sink.counter.points for sink in self.sinks],
            "sources": [(t.exporter, t.source, t.samples) for t in engine.router.source_counters()],
            "held": dict(engine.offsets._held),
            "holds": statistics.offsets.holds,
            "deadlines": list(engine.schedule._heap),
        }


def _batch_state(batch: OpenBatch) -> Sequence[Any]:
    buffer = batch.point_buffer
    is_raw = isinstance(buffer, RawPointBuffer)
    return (
        # Not their group: its table may learn from a request that is refused.
        [entry[1:] for entry in buffer.entries()] if is_raw else buffer.encode(),
        (
            batch.point_buffer.count,
            batch.point_buffer.closed_runs(),
            batch.point_buffer.closed_rest(),
        ),
        batch.point_buffer.size,
        batch.group,
        batch.count,
        batch.oldest_offset,
        batch.opened_at,
        batch.generation,
        batch.limit,
        batch.timeout_s,
    )
