"""The interface between a kind of telemetry and its shell: admission, replay, checkpoints, flush.

:class:`relay.pipeline.engine.MetricsPipeline` is the signal of metrics. A signal does no I/O and
knows no event loop: its caller passes the clocks, gets sealed batches back and hands them to their
owners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.codec.otlp.batch import OpenBatch, SealedBatch
from relay.codec.remote_write.v1 import WriteProtocol
from relay.pipeline.batching.transaction import AcceptedCounts
from relay.pipeline.batching.unfinished import ReplayGate, WaitingEntry
from relay.pipeline.contract import Tenant
from relay.pipeline.pacing import Pace
from relay.pipeline.routing.tenancy import IngestPath

Sealed = list[tuple[OpenBatch, SealedBatch]]
"""Sealed batches, in order, each with the open batch that it came from."""


class Accepted(Protocol):
    """The outcome of one request; ``request`` is its position."""

    request: int
    sealed: Sealed
    dropped: dict[str, int]
    examples: list[str]

    @property
    def taken(self) -> AcceptedCounts:
        """Accepted part of the request."""
        ...

    @property
    def has_effect(self) -> bool:
        """True if the request must be journaled."""
        ...


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The outcome that :meth:`Signal.ingest` would have.

    ``dropped`` by reason; ``examples``: the first few faults in words; ``wanted``: the request
    would have to be journaled.
    """

    taken: AcceptedCounts
    dropped: Mapping[str, int]
    examples: Sequence[str]
    wanted: bool


class ReplayResult(Protocol):
    """A replayed request, and the points that batches did not need once more."""

    @property
    def transaction(self) -> Accepted:
        """The transaction of the request."""
        ...

    @property
    def withheld(self) -> Sequence[tuple[OpenBatch, int]]:
        """Points that were counted as matched and taken back, by batch."""
        ...


class Offsets(Protocol):
    """Positions of accepted requests, counting up.

    Implemented by :class:`relay.pipeline.batching.watermark.OffsetTracker`.
    """

    @property
    def following(self) -> int:
        """The next position to be given out."""
        ...

    @property
    def reach(self) -> int:
        """The oldest position that a replay may have to read."""
        ...

    @property
    def version(self) -> int:
        """Version that changes with every hold and release."""
        ...

    def advance(self, position: int) -> None:
        """Let the next position given out be this one."""
        ...


class Signal(Protocol):
    """Turns requests into batches, each request completely or not at all.

    Synchronous; while a pace pauses only reads are allowed.
    """

    @property
    def grown(self) -> int:
        """Bytes by which requests made open batches larger, since the start."""
        ...

    @property
    def offsets(self) -> Offsets:
        """The positions of its requests."""
        ...

    @property
    def low_watermark(self) -> int:
        """Oldest position with data that waits to become a point."""
        ...

    @property
    def metadata_version(self) -> int:
        """Version that changes when requests change learned state."""
        ...

    def path_of(self, tenant: Tenant | None) -> IngestPath:
        """Return the tenant part of a request's path in the form that the signal needs."""
        ...

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
        """Apply one decompressed request; ``now`` is the wall clock, ``tick`` the monotonic one, s.

        Every batch in the answer holds its position. Raises DecodeError, TooLargeError and
        OverloadedError with nothing changed, and what ``pace`` raises.
        """
        ...

    def dry_run(
        self,
        body: bytes,
        *,
        now: float,
        origin: IngestPath,
        protocol: WriteProtocol,
        pace: Pace,
    ) -> ProbeResult:
        """Return what :meth:`ingest` would, and change nothing. Raises like that."""
        ...

    def begin_replay(self, gate: ReplayGate) -> None:
        """Prepare for :meth:`replay`; ``gate`` decides what is still needed."""
        ...

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
        """Apply a journaled request again, under its position and without limits.

        Where that raises, the position is the next to be given out again: the request is not done.
        """
        ...

    def end_replay(self, tick: float) -> Sealed:
        """Send the data that was only collected while requests were replayed."""
        ...

    def named(self) -> tuple[list[WaitingEntry], int | None]:
        """Return the waiting entries for a checkpoint, and the oldest position without an entry."""
        ...

    @property
    def armed(self) -> int:
        """Deadlines that were set since the start: :meth:`next_due` is not earlier without one."""
        ...

    def next_due(self) -> float | None:
        """Return the tick at which :meth:`flush_due` has something to do, or None."""
        ...

    def flush_due(self, tick: float, *, most: int | None = None) -> Sealed:
        """Seal the batches that are due, up to ``most`` of them, and end waits that are due."""
        ...

    def flush(self, batches: Sequence[OpenBatch]) -> Sealed:
        """Seal those of the batches that hold points."""
        ...

    def finish(self, tick: float) -> Sealed:
        """Send all waiting data; no request may follow. Open batches stay open."""
        ...
