"""Implement ``relay top``: exporters and sinks of a running relay, the worst first, refreshed."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from relay.cli.check import counted
from relay.cli.live.admin_client import DEFAULT_URL, add_relay_argument, read_json
from relay.cli.live.screen import Screen
from relay.cli.live.sink_table import COLUMNS, SinkRow, fit, rule, sink_table
from relay.codec.signal_names import RECORD_UNITS
from relay.sink.reporting.health import STATES

INTERVAL_S: Final = 2.0
OLD_S: Final = 60.0
"""Age of the oldest waiting point from which on it is shown; s."""
SORTS: Final = ("state", "rate", "queue", "name")
_WORST_FIRST: Final = {"failing": 0, "paused": 1, "behind": 2, "healthy": 3}


def add_top_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_relay_argument(parser, default=DEFAULT_URL)
    parser.add_argument("--project", default="", metavar="NAME", help="what this project may see")
    parser.add_argument(
        "--exporter", default="", metavar="ID", help="this one; team/ stands for all below it"
    )
    parser.add_argument("--state", default="", choices=STATES, help="sinks in this state alone")
    parser.add_argument("--sort", default=SORTS[0], choices=SORTS, help="state: the worst first")
    parser.add_argument("--once", action="store_true", help="print one table and end")
    parser.add_argument(
        "--interval",
        type=_interval,
        default=INTERVAL_S,
        metavar="SECONDS",
        help=f"between two looks ({INTERVAL_S:g})",
    )


def run_top(arguments: argparse.Namespace) -> int:
    """Show the table until Ctrl-C on a terminal, once elsewhere. Raises ConfigError."""
    query = {name: getattr(arguments, name) for name in ("project", "exporter", "state")}
    live = sys.stdout.isatty() and not arguments.once
    screen = Screen(sys.stdout, live=live)
    try:
        while True:
            document = read_json(arguments.relay, "status", query)
            rows = rows_of(document, time.time())
            size = shutil.get_terminal_size((COLUMNS, 24))
            columns = max(COLUMNS, size.columns) if live else COLUMNS
            lines = render(document, sorted_rows(rows, arguments.sort), arguments.relay)
            shown = [fit(line, columns) for line in lines]
            if not live:
                screen.print(shown)
                return 0
            screen.show(_cut(shown, size.lines - 1))
            time.sleep(arguments.interval)
    except KeyboardInterrupt:
        return 0


def rows_of(document: Mapping[str, Any], now: float) -> list[SinkRow]:
    """Return a row for each sink of a status document, and for its logs and traces.

    ``now`` is the wall clock, s.
    """
    return [
        _row(exporter["name"], one, now)
        for exporter in document.get("exporters", ())
        for sink in exporter.get("sinks", ())
        for one in _outputs(sink, exporter.get("sources", ()))
    ]


def _outputs(
    sink: Mapping[str, Any], sources: Sequence[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """Yield a sink's metrics, then what it sends of logs and traces as sinks of their own.

    The rates of these are those of their sources. One without sources of metrics has a row of them
    only if there were some.
    """
    others = sink.get("signals", ())
    of_records = {name for one in others for name in one.get("sources", ())}
    ledger = sink["ledger"]
    if (
        not others
        or not of_records.issuperset(sink.get("sources", ()))
        or ledger["matched"]
        or ledger["queued"]
    ):
        yield sink
    rates = {one["name"]: one["usage"]["recordsPerMinute"] for one in sources}
    for one in others:
        rate = sum(rates.get(name, 0) for name in one.get("sources", ()))
        usage = {"samplesPerMinute": rate}
        yield {**one, "name": f"{sink['name']}/{one['signal']}", "usage": usage}


def _row(exporter: str, sink: Mapping[str, Any], now: float) -> SinkRow:
    ledger, error, usage = sink["ledger"], sink.get("lastError"), sink.get("usage")
    age_s = sink["queue"]["oldestPointAgeSeconds"]
    state = sink["state"] + (f", oldest {age_s:,.0f} s" if age_s >= OLD_S else "")
    return SinkRow(
        exporter=exporter,
        sink=sink["name"],
        matched=ledger["matched"],
        delivered=ledger["delivered"],
        rejected=sum(ledger["rejected"].values()),
        queued=ledger["queued"],
        rate=usage["samplesPerMinute"] if usage else 0.0,
        state=state,
        error=error["text"] if error else "",
        error_age_s=max(0.0, now - _seconds(error["at"])) if error else 0.0,
    )


def sorted_rows(rows: Sequence[SinkRow], by: str) -> list[SinkRow]:
    """Return the rows in order; those of an exporter stay together, at the place of its first."""
    keys: dict[str, Callable[[SinkRow], tuple[float, ...]]] = {
        "state": lambda row: (_WORST_FIRST.get(row.state.partition(",")[0], 0), -row.queued),
        "rate": lambda row: (-row.rate,),
        "queue": lambda row: (-row.queued,),
        "name": lambda _row: (),
    }
    key = keys[by]
    ordered = sorted(rows, key=lambda row: (*key(row), row.exporter, row.sink))
    place = {row.exporter: number for number, row in reversed(list(enumerate(ordered)))}
    return sorted(ordered, key=lambda row: place[row.exporter])


def render(document: Mapping[str, Any], rows: Sequence[SinkRow], relay: str) -> Iterator[str]:
    """Yield the lines of the table."""
    summary = document.get("summary", {})
    states = summary.get("sinks", {})
    counts = ", ".join(f"{states[state]:,} {state}" for state in STATES if states.get(state))
    yield rule(f"{relay} {time.strftime('%H:%M:%S')}")
    yield f"  {counted(summary.get('exporters', 0), 'exporter')}; sinks: {counts or 'none'}"
    ingest = document.get("ingest")
    if ingest is not None:
        yield (
            f"  received {ingest['receivedSamples']:,} samples of {ingest['activeSeries']:,} "
            f"series, {ingest['unmatchedSamples']:,} selected by none"
        )
        for signal, unit in RECORD_UNITS.items():
            records = ingest.get("records", {}).get(signal)
            if records and records["received"]:
                yield (
                    f"  received {records['received']:,} {unit} of "
                    f"{counted(records['resources'], 'resource')}, "
                    f"{records['unmatched']:,} selected by none"
                )
                if not_taken := _not_taken(records):
                    yield f"    not taken: {not_taken}"
    if document.get("faults"):
        yield f"  {counted(len(document['faults']), 'fault')} in manifests: see relay check"
    yield ""
    yield from sink_table(rows, rate="per min")


def _not_taken(records: Mapping[str, Any]) -> str:
    reasons = {"noTenant": "of no project", "tooLarge": "too large"}
    return ", ".join(
        f"{records[name]:,} {text}" for name, text in reasons.items() if records.get(name)
    )


def _cut(lines: list[str], most: int) -> list[str]:
    """Cut lines that a terminal has no room for: it cannot go back above its first one."""
    if len(lines) <= most:
        return lines
    kept = max(1, most - 1)
    return [*lines[:kept], f"  ... {len(lines) - kept:,} more lines: use a filter or --once"]


def _seconds(moment: str | None) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("must be seconds from 0.1 to 3600")
    return seconds
