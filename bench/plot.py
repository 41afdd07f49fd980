"""Draw the results: µs of CPU per sample, by workload and peer.

Needs matplotlib, which is imported only when drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.measurement import Measurement

_BAR = 0.8
"""Height of a workload's bars together, in a row of height 1.0."""


def costs(measurements: Sequence[Measurement]) -> dict[str, dict[str, list[float]]]:
    """Return µs of CPU per sample of each valid run, by workload and peer.

    Runs of export beside another workload count as export's.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for m in measurements:
        if not m.void and not m.load:
            by_peer = found.setdefault(m.workload, {})
            by_peer.setdefault(m.peer, []).append(1e6 / m.samples_per_cpu_s)
    return found


def draw(path: Path, measurements: Sequence[Measurement], title: str) -> None:
    """Write the picture, a PNG by default or by the suffix of ``path``.

    A bar is the median of a workload's runs, its whisker minimum and maximum. Raise ImportError
    without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    by_workload = costs(measurements)
    peers = list(dict.fromkeys(m.peer for m in measurements))
    height = _BAR / len(peers)
    figure = Figure(figsize=(9, 1.5 + 0.25 * len(by_workload) * max(2, len(peers))))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, peer in enumerate(peers):
        rows = [
            (position, by_peer[peer])
            for position, by_peer in enumerate(by_workload.values())
            if peer in by_peer
        ]
        if not rows:
            continue
        middles = [median(values) for _, values in rows]
        places = [position + (number - (len(peers) - 1) / 2) * height for position, _ in rows]
        below = [middle - min(values) for middle, (_, values) in zip(middles, rows, strict=True)]
        above = [max(values) - middle for middle, (_, values) in zip(middles, rows, strict=True)]
        bars = axes.barh(places, middles, height, xerr=(below, above), label=peer, capsize=2)
        axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=8)
    axes.set_yticks(range(len(by_workload)), list(by_workload))
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("µs of CPU a sample: median, least and most")
    axes.set_title(title, fontsize=9)
    axes.legend()
    figure.savefig(path, dpi=150, bbox_inches="tight")
