"""Render sinks and their state as a table, for ``relay top`` and the demo. Pure.

Lines are of ASCII and have :data:`COLUMNS` characters unless a wider terminal is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

COLUMNS = 80
NAME_COLUMNS = 22


@dataclass(frozen=True, slots=True)
class SinkRow:
    """One sink at one moment, in points.

    ``rate`` is delivered points in the time that the column's title names. ``error`` is the last
    error, "" if there was none, and ``error_age_s`` its age.
    """

    exporter: str
    sink: str
    matched: int
    delivered: int
    rejected: int
    queued: int
    rate: float
    state: str
    error: str = ""
    error_age_s: float = 0.0


def sink_table(rows: Iterable[SinkRow], *, rate: str) -> Iterator[str]:
    """Yield a head and the rows, exporter by exporter; ``rate`` is the title of its column."""
    yield (
        f"  {'exporter / sink':<{NAME_COLUMNS + 2}}"
        f"{'matched':>10}{'delivered':>10}{'rejected':>9}{'queued':>8}{rate:>8} state"
    )
    for exporter, sinks in groupby(rows, key=lambda row: row.exporter):
        yield f"  {exporter}"
        for sink in sinks:
            yield from _sink_lines(sink)


def rule(title: str) -> str:
    """Return a line with a title in it."""
    return f"-- {title} ".ljust(COLUMNS, "-")


def fit(line: str, columns: int = COLUMNS) -> str:
    """Cut a line to the width and replace characters that a terminal could interpret."""
    line = "".join(char if char.isascii() and char.isprintable() else "?" for char in line)
    return line if len(line) <= columns else line[: columns - 3] + "..."


def number(value: float) -> str:
    """Format a whole number in at most nine characters."""
    if value < 10_000_000:
        return f"{value:,.0f}"
    exponent = min(int(math.log10(value)) // 3, 4)
    return f"{value / 1000**exponent:,.1f}{'kMGT'[exponent - 1]}"


def _sink_lines(row: SinkRow) -> Iterator[str]:
    yield (
        f"    {short_name(row.sink)}{number(row.matched):>10}{number(row.delivered):>10}"
        f"{number(row.rejected):>9}{number(row.queued):>8}{number(row.rate):>8} {row.state}"
    )
    if row.error:
        yield f"    {row.error_age_s:.0f} s ago: {row.error}"


def short_name(name: str) -> str:
    """Return a name in exactly :data:`NAME_COLUMNS` characters."""
    return name.ljust(NAME_COLUMNS) if len(name) <= NAME_COLUMNS else f"{name[: NAME_COLUMNS - 1]}~"
