"""An engine with sinks that keep what they are given: the bench that pipeline tests work on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.batching.transaction import Intake
from relay.pipeline.engine import Engine, Limits
from relay.pipeline.routing.match_set import SinkTally, Target, TargetOptions
from relay.pipeline.routing.tenancy import ANYWHERE, Origin
from relay.selector.matchers import NAME, Matcher, Selector
from relay.selector.resources.label_selector import Selection
from tests.support.any_points import AnyPoint, read_points
from tests.support.slow_otlp import Point, decode

EVERYTHING = Selector(())
PLAIN = TargetOptions()
NUMBERS = TargetOptions(unsupported=frozenset({"histogram", "exponential_histogram", "summary"}))
"""Of a sink that gets everything as the number series that it was on the wire."""


def named(name: str) -> Selector:
    """The selector of one metric."""
    return Selector(((Matcher(NAME, "=", name),),))


class RigSink:
    """One sink: its open batches, and the sealed ones in the order in which they left."""

    def __init__(
        self,
        name: str,
        *,
        limit: int,
        timeout_s: float = 5.0,
        lanes: int = 1,
        exporter: str = "x",
        options: TargetOptions = PLAIN,
    ) -> None:
        self.name = name
        self.limit = limit
        self.batches = [
            OpenBatch(self, limit=limit, lane=lane, timeout_s=timeout_s) for lane in range(lanes)
        ]
        self.target = Target(SinkTally(exporter, name), self.batches, options)
        self.sealed: list[SealedBatch] = []
        self.sealed_by_lane: list[list[SealedBatch]] = [[] for _ in range(lanes)]

    def forget(self) -> None:
        """Keep nothing of what has left so far."""
        self.sealed.clear()
        for lane in self.sealed_by_lane:
            lane.clear()

    @property
    def tally(self) -> SinkTally:
        """The left side of the sink's ledger."""
        return self.target.tally

    @property
    def held(self) -> int:
        """Points that came out or wait in open batches."""
        return sum(s.count for s in self.sealed) + sum(b.count for b in self.batches)

    def points(self) -> list[Point]:
        """Every point that left, decoded by the official classes."""
        return [point for sealed in self.sealed for point in decode(sealed.encode())]

    def any_points(self) -> list[AnyPoint]:
        """Every point that left, of whatever kind."""
        return [point for sealed in self.sealed for point in read_points(sealed.encode())]

    def open_points(self) -> list[Point]:
        """Every point that waits in an open batch."""
        return [
            point for batch in self.batches if batch.count for point in decode(batch.arena.encode())
        ]

    def __repr__(self) -> str:
        return f"<RigSink {self.name} limit {self.limit}>"


class Rig:
    """An engine, its exporters' sinks, and a monotonic clock that only :meth:`feed` is given."""

    def __init__(self, limits: Limits | None = None, **options: Any) -> None:
        self.engine = Engine(limits or Limits(), **options)
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
        origin: Origin = ANYWHERE,
        protocol: WriteProtocol = "remote_write_v1",
    ) -> Intake:
        """Ingest a decompressed body and hand what is sealed to its sinks."""
        intake = self.engine.ingest(
            body, now=1e9 + tick, tick=tick, origin=origin, protocol=protocol
        )
        self.hand_over(intake.sealed)
        return intake

    def due(self, tick: float) -> None:
        """Let the time be ``tick``."""
        self.hand_over(self.engine.due(tick))

    def flush(self) -> None:
        """Seal whatever is open."""
        self.hand_over(self.engine.flush([b for sink in self.sinks for b in sink.batches]))

    @staticmethod
    def hand_over(pairs: Iterable[tuple[OpenBatch, SealedBatch]]) -> None:
        """Give sealed batches to the sinks that own them."""
        for batch, sealed in pairs:
            assert isinstance(batch.owner, RigSink)
            batch.owner.sealed.append(sealed)
            batch.owner.sealed_by_lane[batch.lane].append(sealed)

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
            "sinks": [sink.tally.points for sink in self.sinks],
            "sources": [(t.exporter, t.source, t.samples) for t in engine.router.tallies()],
            "held": dict(engine.positions._held),
            "holds": statistics.positions.holds,
            "deadlines": list(engine.schedule._heap),
        }


def _batch_state(batch: OpenBatch) -> Sequence[Any]:
    return (
        batch.arena.encode(),
        (batch.arena.count, batch.arena.closed_runs(), batch.arena.closed_rest()),
        batch.arena.size,
        batch.group,
        batch.count,
        batch.oldest,
        batch.opened_at,
        batch.sealed,
        batch.limit,
        batch.timeout_s,
    )
