"""Build the parts of :mod:`relay.api.status` about the data directory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from relay.control.durability.replay import ReplayStatistics
from relay.control.kubernetes.status_body import written_time
from relay.control.reconcile.sink_report import SinkReport, sum_ledgers
from relay.sink.reporting.ledger import LedgerStatistics
from relay.storage.journal.statistics import JournalStatistics
from relay.telemetry.snapshot import JournalFigures, OrphanFigures, StorageFigures

if TYPE_CHECKING:
    from relay.sink.spill.orphans import OrphanReport, OrphanStatistics
    from relay.sink.spill.store import StoreStatistics


def orphan_figures(orphans: OrphanStatistics) -> OrphanFigures:
    """Return the figures of queues whose sinks do not run."""
    return OrphanFigures(
        queues=len(orphans.queues),
        points=orphans.waiting,
        bytes=orphans.bytes,
        outcomes={
            "orphaned": orphans.orphaned,
            "adopted": orphans.adopted,
            "expired": orphans.expired,
            "deleted": orphans.deleted,
            "dropped": orphans.dropped,
            "damaged": orphans.damaged,
        },
    )


def queues_figures(store: StoreStatistics) -> StorageFigures:
    """Return the figures of the sinks' queues on disk."""
    return StorageFigures(
        part="queues",
        used_bytes=store.used_bytes,
        bytes_max=store.bytes_max,
        degraded=bool(store.trouble),
        errors=store.errors,
        written_bytes=store.saved_bytes,
        damaged_records=store.damaged.records,
        damaged_bytes=store.damaged.bytes,
        torn_bytes=store.damaged.torn_bytes,
    )


def journal_storage(journal: JournalStatistics) -> StorageFigures:
    """Return the figures of the journal as a part of the disk."""
    return StorageFigures(
        part="journal",
        used_bytes=journal.bytes,
        bytes_max=journal.bytes_max,
        degraded=bool(journal.trouble),
        errors=journal.errors,
        written_bytes=journal.record_bytes,
        damaged_records=journal.corrupt_stretches + journal.unreadable_segments,
        damaged_bytes=journal.corrupt_bytes,
        torn_bytes=journal.torn_bytes,
    )


def journal_figures(journal: JournalStatistics, replay: ReplayStatistics) -> JournalFigures:
    """Return the figures of the journal's operations."""
    return JournalFigures(
        requests={
            "written": journal.records,
            "unjournaled": journal.unjournaled_requests,
            "replayed": replay.requests,
            "unreplayable": replay.undecodable,
            "given_up": replay.given_up,
        },
        operations={
            "write": journal.groups,
            "flush": journal.flushes,
            "slow": journal.slow_writes,
        },
        replay_left_bytes=replay.left_bytes,
    )


def journal_document(journal: JournalStatistics, replay: ReplayStatistics) -> dict[str, Any]:
    """Return the journal's part of ``/status``."""
    return {
        "journal": {
            "usedBytes": journal.bytes,
            "maxBytes": journal.bytes_max,
            "trouble": journal.trouble or None,
            "errors": journal.errors,
            "unjournaledRequests": journal.unjournaled_requests,
            "damagedRecords": journal.corrupt_stretches + journal.unreadable_segments,
            "damagedBytes": journal.corrupt_bytes,
            "tornBytes": journal.torn_bytes,
            "replay": {
                "active": replay.active,
                "requests": replay.requests,
                "unreplayable": replay.undecodable,
                "givenUp": replay.given_up,
                "leftBytes": replay.left_bytes,
            },
        }
    }


def removed_figures(ledger: LedgerStatistics) -> dict[str, int]:
    """Return the points of removed sinks by outcome; ``deleted`` were dropped with their object."""
    deleted = ledger.dropped.get("deleted", 0)
    return {
        "delivered": ledger.delivered,
        "rejected": sum(ledger.rejected.values()),
        "expired": ledger.expired,
        "deleted": deleted,
        "dropped": sum(ledger.dropped.values()) - deleted,
    }


def without_namesakes(
    sinks: Iterable[SinkReport], removed: LedgerStatistics
) -> tuple[list[SinkReport], LedgerStatistics]:
    """Return one report of each name, and the ledger of removed sinks with what the others did.

    While a sink of a deleted object drains, another object may have its names, and labels.
    ``removed`` is the ledger of those that have ended, and what still waits is no outcome.
    """
    found: dict[tuple[str, str], SinkReport] = {}
    others = [
        report.ledger
        for report in sinks
        if found.setdefault((report.exporter, report.sink), report) is not report
    ]
    return list(found.values()), sum_ledgers([removed, *others])


def queues_document(store: StoreStatistics) -> dict[str, Any]:
    """Return the queues' part of ``/status``."""
    return {
        "queues": {
            "usedBytes": store.used_bytes,
            "maxBytes": store.bytes_max,
            "trouble": store.trouble or None,
            "errors": store.errors,
            "damagedRecords": store.damaged.records,
            "damagedBytes": store.damaged.bytes,
            "tornBytes": store.damaged.torn_bytes,
            "orphans": _orphans(store.orphans),
        }
    }


def _orphans(orphans: OrphanStatistics) -> dict[str, Any]:
    return {
        "ledger": {
            "orphaned": orphans.orphaned,
            "adopted": orphans.adopted,
            "expired": orphans.expired,
            "deleted": orphans.deleted,
            "dropped": orphans.dropped,
            "damaged": orphans.damaged,
            "waiting": orphans.waiting,
        },
        "queues": [orphan_document(queue) for queue in orphans.queues],
    }


def orphan_document(queue: OrphanReport) -> dict[str, Any]:
    """Return the ``/status`` entry of one orphan."""
    return {
        "exporter": queue.exporter,
        "sink": queue.sink,
        "host": queue.host or None,
        "points": queue.points,
        "bytes": queue.bytes,
        "since": time_document(queue.orphaned_at),
        "keptUntil": time_document(queue.expires_at),
    }


def time_document(seconds: float | None) -> str | None:
    """Format seconds since the epoch as RFC 3339 in UTC, as Kubernetes does; None for 0 or None."""
    return written_time(seconds) if seconds else None
