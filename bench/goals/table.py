"""Write the table of goals as Markdown, and everything of a run as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.goals.rows import ROWS, Figures, Row
from bench.measurement import Measurement
from bench.report import commit, machine


def table(figures: Figures, versions: Mapping[str, str], seconds: float) -> Iterator[str]:
    """Yield the lines of the document: where and when, a line for each row, faults."""
    here = machine()
    yield f"Measured {datetime.now(UTC):%Y-%m-%d}, commit {commit() or 'unknown'}, on {here['cpu']}"
    yield f"with {here['cores']} cores, kernel {here['kernel']}, load {here['load_average'][0]:.1f}"
    yield f"at the end; {seconds:g} s of sending for each run."
    yield ""
    for name, version in versions.items():
        yield f"- {name}: {' '.join(version.split())}"
    yield ""
    yield "| workload | beside | figure | wanted | median | pair by pair | made of |"
    yield "|---|---|---|---|---|---|---|"
    for key, row in ROWS.items():
        middle = figures.median(key)
        if middle is not None:
            yield _line(row, middle, figures.values[key], figures.notes.get(key, []))
    for fault in figures.faults:
        yield ""
        yield f"No value: {' '.join(fault.split())[:500]}"


def _line(row: Row, middle: float, values: Sequence[float], notes: Sequence[str]) -> str:
    met = "" if row.wanted.holds(middle) else ": missed"
    each = ", ".join(map(shown, values))
    cells = [
        row.title,
        row.beside or "-",
        row.unit,
        f"{row.wanted}{met}",
        f"**{shown(middle)}**",
        each,
        "; ".join(notes),
    ]
    return f"| {' | '.join(cells)} |"


def shown(value: float) -> str:
    """Format a figure for people."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def write(
    directory: Path,
    figures: Figures,
    versions: Mapping[str, str],
    measurements: Sequence[Measurement],
    seconds: float,
) -> None:
    """Write ``goals.md`` and ``goals.json`` into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(table(figures, versions, seconds))
    (directory / "goals.md").write_text(f"{lines}\n", encoding="utf-8")
    document: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": dict(versions),
        "figures": asdict(figures),
        "runs": [asdict(one) for one in measurements],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (directory / "goals.json").write_text(f"{text}\n", encoding="utf-8")
