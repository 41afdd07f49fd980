"""Draw a run's figures: CPU a sample by workload, the relay beside its peer and the floor.

Needs matplotlib, which is imported only when drawing.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from bench.goals.rows import ROWS, Figures

SHOWN = (
    ("scrape-platform cpu", "scrape-platform floor", "scrape, platform labels"),
    ("scrape cpu", "scrape floor", "scrape, bare labels"),
    ("worst cpu", "", "worst order"),
    ("filter cpu", "", "scrape, 4 % pass"),
    ("logs all", "", "log records"),
    ("logs some", "", "log records, 4 % pass"),
    ("traces all", "", "spans"),
    ("traces some", "", "spans, 4 % pass"),
)
"""Row of the peer, row of the floor where there is one, and how the workload is called."""

RELAY, PEER, FLOOR = "#1f6feb", "#a8b1bb", "#24292f"
BAR = 0.38


def draw_goals(path: Path, figures: Figures) -> None:
    """Write the picture, a PNG; a bar is the median of all pairs, its whisker least and most.

    Raise ImportError without matplotlib, ValueError where no row has a peer.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    rows = [one for one in SHOWN if one[0] in figures.costs_us]
    if not rows:
        raise ValueError("no row of the run has a peer")
    figure = Figure(figsize=(9, 1.2 + 0.62 * len(rows)))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side, (color, name) in enumerate(((RELAY, "relay"), (PEER, "peer"))):
        values = [[cost[side] for cost in figures.costs_us[key]] for key, _, _ in rows]
        middles = [median(each) for each in values]
        below = [middle - min(each) for middle, each in zip(middles, values, strict=True)]
        above = [max(each) - middle for middle, each in zip(middles, values, strict=True)]
        places = [place + (side - 0.5) * BAR for place in range(len(rows))]
        bars = axes.barh(
            places, middles, BAR, xerr=(below, above), color=color, label=name, capsize=2
        )
        texts = [f"{middle:.2f}" for middle in middles]
        if name == "peer":
            ratios = [figures.median(key) for key, _, _ in rows]
            texts = [
                f"{text}  {ROWS[key].beside}: {ratio:.1f} times"
                for text, ratio, (key, _, _) in zip(texts, ratios, rows, strict=True)
            ]
        axes.bar_label(bars, texts, padding=4, fontsize=8)
    floors = [
        (place - 0.5 * BAR, median(cost[1] for cost in figures.costs_us[floor]))
        for place, (_, floor, _) in enumerate(rows)
        if floor in figures.costs_us
    ]
    for place, floor in floors:
        axes.vlines(floor, place - BAR / 2, place + BAR / 2, colors=FLOOR, linewidth=2)
    if floors:
        axes.vlines([], 0, 0, colors=FLOOR, label="decompress, copy and compress the same bytes")
    axes.set_yticks(range(len(rows)), [title for _, _, title in rows])
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_xlabel("µs of CPU each, lower is better: median, least and most")
    axes.legend(loc="upper right", fontsize=8)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    figure.savefig(path, dpi=120, bbox_inches="tight")
