"""Render the demo's live view and final ledger, for :mod:`relay.cli.live.screen`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from relay.cli.demo.agent import AgentStatistics
from relay.cli.demo.audit import Audit, Check, SinkAudit
from relay.cli.demo.records.agent import RecordAgentStatistics
from relay.cli.live.sink_table import (
    NAME_COLUMNS,
    SinkRow,
    fit,
    number,
    rule,
    short_name,
    sink_table,
)
from relay.codec.signal_names import RECORD_UNITS
from relay.control.reconcile.sink_entry import SinkKey
from relay.control.reconcile.sink_report import SinkReport
from relay.pipeline.records.results import RecordStatistics

_LEDGER_HEAD = (
    f"  {'exporter / sink':<{NAME_COLUMNS + 2}}"
    f"{'matched':>10}{'delivered':>10}{'rejected':>10}{'expired':>8}{'dropped':>8}{'queued':>8}"
)


class DemoPace:
    """Make rows from reports, with rates since the previous rows."""

    def __init__(self) -> None:
        self._elapsed_s = 0.0
        self._delivered: dict[SinkKey, int] = {}

    def rows(
        self, reports: Iterable[SinkReport], *, elapsed_s: float, now: float
    ) -> tuple[SinkRow, ...]:
        """Return one row for each sink; ``now`` is the wall clock in s."""
        interval_s = elapsed_s - self._elapsed_s
        self._elapsed_s = elapsed_s
        return tuple(self._row(report, interval_s, now) for report in reports)

    def _row(self, report: SinkReport, interval_s: float, now: float) -> SinkRow:
        key = (report.exporter, report.sink)
        ledger = report.ledger
        error = report.worker.last_error
        gained = ledger.delivered - self._delivered.get(key, 0)
        self._delivered[key] = ledger.delivered
        return SinkRow(
            exporter=report.exporter,
            sink=report.sink,
            matched=report.matched,
            delivered=ledger.delivered,
            rejected=sum(ledger.rejected.values()),
            queued=ledger.queued + report.open,
            rate=gained / interval_s if interval_s > 0 else 0.0,
            state=report.worker.state,
            error=error.text if error else "",
            error_age_s=max(0.0, now - error.at) if error else 0.0,
        )

    def __repr__(self) -> str:
        return f"<Pace at {self._elapsed_s:.1f} s>"


@dataclass(frozen=True, slots=True)
class View:
    """Contents of the table. ``seconds`` is the demo's duration, None if unlimited.

    ``records`` are the agents of logs and traces, each with what the relay has counted.
    """

    elapsed_s: float
    seconds: float | None
    agents: tuple[AgentStatistics, ...]
    received: int
    unmatched: int
    series: int
    sinks: tuple[SinkRow, ...]
    records: tuple[tuple[RecordAgentStatistics, RecordStatistics], ...] = ()


def render(view: View) -> list[str]:
    """Render the live table."""
    until = "Ctrl-C ends it" if view.seconds is None else f"of {clock(view.seconds)}"
    requests = " and ".join(f"{agent.requests:,} {agent.encoding}" for agent in view.agents)
    sent = sum(agent.samples for agent in view.agents)
    lines = [
        rule(f"{clock(view.elapsed_s)} {until}"),
        f"  platform sent      {sent:>11,} samples in {requests} requests",
        f"  relay received     {view.received:>11,} samples of {view.series:,} series",
        f"  selected by none   {view.unmatched:>11,} of them",
        *(_records_line(agent, counted) for agent, counted in view.records),
        "",
        *sink_table(view.sinks, rate="rate/s"),
    ]
    return [fit(line) for line in lines]


def _records_line(agent: RecordAgentStatistics, counted: RecordStatistics) -> str:
    unit = RECORD_UNITS[agent.signal]
    return (
        f"  {unit:<18} {agent.records:>11,} sent, {counted.received:,} received, "
        f"{counted.unmatched:,} selected by none"
    )


def render_ledger(audit: Audit) -> list[str]:
    """Render the final ledger: every check, with its verdict in the margin."""
    lines = [rule("ledger"), "  samples, log records and spans"]
    for check in audit.checks:
        counts = f"{check.left:,}" if check.balanced else f"{check.left:,} != {check.right:,}"
        lines.append(f"{_verdict([check])}{check.what}: {counts}")
    lines += [
        "",
        "  points or records: matched = delivered + rejected + expired + dropped + queued",
        _LEDGER_HEAD,
    ]
    for exporter, sinks in groupby(audit.sinks, key=lambda sink: sink.exporter):
        lines.append(f"  {exporter}")
        for sink in sinks:
            lines += _ledger_lines(sink)
    return [fit(line) for line in lines]


def cut(lines: list[str], rows: int) -> list[str]:
    """Return as many lines as there are rows; the last one says how many are left out."""
    if len(lines) <= rows:
        return lines
    return [*lines[: rows - 1], f"  ... {len(lines) - rows + 1} more lines"]


def clock(seconds: float) -> str:
    """Format seconds as ``mm:ss``; minutes may exceed 59."""
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def _ledger_lines(sink: SinkAudit) -> Iterator[str]:
    yield (
        f"{_verdict(sink.own)}{short_name(sink.sink)}"
        f"{number(sink.matched):>10}{number(sink.delivered):>10}{number(sink.rejected):>10}"
        f"{number(sink.expired):>8}{number(sink.dropped):>8}{number(sink.queued):>8}"
    )
    endpoint = sink.endpoint
    if endpoint is None:
        return
    yield (
        f"{_verdict(sink.across)}{'  its endpoint says':<{NAME_COLUMNS}}"
        f"{'':>10}{number(endpoint.kept):>10}{number(endpoint.rejected):>10}"
    )
    if sink.intended:
        yield (
            f"{_verdict(sink.intended)}{'  meant to arrive':<{NAME_COLUMNS}}"
            f"{'':>10}{number(sink.intended[0].left):>10}"
        )


def _verdict(checks: Sequence[Check]) -> str:
    return " ok " if all(check.balanced for check in checks) else " !! "
