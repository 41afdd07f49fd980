"""The pipeline of logs or of traces: a decompressed request in, filled batches out.

* Records are forwarded byte for byte; only the heads of resources and scopes are read, once each.
* Synchronous and atomic: a request is processed completely or not at all.
* Nothing waits for other requests, so every record of a request is in a batch when it is done.
* A record is counted for a sink once for each of the sink's sources that takes it, as a series is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.envelope import Envelope, scan
from relay.codec.otlp.record_fields import without_severity
from relay.codec.otlp.redact import Redaction
from relay.codec.protobuf import field_bytes
from relay.codec.remote_write.v1 import ELEMENTS_MAX, Pause, WriteProtocol
from relay.pipeline.batching.flush_schedule import FlushSchedule, seal_all
from relay.pipeline.batching.transaction import AcceptedCounts, BatchTransaction
from relay.pipeline.batching.unfinished import ReplayGate, WaitingEntry
from relay.pipeline.batching.watermark import OffsetTracker
from relay.pipeline.contract import Tenant
from relay.pipeline.pacing import ENTRIES, UNPACED, Pace
from relay.pipeline.records.appending import append_records, append_rewritten
from relay.pipeline.records.resource_table import (
    ResourceEntry,
    ResourceTable,
    ScopeEntry,
    read_resource,
)
from relay.pipeline.records.results import (
    RecordSignal,
    RecordsProbed,
    RecordsReplayed,
    RecordsTaken,
    RecordStatistics,
    RequestCounts,
    count_taken,
    covered_by,
)
from relay.pipeline.records.routing import RecordRoute, RecordRouter
from relay.pipeline.records.selecting import LOG_RECORD, SPAN, Ranges, RecordFields, select
from relay.pipeline.routing.tenancy import (
    ACCOUNT_LABELS,
    ANYWHERE,
    IngestPath,
    Tenancy,
)
from relay.pipeline.signal import Sealed
from relay.runtime.errors import DecodeError
from relay.selector.inventory.store import Inventory
from relay.selector.resources.compiler import Compiler

TENANT: Final = "project"
"""Label of a tenancy of resources: it stands for any of their tenant attributes."""

RECORD_TAG: Final = b"\x12"  # of ScopeLogs and ScopeSpans
SAMPLED_MAX: Final = 2
"""Log records of a scope whose severity is looked at for previews."""
STEP: Final = 32
"""Scopes of a microsecond or two between two pauses."""

TOO_LARGE: Final = "record_too_large"
"""Reason for records that are left out because they, or a head of theirs, are too large."""

NO_TENANT: Final = "no_tenant"
"""Reason for records of nobody: their resource names no project, and so does the path."""

FIELDS: Final[Mapping[RecordSignal, RecordFields]] = {"logs": LOG_RECORD, "traces": SPAN}
PROTOCOLS: Final[Mapping[RecordSignal, WriteProtocol]] = {
    "logs": "otlp_logs",
    "traces": "otlp_traces",
}
RECORD_PROTOCOLS: Final = frozenset(PROTOCOLS.values())
UNITS: Final[Mapping[RecordSignal, str]] = {"logs": "log records", "traces": "spans"}


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """Options of the operator, and bounds.

    ``tenant_attributes``: the first of these that a resource has names its project.
    ``reports_nobody``: senders are told of records of nobody.
    """

    tenant_attributes: tuple[str, ...] = ("milo.project.id",)
    category_attribute: str = "log.category"
    reports_nobody: bool = True
    entries_max: int = 100_000
    idle_s: float = 3600.0


class RecordsPipeline:
    """Implements :class:`relay.pipeline.signal.Signal` for one signal."""

    def __init__(
        self,
        signal: RecordSignal,
        *,
        offsets: OffsetTracker | None = None,
        tenancy: Tenancy | None = None,
        compiler: Compiler | None = None,
        inventory: Inventory | None = None,
        options: RecordOptions | None = None,
    ) -> None:
        self.signal: Final = signal
        self.protocol: Final = PROTOCOLS[signal]
        self._fields = FIELDS[signal]
        self._has_severities = signal == "logs"
        self.options = options or RecordOptions()
        self.offsets = offsets if offsets is not None else OffsetTracker()
        self.tenancy = tenancy or Tenancy()
        self.router = RecordRouter(
            compiler=compiler,
            inventory=inventory,
            category_attribute=self.options.category_attribute,
        )
        self.table = ResourceTable(entries_max=self.options.entries_max, idle_s=self.options.idle_s)
        self.schedule = FlushSchedule()
        self.grown = 0
        """Bytes by which requests made open batches larger, since the start."""
        self._gate: ReplayGate | None = None
        self._received = self._nobody = self._oversized = self._unmatched = 0
        self._current: int | None = None
        self._marks = -1
        """Position of the last transaction that is no accepted request; counts down."""

    @property
    def low_watermark(self) -> int:
        """The position of the request in progress, else the next to be given out."""
        return self.offsets.following if self._current is None else self._current

    @property
    def metadata_version(self) -> int:
        """Nothing is learned from records."""
        return 0

    def path_of(self, tenant: Tenant | None) -> IngestPath:
        """Return the tenant part of a request's path."""
        return self.tenancy.path_of(tenant)

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
        taken, _ = self._take(body, now, tick, origin, pace)
        return taken

    def dry_run(
        self,
        body: bytes,
        *,
        now: float,
        origin: IngestPath = ANYWHERE,
        protocol: WriteProtocol = "",
        pace: Pace = UNPACED,
    ) -> RecordsProbed:
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
        return RecordsProbed(taken.taken, taken.dropped, taken.examples, has_effect)

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
        return RecordsReplayed(*self._take(body, now, tick, origin, pace, bounded=False))

    def end_replay(self, tick: float) -> Sealed:
        """End the replay; nothing was collected."""
        del tick
        self._gate = None
        return []

    def named(self) -> tuple[list[WaitingEntry], int | None]:
        """Nothing waits."""
        return [], None

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
        """Nothing waits."""
        del tick
        return []

    def statistics(self) -> RecordStatistics:
        """A snapshot."""
        return RecordStatistics(
            self.signal,
            self._received,
            self._nobody,
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
        *,
        bounded: bool = True,
    ) -> tuple[RecordsTaken, list[tuple[OpenBatch, int]]]:
        """Apply a request under the next position; return also what a replay took back."""
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
                self.offsets.release(position)
                raise
            pace.final = True
            has_effect = transaction.has_effect
            withheld = self._withhold(transaction)
            transaction.commit(self.offsets, self.schedule, tick)
            self._count(counts, pace)
            self.grown += transaction.batch_growth_bytes
            self.offsets.release(position)
        finally:
            self._current = None
        taken = self._result(transaction, counts)
        taken.has_effect = has_effect
        return taken, withheld

    def _withhold(self, transaction: BatchTransaction) -> list[tuple[OpenBatch, int]]:
        """Take a replayed request back from the batches that do not need it."""
        gate, position = self._gate, transaction.request
        if gate is None or position >= gate.ceiling:
            return []
        return transaction.drop_unwanted(lambda batch: position >= gate.low(batch))

    def _result(self, transaction: BatchTransaction, counts: RequestCounts) -> RecordsTaken:
        dropped, examples = {}, []
        if counts.nobody and self.options.reports_nobody:
            dropped[NO_TENANT] = counts.nobody
            examples.append(counts.example)
        if counts.oversized:
            dropped[TOO_LARGE] = counts.oversized
        good = counts.received - counts.nobody - counts.oversized
        return RecordsTaken(
            transaction.request,
            AcceptedCounts(good, 0, 0),
            transaction.sealed,
            transaction.has_effect,
            dropped,
            examples,
        )

    def _count(self, counts: RequestCounts, pace: Pace) -> None:
        self._received += counts.received
        self._nobody += counts.nobody
        self._oversized += counts.oversized
        self._unmatched += counts.unmatched
        for at, (plan, count) in enumerate(counts.plans):
            if not at % ENTRIES:
                pace.pause()
            for take in plan.takes:
                count_taken(take.source, count)
        for at, (source, count) in enumerate(counts.sources):
            if not at % ENTRIES:
                pace.pause()
            count_taken(source, count)

    def _append(
        self,
        envelope: Envelope,
        transaction: BatchTransaction,
        origin: IngestPath,
        counts: RequestCounts,
    ) -> None:
        """Append a request's records to the batches of the sinks that take them."""
        pause, find, inventory = transaction.pace.pause, self.table.find, self.router.inventory
        counts.received = envelope.count + envelope.oversized
        counts.oversized = envelope.oversized
        steps = 0
        resources = envelope.resources
        resources.reverse()
        while resources:  # freed one by one: all at once would take too long
            head, scopes = resources.pop()
            scopes.reverse()
            steps += 1
            if not steps % STEP:
                pause()
            resource = find(origin, head)
            if resource is None:
                pause()
                resource = self._read(envelope, head, origin)
            if resource.project is None:
                while scopes:
                    _, first, stop = scopes.pop()
                    self._note_nobody(resource, stop - first, counts)
                continue
            while scopes:
                scope_head, first, stop = scopes.pop()
                steps += 1
                if not steps % STEP:
                    pause()
                scope = resource.scopes.get(scope_head)
                plan = scope.plan if scope is not None else None
                if scope is None or plan is None or not plan.is_valid(inventory):
                    pause()
                    scope = self._plan(envelope, resource, scope_head, pause)
                    plan = scope.plan
                    assert plan is not None
                group = scope.group
                resource.records += stop - first
                if self._has_severities:
                    resource.sampled += min(stop - first, SAMPLED_MAX)
                    resource.without_severity += without_severity(
                        envelope, first, stop, SAMPLED_MAX
                    )
                if plan.has_tests:
                    self._test(envelope, first, stop, scope, transaction, counts)
                    continue
                if not plan.takes:
                    counts.unmatched += stop - first
                    continue
                counts.plans.append((plan, stop - first))
                for number, target in enumerate(plan.targets):
                    if number and not number % STEP:
                        pause()
                    append_records(transaction, target, group, envelope, first, stop)

    def _read(self, envelope: Envelope, head: bytes, origin: IngestPath) -> ResourceEntry:
        try:
            texts = read_resource(head)
        except DecodeError as error:
            raise _at(envelope, head, error) from error
        return self.table.add(origin, head, texts, self._project_of(texts, origin))

    def _project_of(self, texts: Iterable[tuple[str, str]], origin: IngestPath) -> str | None:
        """Return the project of a resource; "" without tenancy, None for nobody's."""
        if not self.tenancy.enabled:
            return ""
        values = dict(reversed(list(texts)))
        names = self.options.tenant_attributes
        named = next((values[name] for name in names if values.get(name)), "")
        labels = {name: values[name] for name in ACCOUNT_LABELS if name in values}
        if named and self.tenancy.label:
            labels[self.tenancy.label] = named
        return self.tenancy.project_of(labels, origin) or None

    def _note_nobody(self, resource: ResourceEntry, count: int, counts: RequestCounts) -> None:
        counts.nobody += count
        if not counts.example:
            names = " or ".join(self.options.tenant_attributes)
            given = resource.attributes.exact.get("service.name", "")
            of = f" of service.name {given[:80]!r}" if given else ""
            counts.example = f"the resource{of} names no project: set its attribute {names}"

    def _plan(
        self, envelope: Envelope, resource: ResourceEntry, head: bytes, pause: Pause
    ) -> ScopeEntry:
        """Return a scope with a valid plan."""
        try:
            scope = self.table.scope(resource, head)
        except DecodeError as error:
            raise _at(envelope, head, error) from error
        assert resource.project is not None
        scope.redacted.clear()
        scope.plan = self.router.plan(
            resource.project, resource.attributes, scope.attributes, pause
        )
        return scope

    def _test(
        self,
        envelope: Envelope,
        first: int,
        stop: int,
        scope: ScopeEntry,
        transaction: BatchTransaction,
        counts: RequestCounts,
    ) -> None:
        """Append a scope's records where sources ask something of each record."""
        assert scope.plan is not None
        whole: Ranges = [(first, stop)]
        taken: list[Ranges] = []
        pause = transaction.pace.pause
        for take in scope.plan.takes:
            ranges = whole
            if take.residual is not None:
                pause()
                ranges = select(take.residual, envelope, whole, self._fields, pause)
                if not ranges:
                    continue
            if take.source.redaction is not None:
                ranges = self._append_redacted(
                    take.source, take.source.redaction, scope, envelope, ranges, transaction
                )
                taken.append(ranges)
                counts.sources.append((take.source, sum(end - begin for begin, end in ranges)))
                continue
            taken.append(ranges)
            counts.sources.append((take.source, sum(end - begin for begin, end in ranges)))
            for target in take.source.targets:
                for begin, end in ranges:
                    append_records(transaction, target, scope.group, envelope, begin, end)
        counts.unmatched += stop - first - covered_by(taken, whole)

    def _append_redacted(
        self,
        source: RecordRoute,
        redaction: Redaction,
        scope: ScopeEntry,
        envelope: Envelope,
        ranges: Ranges,
        transaction: BatchTransaction,
    ) -> Ranges:
        """Append redacted records; return those that could be read, and so were taken."""
        group = scope.group_for(redaction)
        found: Ranges = []
        for begin, end in ranges:
            for number in range(begin, end):
                if not number % STEP:
                    transaction.pace.pause()
                try:
                    message = redaction.apply(envelope.record(number), self._fields.places)
                except DecodeError:
                    continue  # what may hide in it is not known: it must not leave
                record = field_bytes(RECORD_TAG, message)
                for target in source.targets:
                    append_rewritten(transaction, target, group, record)
                found.append((number, number + 1))
        return found

    def __repr__(self) -> str:
        return f"<RecordsPipeline {self.signal} {self.table!r} {self.router!r}>"


def _at(envelope: Envelope, head: bytes, error: DecodeError) -> DecodeError:
    """Return the error with the place of the head in the request."""
    return DecodeError(str(error), offset=max(0, envelope.body.find(head)))
