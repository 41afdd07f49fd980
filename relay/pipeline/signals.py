"""All signals of a relay as one: requests go by their protocol to the signal that has it.

* The signals share one sequence of positions, because the journal counts all requests in one.
* Only metrics have data that waits for other requests, and learn from requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from relay.codec.otlp.batch import OpenBatch
from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.batching.unfinished import ReplayGate, WaitingEntry
from relay.pipeline.batching.watermark import OffsetTracker
from relay.pipeline.contract import Tenant
from relay.pipeline.engine import MetricsPipeline
from relay.pipeline.metrics.otlp.decoder import OTLP_METRICS
from relay.pipeline.pacing import Pace
from relay.pipeline.records.pipeline import RECORD_PROTOCOLS, RecordsPipeline
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath
from relay.pipeline.signal import Accepted, ProbeResult, ReplayResult, Sealed, Signal

OTLP_PROTOCOLS: Final = frozenset((*RECORD_PROTOCOLS, OTLP_METRICS))
"""Protocols that follow OTLP over HTTP; the others are versions of remote write."""


class Signals:
    """Implements :class:`relay.pipeline.signal.Signal` by the signals that it is made of."""

    def __init__(
        self, metrics: MetricsPipeline, logs: RecordsPipeline, traces: RecordsPipeline
    ) -> None:
        assert metrics.offsets is logs.offsets is traces.offsets
        self.metrics = metrics
        self.logs = logs
        self.traces = traces
        self._all: tuple[Signal, ...] = (metrics, logs, traces)
        self._by_protocol: dict[WriteProtocol, Signal] = {one.protocol: one for one in self.records}

    @property
    def records(self) -> Iterator[RecordsPipeline]:
        """The signals of records."""
        yield self.logs
        yield self.traces

    @property
    def grown(self) -> int:
        """Bytes by which requests made open batches larger, since the start."""
        return self.metrics.grown + self.logs.grown + self.traces.grown

    @property
    def offsets(self) -> OffsetTracker:
        """The positions of all requests."""
        return self.metrics.offsets

    @property
    def low_watermark(self) -> int:
        """Oldest position with data that waits to become a point."""
        return min(one.low_watermark for one in self._all)

    @property
    def metadata_version(self) -> int:
        """Version that changes when requests change learned state."""
        return self.metrics.metadata_version

    def path_of(self, tenant: Tenant | None) -> IngestPath:
        """Return the tenant part of a request's path."""
        if tenant is None:  # nearly always
            return ANYWHERE
        return self.metrics.router.tenancy.path_of(tenant)

    def ingest(
        self,
        body: bytes,
        *,
        now: float,
        tick: float,
        origin: IngestPath,
        protocol: WriteProtocol,
        pace: Pace,
    ) -> Accepted:
        """Apply one request."""
        return self._by_protocol.get(protocol, self.metrics).ingest(
            body, now=now, tick=tick, origin=origin, protocol=protocol, pace=pace
        )

    def dry_run(
        self,
        body: bytes,
        *,
        now: float,
        origin: IngestPath,
        protocol: WriteProtocol,
        pace: Pace,
    ) -> ProbeResult:
        """Return what :meth:`ingest` would, and change nothing."""
        return self._of(protocol).dry_run(
            body, now=now, origin=origin, protocol=protocol, pace=pace
        )

    def begin_replay(self, gate: ReplayGate) -> None:
        """Prepare for :meth:`replay`."""
        for one in self._all:
            one.begin_replay(gate)

    def replay(
        self,
        body: bytes,
        *,
        position: int,
        now: float,
        tick: float,
        origin: IngestPath,
        protocol: WriteProtocol,
        pace: Pace,
    ) -> ReplayResult:
        """Apply a journaled request again."""
        return self._of(protocol).replay(
            body,
            position=position,
            now=now,
            tick=tick,
            origin=origin,
            protocol=protocol,
            pace=pace,
        )

    def end_replay(self, tick: float) -> Sealed:
        """Send the data that was only collected while requests were replayed."""
        return [sealed for one in self._all for sealed in one.end_replay(tick)]

    def named(self) -> tuple[list[WaitingEntry], int | None]:
        """Return what metrics have waiting; records never wait."""
        return self.metrics.named()

    @property
    def armed(self) -> int:
        """Deadlines that were set since the start.

        Asked for each request, so by the parts of the signals: a call of each took 40 % more.
        """
        metrics = self.metrics
        armed = metrics.schedule.armed + metrics.assembly.armed + metrics.first_sight.armed
        return armed + self.logs.schedule.armed + self.traces.schedule.armed

    def next_due(self) -> float | None:
        """Return the tick at which :meth:`flush_due` has something to do, or None."""
        moments = [one.next_due() for one in self._all]
        return min((moment for moment in moments if moment is not None), default=None)

    def flush_due(self, tick: float, *, most: int | None = None) -> Sealed:
        """Seal the batches that are due, up to ``most``, and end waits."""
        found: Sealed = []
        for one in self._all:
            left = None if most is None else max(0, most - len(found))
            found += one.flush_due(tick, most=left)
        return found

    def flush(self, batches: Sequence[OpenBatch]) -> Sealed:
        """Seal those of the batches that hold anything."""
        return self.metrics.flush(batches)

    def finish(self, tick: float) -> Sealed:
        """Send all waiting data; no request may follow."""
        return [sealed for one in self._all for sealed in one.finish(tick)]

    def _of(self, protocol: WriteProtocol) -> Signal:
        return self._by_protocol.get(protocol, self.metrics)

    def __repr__(self) -> str:
        return f"<Signals {self.metrics!r} {self.logs!r} {self.traces!r}>"
