"""Read the unknown resources and scopes of a request, plan them, and look at single records.

The loop over known heads is :mod:`relay.pipeline.records.appending`, which calls this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relay.codec.otlp.any_value import resource_attributes
from relay.codec.otlp.envelope import Envelope
from relay.codec.otlp.redact import Redaction
from relay.codec.protobuf import field_bytes
from relay.pipeline.batching.transaction import BatchTransaction
from relay.pipeline.pacing import ENTRIES
from relay.pipeline.records.appending import append_records, append_rewritten
from relay.pipeline.records.entries import ResourceEntry, ScopeEntry
from relay.pipeline.records.resource_table import ResourceTable
from relay.pipeline.records.results import RequestCounts, covered_by
from relay.pipeline.records.routing import RecordRouter
from relay.pipeline.records.selecting import (
    RECORD_COST,
    STEP_BYTES,
    Ranges,
    RecordFields,
    select,
    split_by_share,
)
from relay.pipeline.records.sources import RecordRoute
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.series_tally import SHARE_ALL
from relay.pipeline.routing.tenancy import IngestPath
from relay.runtime.errors import DecodeError, TooLargeError

RECORD_TAG: Final = b"\x12"  # of ScopeLogs and ScopeSpans


@dataclass(frozen=True, slots=True)
class HeadReader:
    """Reads heads for one signal: adds resources to its table, and plans to its scopes."""

    table: ResourceTable
    router: RecordRouter
    tenants: ResourceTenants
    fields: RecordFields

    def unknown(
        self,
        envelope: Envelope,
        transaction: BatchTransaction,
        origin: IngestPath,
        counts: RequestCounts,
    ) -> UnknownHeads:
        """Return what reads a request's unknown heads."""
        return UnknownHeads(self, envelope, transaction, origin, counts)


class UnknownHeads:
    """The unknown part of one request, which is appended to the transaction's batches."""

    __slots__ = ("_counts", "_envelope", "_origin", "_reader", "_transaction")

    def __init__(
        self,
        reader: HeadReader,
        envelope: Envelope,
        transaction: BatchTransaction,
        origin: IngestPath,
        counts: RequestCounts,
    ) -> None:
        self._reader = reader
        self._envelope = envelope
        self._transaction = transaction
        self._origin = origin
        self._counts = counts

    def resource(self, head: bytes) -> ResourceEntry:
        """Return the resource with this head. Raise DecodeError."""
        table = self._reader.table
        known = table.find(self._origin, head)
        if known is not None:
            return known
        try:
            texts = resource_attributes(head, self._transaction.pace.pause)
        except DecodeError as error:
            raise self._at(head, error) from error
        project = self._reader.tenants.project_of(texts, self._origin)
        return table.add(self._origin, head, texts, project)

    def scope(self, resource: ResourceEntry, head: bytes) -> ScopeEntry:
        """Return the resource's scope with this head, and a valid plan. Raise DecodeError."""
        try:
            scope = self._reader.table.scope(resource, head, self._transaction.pace.pause)
        except DecodeError as error:
            raise self._at(head, error) from error
        assert resource.project is not None
        scope.redacted.clear()
        scope.plan = self._reader.router.plan(
            resource.project, resource.attributes, scope.attributes, self._transaction.pace.pause
        )
        return scope

    def count_no_tenant(self, resource: ResourceEntry, count: int) -> None:
        """Count records of a resource without a project."""
        self._counts.no_tenant += count
        if not self._counts.example:
            self._counts.example = self._reader.tenants.fault(resource.texts, self._origin)

    def test(self, first: int, stop: int, scope: ScopeEntry) -> int:
        """Append a scope's records where sources ask something of each; return how many none takes.

        Records are counted here, by source.
        """
        assert scope.plan is not None
        whole: Ranges = [(first, stop)]
        taken: list[Ranges] = []
        transaction, envelope = self._transaction, self._envelope
        pause, share_max = transaction.pace.pause, scope.plan.project.share_max
        for take in scope.plan.takes:
            ranges = whole
            if take.residual is not None:
                pause()
                ranges = select(take.residual, envelope, whole, self._reader.fields, pause)
                if not ranges:
                    continue
            refused: Ranges = []
            if share_max < SHARE_ALL:
                ranges, refused = split_by_share(
                    share_max, envelope, ranges, self._reader.fields, pause
                )
            count = _sum(ranges)
            unreadable = 0
            if take.source.redaction is not None:
                redacted = self._append_redacted(take.source, take.source.redaction, scope, ranges)
                count, unreadable = redacted, count - redacted
            else:
                for target in take.source.targets:
                    for at in range(0, len(ranges), ENTRIES):
                        pause()
                        for begin, end in ranges[at : at + ENTRIES]:
                            append_records(transaction, target, scope.group, envelope, begin, end)
            taken.append([*ranges, *refused] if refused else ranges)
            self._counts.sources.append((take.source, count, _sum(refused), unreadable))
        return stop - first - covered_by(taken, whole)

    def _append_redacted(
        self, source: RecordRoute, redaction: Redaction, scope: ScopeEntry, ranges: Ranges
    ) -> int:
        """Append redacted records; return how many could be read."""
        transaction, envelope = self._transaction, self._envelope
        pause, places = transaction.pace.pause, self._reader.fields.places
        found = cost = 0
        try:
            group = scope.group_for(redaction, pause)
        except (DecodeError, TooLargeError):
            return found
        for begin, end in ranges:
            for number in range(begin, end):
                message = envelope.record(number)
                cost += RECORD_COST + len(message)
                if cost > STEP_BYTES:
                    cost = 0
                    pause()
                try:
                    message = redaction.apply(message, places, pause)
                except (DecodeError, TooLargeError):
                    continue  # what may hide in it is not known: it must not leave
                record = field_bytes(RECORD_TAG, message)
                for target in source.targets:
                    append_rewritten(transaction, target, group, record)
                    if len(record) > STEP_BYTES:
                        pause()
                found += 1
        return found

    def _at(self, head: bytes, error: DecodeError) -> DecodeError:
        """Return the error with the place of the head in the request."""
        return DecodeError(str(error), offset=max(0, self._envelope.body.find(head)))

    def __repr__(self) -> str:
        return f"<UnknownHeads of {self._envelope!r}>"


def _sum(ranges: Ranges) -> int:
    return sum(end - begin for begin, end in ranges)
