"""The table of goals: a line for each figure, and the part of a run that measures it.

A *part* is what ``--rows`` names; it is measured once for each pair, or once in all. Ratios are the
relay's figure through the peer's of the same pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from bench.ratios import Bound


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``beside`` is empty for absolute figures."""

    part: str
    title: str
    beside: str
    unit: str
    wanted: Bound


NEWEST = "vmagent, newest"
DEBIAN = "vmagent 1.79"
CPU = "samples per CPU-second"
CLOCK = "wall clock"
MEMORY = "resident memory at the most"
FLOOR = "decompress, one copy, compress"

ROWS: Mapping[str, Row] = {
    "scrape-platform cpu": Row(
        "scrape-platform", "scrape, platform labels, export all", NEWEST, CPU, Bound(3.5)
    ),
    "scrape cpu": Row("scrape", "scrape, bare labels, export all", NEWEST, CPU, Bound(2.5)),
    "scrape-platform clock": Row(
        "scrape-platform", "scrape, platform labels", NEWEST, CLOCK, Bound(1.5)
    ),
    "scrape clock": Row("scrape", "scrape, bare labels", NEWEST, CLOCK, Bound(1.5)),
    "worst cpu": Row("worst", "worst order", DEBIAN, CPU, Bound(2.0)),
    "filter cpu": Row("filter", "scrape filtered, 4 % pass", NEWEST, CPU, Bound(4.0)),
    "logs all": Row("logs", "logs, all", "Collector", "records per CPU-second", Bound(6.0)),
    "logs some": Row("logs", "logs, 4 %", "Collector", "records per CPU-second", Bound(12.0)),
    "traces all": Row("traces", "traces, all", "Collector", "spans per CPU-second", Bound(6.0)),
    "traces some": Row("traces", "traces, 4 %", "Collector", "spans per CPU-second", Bound(12.0)),
    "logs memory": Row("logs", "logs, all, 8 senders", "Collector", MEMORY, Bound(0, 1.0)),
    "traces memory": Row("traces", "traces, all, 8 senders", "Collector", MEMORY, Bound(0, 1.0)),
    "scrape-platform floor": Row(
        "scrape-platform", "own cost, platform labels", FLOOR, "times the CPU", Bound(0, 1.4)
    ),
    "scrape floor": Row("scrape", "own cost, bare labels", FLOOR, "times the CPU", Bound(0, 2.5)),
    "memory": Row("memory", "1,000,000 series, bare labels", "", "MiB resident", Bound(0, 600)),
    "memory-platform": Row(
        "memory-platform", "1,000,000 series, platform labels", "", "MiB resident", Bound(0, 1100)
    ),
    "sinks": Row("sinks", "10,000 sinks, 100,000 series", "", "MiB resident", Bound(0, 400)),
    "cold": Row("cold", "cold, bare labels", "", "new series a second", Bound(200_000)),
    "cold-platform": Row(
        "cold-platform", "cold, platform labels", "", "new series a second", Bound(130_000)
    ),
    "load p99": Row(
        "load", "p99 of answers at 80 %: scrapes, reload, previews, page", "", "ms", Bound(0, 40)
    ),
}

PARTS = tuple(dict.fromkeys(row.part for row in ROWS.values()))
ONCE = ("memory", "memory-platform", "sinks")
"""Parts whose figures do not depend on the neighbours: measured once."""


@dataclass(slots=True)
class Figures:
    """Values of each row, pair by pair, and notes on what they are made of."""

    values: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    costs_us: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """CPU a sample of the relay and of what it is held against, for rows that are made of these."""

    faults: list[str] = field(default_factory=list)
    """Runs that gave no value, with the reason."""

    def add(self, row: str, value: float, note: str = "") -> None:
        """Record a value of one pair."""
        assert row in ROWS
        self.values.setdefault(row, []).append(value)
        if note:
            self.notes.setdefault(row, []).append(note)

    def add_cost(self, row: str, own_us: float, other_us: float, value: float, each: str) -> None:
        """Record a value that is made of two costs, each of one ``each``."""
        self.add(row, value, f"{own_us:.3f}, {other_us:.3f} µs {each}")
        self.costs_us.setdefault(row, []).append((own_us, other_us))

    def median(self, row: str) -> float | None:
        """Return the median of a row's values, None where there are none."""
        values = self.values.get(row)
        return median(values) if values else None
