"""The pipeline of logs or of traces: a decompressed request in, filled batches out.

* Records are forwarded byte for byte; only the heads of resources and scopes are read, once each.
* Synchronous and atomic: a request is processed completely or not at all.
* Nothing waits for other requests, so every record of a request is in a batch when it is done.
* A record is counted for a sink once for each of the sink's sources that takes it, as a series is.
* What runs for every request is compiled with what it calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.envelope import Envelope, scan
from relay.codec.remote_write.v1 import ELEMENTS_MAX, WriteProtocol
from relay.codec.signal_names import RECORD_TOO_LARGE, RecordSignal
from relay.pipeline.batching.flush_schedule import FlushSchedule, seal_all
from relay.pipeline.batching.transaction import AcceptedCounts, BatchTransaction
from relay.pipeline.batching.unfinished import ReplayGate, WaitingEntry
from relay.pipeline.batching.watermark import OffsetTracker
from relay.pipeline.contract import Tenant
from relay.pipeline.drop_counters import UNREADABLE, DropTable
from relay.pipeline.pacing import ENTRIES, UNPACED, Pace
from relay.pipeline.records.appending import append_envelope, count_resources
from relay.pipeline.records.resource_table import ResourceTable
from relay.pipeline.records.results import (
    RecordsReplayed,
    RecordsTaken,
    RecordStatistics,
    RequestCounts,
    count_taken,
)
from relay.pipeline.records.routing import RecordRouter
from relay.pipeline.records.selecting import LOG_RECORD, SPAN, RecordFields
from relay.pipeline.records.unknown_heads import HeadReader
from relay.pipeline.routing.match_set import PROJECT_LIMIT
from relay.pipeline.routing.resource_tenants import NO_TENANT, ResourceTenants
from relay.pipeline.routing.tenancy import ANYWHERE, IngestPath
from relay.pipeline.signal import ProbeResult, Sealed
from relay.selector.inventory.store import Inventory
from relay.selector.records.selection import CATEGORY_ATTRIBUTE
from relay.selector.resources.compiler import Compiler

FIELDS: Final[Mapping[RecordSignal, RecordFields]] = {"logs": LOG_RECORD, "traces": SPAN}
PROTOCOLS: Final[Mapping[RecordSignal, WriteProtocol]] = {
    "logs": "otlp_logs",
    "traces": "otlp_traces",
}
RECORD_PROTOCOLS: Final = frozenset(PROTOCOLS.values())


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """The attribute with the category of a log record, and bounds of the resource table."""

    category_attribute: str = CATEGORY_ATTRIBUTE
    entries_max: int = 100_000
    idle_s: float = 3600.0


class RequestWatch(Protocol):
    """Looks at the requests of a pipeline for a while."""

    def note(
        self, envelope: Envelope, origin: IngestPath, table: ResourceTable, pace: Pace
    ) -> None:
        """Look at a request that was taken: its resources are in the table.

        The work is to be bounded, and to pause: nothing else has a turn meanwhile.
        """


class RecordsPipeline:
    """Implements :class:`relay.pipeline.signal.Signal` for one signal."""

    def __init__(
        self,
        signal: RecordSignal,
        *,
        offsets: OffsetTracker | None = None,
        tenants: ResourceTenants | None = None,
        compiler: Compiler | None = None,
        inventory: Inventory | None = None,
        options: RecordOptions | None = None,
        drops: DropTable | None = None,
    ) -> None:
        self.signal: Final = signal
        self.protocol: Final = PROTOCOLS[signal]
        self._has_severities = signal == "logs"
        self.options = options or RecordOptions()
        self.offsets = offsets if offsets is not None else OffsetTracker()
        self.tenants = tenants or ResourceTenants()
        self.router = RecordRouter(
            compiler=compiler,
            inventory=inventory,
            category_attribute=self.options.category_attribute,
        )
        self.table = ResourceTable(entries_max=self.options.entries_max, idle_s=self.options.idle_s)
        self._reader = HeadReader(self.table, self.router, self.tenants, FIELDS[signal])
        self.drops = drops if drops is not None else DropTable()
        self.schedule = FlushSchedule()
        self.grown = 0
        """Bytes by which requests made open batches larger, since the start."""
        self.watches: list[RequestWatch] = []
        """Told of each request that is taken; begun between requests only."""
        self._gate: ReplayGate | None = None
        self._received = self._no_tenant = self._oversized = self._unmatched = 0
        self._current: int | None = None
        self._marks = -1
        """Position of the last transaction that is no accepted request; counts down."""

    @property
    def low_watermark(self) -> int:
        """The position of the request in progress, else the next to be given out."""
        return self.offsets.following if self._current is None else self._current

    @property
    def metadata_version(self) -> int:
        """Always 0: nothing is learned from records."""
        return 0

    def path_of(self, tenant: Tenant | None) -> IngestPath:
        """Return the tenant part of a request's path."""
        return self.tenants.path_of(tenant)

    def ingest(
        self,
        body: bytes,
        *,
        now: float,
        tick: float,
        origin: IngestPath = ANYWHERE,
        protocol: WriteProtocol = "",
        pace: Pace = UNPACED,
    ) -> RecordsTaken:
        """Apply one request; see :meth:`relay.pipeline.signal.Signal.ingest`."""
        assert protocol in ("", self.protocol), protocol
        return self._take(body, now, tick, origin, pace, True)[0]

    def dry_run(
        self,
        body: bytes,
        *,
        now: float,
        origin: IngestPath = ANYWHERE,
        protocol: WriteProtocol = "",
        pace: Pace = UNPACED,
    ) -> ProbeResult:
        """Return what :meth:`ingest` would, and change nothing. Raises like that."""
        assert protocol in ("", self.protocol), protocol
        self._marks -= 1
        transaction, counts = BatchTransaction(self._marks, now, pace=pace), RequestCounts()
        try:
            self._append(scan(body, pause=pace.pause), transaction, origin, counts)
            has_effect = transaction.has_effect
        finally:
            transaction.rollback()
        taken = self._result(transaction, counts)
        return ProbeResult(taken.taken, taken.dropped, taken.examples, has_effect)

    def begin_replay(self, gate: ReplayGate) -> None:
        """Prepare for :meth:`replay`; ``gate`` decides what is still needed."""
        self._gate = gate

    def replay(
        self,
        body: bytes,
        *,
        position: int,
        now: float,
        tick: float,
        origin: IngestPath = ANYWHERE,
        protocol: WriteProtocol = "",
        pace: Pace = UNPACED,
    ) -> RecordsReplayed:
        """Apply a journaled request again, under its position and without limits."""
        assert protocol in ("", self.protocol), protocol
        self.offsets.advance(position)
        return RecordsReplayed(*self._take(body, now, tick, origin, pace, False))

    def end_replay(self, tick: float) -> Sealed:
        """End the replay; return nothing, as records are not collected while it lasts."""
        del tick
        self._gate = None
        return []

    def named(self) -> tuple[list[WaitingEntry], int | None]:
        """Return no entry: records never wait for other requests."""
        return [], None

    @property
    def armed(self) -> int:
        """Deadlines that were set since the start."""
        return self.schedule.armed

    def next_due(self) -> float | None:
        """Return the tick at which :meth:`flush_due` has something to do, or None."""
        return self.schedule.next_due()

    def flush_due(self, tick: float, *, most: int | None = None) -> Sealed:
        """Seal and return up to ``most`` due batches."""
        return list(seal_all(islice(self.schedule.due(tick), most)))

    def flush(self, batches: Sequence[OpenBatch]) -> Sealed:
        """Seal and return those of the batches that hold records."""
        return list(seal_all(batches))

    def finish(self, tick: float) -> Sealed:
        """Return nothing: records never wait for other requests."""
        del tick
        return []

    def statistics(self) -> RecordStatistics:
        """Return a snapshot."""
        return RecordStatistics(
            self.signal,
            self._received,
            self._no_tenant,
            self._oversized,
            self._unmatched,
            self.table.statistics(),
        )

    def _take(
        self,
        body: bytes,
        now: float,
        tick: float,
        origin: IngestPath,
        pace: Pace,
        bounded: bool,
    ) -> tuple[RecordsTaken, list[tuple[OpenBatch, int]]]:
        """Apply a request under the next position; return also what a replay took back."""
        if self.watches:
            pace.need_slices()
        self.table.sweep(tick)
        entries_max = ELEMENTS_MAX if bounded else len(body)
        position = self._current = self.offsets.begin()
        transaction, counts = BatchTransaction(position, now, pace=pace), RequestCounts()
        try:
            try:
                envelope = scan(body, entries_max=entries_max, pause=pace.pause)
                self._append(envelope, transaction, origin, counts)
            except BaseException:
                transaction.rollback()
                self.offsets.give_up(position, is_replayed=not bounded)
                raise
            pace.final = True
            has_effect = transaction.has_effect
            withheld = [] if self._gate is None else self._withhold(transaction)
            transaction.commit(self.offsets, self.schedule, tick)
            self.drops.now = now
            self._count(envelope, counts, pace)
            self.grown += transaction.batch_growth_bytes
            if self.watches:
                for watch in tuple(self.watches):  # one may end while this pauses
                    watch.note(envelope, origin, self.table, pace)
            self.offsets.release(position)
        finally:
            self._current = None
        taken = self._result(transaction, counts)
        taken.has_effect = has_effect
        return taken, withheld

    def _withhold(self, transaction: BatchTransaction) -> list[tuple[OpenBatch, int]]:
        """Take a replayed request back from the batches that do not need it."""
        gate, position = self._gate, transaction.request
        assert gate is not None
        if position >= gate.ceiling:
            return []
        return transaction.drop_unwanted(lambda batch: position >= gate.low(batch))

    def _result(self, transaction: BatchTransaction, counts: RequestCounts) -> RecordsTaken:
        dropped, examples = {}, []
        if counts.no_tenant and self.tenants.tells_senders:
            dropped[NO_TENANT] = counts.no_tenant
            examples.append(counts.example)
        if counts.oversized:
            dropped[RECORD_TOO_LARGE] = counts.oversized
        good = counts.received - counts.no_tenant - counts.oversized
        taken = AcceptedCounts(good, 0, 0)
        return RecordsTaken(transaction.request, taken, transaction.sealed, dropped, examples)

    def _count(self, envelope: Envelope, counts: RequestCounts, pace: Pace) -> None:
        self._received += counts.received
        self._no_tenant += counts.no_tenant
        self._oversized += counts.oversized
        self._unmatched += counts.unmatched
        count_resources(envelope, counts.resources, pace.pause)
        for at, (plan, count) in enumerate(counts.plans):
            if at and not at % ENTRIES:
                pace.pause()
            for take in plan.takes:
                count_taken(take.source, count)
        for at, (source, count, refused, unreadable) in enumerate(counts.sources):
            if at and not at % ENTRIES:
                pace.pause()
            count_taken(source, count, refused, unreadable)
            for reason, dropped in ((PROJECT_LIMIT, refused), (UNREADABLE, unreadable)):
                if dropped:
                    sinks = [target.counter for target in source.targets]
                    self.drops.count("", reason, dropped, sinks)

    def _append(
        self,
        envelope: Envelope,
        transaction: BatchTransaction,
        origin: IngestPath,
        counts: RequestCounts,
    ) -> None:
        """Append a request's records to the batches of the sinks that take them."""
        counts.received = envelope.count + envelope.oversized
        counts.oversized = envelope.oversized
        append_envelope(
            self._reader,
            envelope,
            transaction,
            origin,
            self.router.inventory,
            self._has_severities,
            counts,
        )

    def __repr__(self) -> str:
        return f"<RecordsPipeline {self.signal} {self.table!r} {self.router!r}>"
