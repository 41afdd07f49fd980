"""The status of an object and its sinks, as it is shown wherever a status is shown. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.config.exporter.load_result import ObjectKey
from relay.control.reconcile.sink_report import SinkReport
from relay.control.status.conditions import StatusCondition


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """Points of a sink by their fate."""

    matched: int = 0
    delivered: int = 0
    rejected: int = 0
    expired: int = 0
    dropped: int = 0
    queued: int = 0


@dataclass(frozen=True, slots=True)
class UsageFigures:
    """Cost of an object, a source or a sink."""

    active_series: int = 0
    samples_per_minute: int = 0
    bytes_per_minute: int = 0
    resent_per_minute: int = 0
    records_per_minute: int = 0


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """The status of one sink. Times are wall clock, s; None: never. ``usage`` None: unknown."""

    name: str
    conditions: tuple[StatusCondition, ...]
    last_success: float | None = None
    last_error_at: float | None = None
    last_error: str = ""
    ledger: LedgerCounts | None = None
    usage: UsageFigures | None = None


@dataclass(frozen=True, slots=True)
class ObjectConditions:
    """The conditions of one object and of its sinks by name; ``runs``: a version of it."""

    key: ObjectKey
    runs: bool
    conditions: tuple[StatusCondition, ...]
    sinks: Mapping[str, tuple[StatusCondition, ...]]


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """The status of one object. ``relays``: ``"2 of 3"``, "" for a single relay."""

    conditions: tuple[StatusCondition, ...]
    sinks: tuple[SinkStatus, ...] = ()
    usage: UsageFigures | None = None
    source_usage: Mapping[str, UsageFigures] = field(default_factory=dict)
    relays: str = ""


def sink_status(
    name: str,
    conditions: tuple[StatusCondition, ...],
    report: SinkReport | None,
    usage: UsageFigures | None,
) -> SinkStatus:
    """Return the status of a sink; without a report it does not run, or nobody can tell."""
    if report is None:
        return SinkStatus(name, conditions)
    worker, ledger = report.worker, report.ledger
    error = worker.last_error
    return SinkStatus(
        name,
        conditions,
        last_success=worker.last_success_at,
        last_error_at=error.at if error else None,
        last_error=error.text if error else "",
        ledger=LedgerCounts(
            matched=report.matched,
            delivered=ledger.delivered,
            rejected=sum(ledger.rejected.values()),
            expired=ledger.expired,
            dropped=sum(ledger.dropped.values()),
            queued=ledger.queued + report.open,
        ),
        usage=usage,
    )
