"""The status of an object and its sinks, as it is shown wherever a status is shown. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from relay.config.exporter.load_result import ObjectKey
from relay.control.reconcile.sink_report import SinkReport
from relay.control.status.conditions import StatusCondition


class LedgerCounts(msgspec.Struct, frozen=True):
    """Points of a sink, or records of a signal, by their fate."""

    matched: int = 0
    delivered: int = 0
    rejected: int = 0
    expired: int = 0
    dropped: int = 0
    queued: int = 0


class UsageFigures(msgspec.Struct, frozen=True):
    """Cost of an object, a source or a sink."""

    active_series: int = 0
    samples_per_minute: int = 0
    bytes_per_minute: int = 0
    resent_per_minute: int = 0
    records_per_minute: int = 0


@dataclass(frozen=True, slots=True)
class SignalStatus:
    """One signal that a sink sends. Times are wall clock, s; None: never."""

    signal: str
    last_success: float | None = None
    last_error_at: float | None = None
    last_error: str = ""
    ledger: LedgerCounts | None = None


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """The status of one sink. Times are wall clock, s; None: never. ``usage`` None: unknown.

    ``ledger`` is of metrics, None where it sends none. Times and error are those of all signals;
    ``signals`` has each of them, () where it sends metrics alone.
    """

    name: str
    conditions: tuple[StatusCondition, ...]
    last_success: float | None = None
    last_error_at: float | None = None
    last_error: str = ""
    ledger: LedgerCounts | None = None
    usage: UsageFigures | None = None
    signals: tuple[SignalStatus, ...] = ()


class ObjectConditions(msgspec.Struct, frozen=True):
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
    reports: Mapping[str, SinkReport],
    usage: UsageFigures | None,
) -> SinkStatus:
    """Return the status of a sink by the reports of its signals.

    Without any it does not run, or nobody can tell.
    """
    signals = tuple(_signal_status(signal, report) for signal, report in reports.items())
    failed = max(
        (one for one in signals if one.last_error_at is not None),
        key=lambda one: one.last_error_at or 0.0,
        default=None,
    )
    successes = [one.last_success for one in signals if one.last_success is not None]
    return SinkStatus(
        name,
        conditions,
        last_success=max(successes, default=None),
        last_error_at=failed.last_error_at if failed else None,
        last_error=failed.last_error if failed else "",
        ledger=next((one.ledger for one in signals if one.signal == "metrics"), None),
        usage=usage,
        signals=() if reports.keys() <= {"metrics"} else signals,
    )


def _signal_status(signal: str, report: SinkReport) -> SignalStatus:
    worker, ledger = report.worker, report.ledger
    error = worker.last_error
    return SignalStatus(
        signal,
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
    )
