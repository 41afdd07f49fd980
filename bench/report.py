"""Report results for people (tables) and machines (JSON, with the context to judge them)."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measurement import Measurement
from bench.ratios import Comparison

FOREIGN_SHARE_MAX = 0.1
"""Share of the machine's CPU used by others above which a run is marked as noisy."""

_VOID_CHARS_MAX = 1000
"""Longest reason in a table, in characters; the JSON has all of it."""

_COLUMNS = (
    ("peer", 26),
    ("run", 4),
    ("samples/CPU-s", 14),
    ("µs CPU/sample", 14),
    ("samples/s", 11),
    ("peak RSS MiB", 13),
    ("p50 ms", 8),
    ("p99 ms", 8),
    ("max ms", 8),
    ("idle", 6),
    ("verified", 9),
)


def table_head() -> str:
    """Return the column heads of :func:`table_row`."""
    return _row([name for name, _ in _COLUMNS])


def table_row(m: Measurement) -> str:
    """Format one run as a line: its figures, or the reason why it is void."""
    who = m.peer
    if m.beside:
        who += f", {m.workload}"
    if m.load:
        who += f", at {m.load:.0%}"
    if m.void:
        return f"{_row([who, str(m.pair + 1)]).rstrip()}  VOID: {m.void[:_VOID_CHARS_MAX]}"
    notes = ""
    if m.foreign_share > FOREIGN_SHARE_MAX:
        notes = (
            f"  noisy: others used {m.foreign_share:.0%} of the CPU ({m.stolen_share:.0%} stolen)"
        )
    if m.exhausted:
        notes += f"  all sent in {m.sending_s:.1f} s"
    if m.lag_max_s >= 0:
        notes += f"  loop lag p99 {m.lag_p99_s * 1000:.1f} ms, max {m.lag_max_s * 1000:.1f} ms"
    if m.load:
        notes += f"  {m.scrapes} scrapes, {m.reloads} reloads"
        if m.previews:
            notes += f", {m.previews} previews, {m.page_bytes:,} bytes to a page"
    cells = [
        who,
        str(m.pair + 1),
        f"{m.samples_per_cpu_s:,.0f}",
        f"{1e6 / m.samples_per_cpu_s:.3f}",
        f"{m.samples_per_s:,.0f}",
        f"{m.rss_peak_bytes / 2**20:,.0f}",
        f"{m.latency_p50_s * 1000:,.1f}",
        f"{m.latency_p99_s * 1000:,.1f}",
        f"{m.latency_max_s * 1000:,.1f}",
        f"{m.idle_share:.0%}",
        f"{m.verified_points:,}",
    ]
    return _row(cells) + notes


def write_results(
    path: Path,
    options: Mapping[str, Any],
    versions: Mapping[str, str],
    measurements: Sequence[Measurement],
    comparisons: Mapping[str, Sequence[Comparison]],
    left_out: Sequence[str] = (),
) -> None:
    """Write everything as one JSON document; ``comparisons`` by workload."""
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": dict(options),
        "machine": machine(),
        "commit": commit(),
        "versions": dict(versions),
        "left_out": list(left_out),
        "ratios": {
            workload: [_comparison(one) for one in several]
            for workload, several in comparisons.items()
        },
        "runs": [asdict(m) for m in measurements],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _comparison(one: Comparison) -> dict[str, Any]:
    return {
        "title": one.title,
        "median": one.median,
        "pairs": one.values,
        "wanted": str(one.bound),
        "holds": one.holds,
    }


def _row(cells: Sequence[str]) -> str:
    return " ".join(
        cell.ljust(width) if index == 0 else cell.rjust(width)
        for index, (cell, (_, width)) in enumerate(zip(cells, _COLUMNS, strict=False))
    )


def machine() -> dict[str, Any]:
    """Return processor, cores, load, kernel and Python of this machine."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """Return the commit, marked if files differ from it; "" outside of a checkout."""
    root = Path(__file__).parent.parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=root,
            capture_output=True,
            check=False,
            timeout=30,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.decode().strip()
