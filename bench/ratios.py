"""Compare peers, and workloads with the export of the same peer, against expected bounds.

Ratios are taken pair by pair, of consecutive runs, and the median counts; pairs with a void run are
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.measurement import Measurement
from bench.workload import EXPORT

_Read = Callable[[Measurement], float]

CPU_RATE = "samples per CPU-second"
CLOCK_RATE = "samples per second"
CPU_EACH = "CPU per sample"
CPU_DELIVERED = "CPU per delivered point"

FIGURES: Mapping[str, _Read] = {
    CPU_RATE: lambda m: m.samples_per_cpu_s,
    CLOCK_RATE: lambda m: m.samples_per_s,
    CPU_EACH: lambda m: 1 / m.samples_per_cpu_s,
    CPU_DELIVERED: lambda m: m.cpu_s / m.points,
    "p99 of answers, ms": lambda m: m.latency_p99_s * 1e3,
    "worst answer, ms": lambda m: m.latency_max_s * 1e3,
    "p99 of event loop lag, ms": lambda m: m.lag_p99_s * 1e3,
    "worst event loop lag, ms": lambda m: m.lag_max_s * 1e3,
}


@dataclass(frozen=True, slots=True)
class Bound:
    """Bounds of a ratio or figure; 0 means none."""

    at_least: float = 0.0
    at_most: float = 0.0

    def holds(self, value: float) -> bool:
        """Return whether the value is within the bounds."""
        return value >= self.at_least and (not self.at_most or value <= self.at_most)

    def __str__(self) -> str:
        parts = []
        if self.at_least:
            parts.append(f"at least {self.at_least:,g}")
        if self.at_most:
            parts.append(f"at most {self.at_most:,g}")
        return " and ".join(parts)


ANY = Bound()

PEER_BOUNDS: Mapping[tuple[str, str, str, str], Bound] = {
    **{
        (workload, "relay", other, CPU_RATE): Bound(at_least=ratio)
        for workload, ratio in (("scrape", 1.0), ("scrape-platform", 1.4), ("worst", 1.2))
        for other in ("vmagent", "vmagent-newest")
    },
    **{
        (workload, relay, "vmagent-newest", CPU_RATE): Bound(at_least=1.5)
        for workload in ("scrape", "scrape-platform", "worst")
        for relay in ("relay-remote-write", "relay-remote-write-2")
    },
    ("export", "relay", "vmagent", CPU_RATE): Bound(at_least=1.7),
    ("export", "relay", "vmagent", CLOCK_RATE): Bound(at_least=1.0),
    ("filter", "relay", "vmagent", CPU_RATE): Bound(at_least=2.5),
}
"""By workload, peer, other peer, and figure."""

EXPORT_BOUNDS: Mapping[str, Mapping[str, Bound]] = {
    "fanout": {CPU_DELIVERED: Bound(at_most=0.8)},
    "tenants": {CPU_EACH: Bound(at_most=2.0)},
    "seed": {CPU_EACH: Bound(at_most=1.6)},
    "churn": {CPU_EACH: ANY},
    "histograms": {CPU_EACH: Bound(at_most=2.0)},
    "v2": {CPU_EACH: Bound(at_most=1.3)},
    "zstd": {CPU_EACH: Bound(at_most=1.3)},
    "durable": {CPU_RATE: Bound(at_least=0.85), CLOCK_RATE: Bound(at_least=0.85)},
    "shuffled": {CPU_EACH: Bound(at_most=1.6)},
}
"""By workload: figures that are compared with those of export, by the same peer."""

FIGURE_BOUNDS: Mapping[str, Mapping[str, Bound]] = {
    "cold": {CLOCK_RATE: Bound(at_least=100_000), CPU_RATE: ANY},
    "scrape-cold": {CLOCK_RATE: Bound(at_least=200_000), CPU_RATE: ANY},
    "scrape-cold-platform": {CLOCK_RATE: Bound(at_least=130_000), CPU_RATE: ANY},
}
"""By workload: absolute figures. They depend on the machine."""

LOAD_BOUNDS: Mapping[str, Bound] = {
    "p99 of answers, ms": Bound(at_most=100),
    "worst answer, ms": ANY,
    "p99 of event loop lag, ms": Bound(at_most=50),
    "worst event loop lag, ms": ANY,
}
"""Of a run at a share of the peer's maximum."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure with its bound; one value for each pair."""

    title: str
    values: tuple[float, ...]
    bound: Bound

    @property
    def median(self) -> float:
        """The median of the values."""
        return median(self.values)

    @property
    def holds(self) -> bool:
        """True if the median is within the bound."""
        return self.bound.holds(self.median)

    def line(self) -> str:
        """Format for people."""
        wanted = str(self.bound)
        if wanted:
            wanted = f" ({wanted})" if self.holds else f" ({wanted}: MISSED)"
        each = "  ".join(map(_shown, self.values))
        return f"{self.title}: {_shown(self.median)}{wanted}   (pair by pair: {each})"


def compare(measurements: Sequence[Measurement]) -> list[Comparison]:
    """Return all comparisons of one workload's runs, including those of export beside them.

    The first peer is compared with each other one, and with its own export.
    """
    if not measurements:
        return []
    return [
        *compare_peers(measurements),
        *_with_export(measurements),
        *_alone(measurements),
    ]


def compare_peers(
    measurements: Sequence[Measurement], figures: Sequence[str] = (CPU_RATE, CLOCK_RATE)
) -> Iterator[Comparison]:
    """Compare the first peer with each other one; figures without a value are left out."""
    own = [m for m in measurements if not m.beside and not m.load]
    peers = list(dict.fromkeys(m.peer for m in own))
    for other in peers[1:]:
        for figure in figures:
            values = _ratios(
                figure,
                [m for m in own if m.peer == peers[0]],
                [m for m in own if m.peer == other],
            )
            key = (own[0].workload, peers[0], other, figure)
            if values:
                title = f"{peers[0]} / {other}, {figure}"
                yield Comparison(title, values, PEER_BOUNDS.get(key, ANY))


def _with_export(measurements: Sequence[Measurement]) -> Iterator[Comparison]:
    references = [m for m in measurements if m.beside]
    for workload in dict.fromkeys(m.beside for m in references):
        peer = references[0].peer
        own = [m for m in measurements if m.workload == workload and m.peer == peer and not m.load]
        for figure, bound in EXPORT_BOUNDS[workload].items():
            values = _ratios(figure, own, references)
            if values:
                yield Comparison(f"{workload} / {EXPORT}, {figure}", values, bound)


def _alone(measurements: Sequence[Measurement]) -> Iterator[Comparison]:
    own = [m for m in measurements if not m.beside and not m.void]
    for peer in dict.fromkeys(m.peer for m in own):
        runs = [m for m in own if m.peer == peer and not m.load]
        for figure, bound in FIGURE_BOUNDS.get(own[0].workload, {}).items():
            if runs:
                values = tuple(FIGURES[figure](m) for m in runs)
                yield Comparison(
                    f"{peer}, {figure.replace('samples', 'new series')}", values, bound
                )
        loaded = [m for m in own if m.peer == peer and m.load]
        for figure, bound in LOAD_BOUNDS.items():
            values = tuple(FIGURES[figure](m) for m in loaded)
            if values and min(values) >= 0:
                title = f"{peer} at {loaded[0].load:.0%} of its maximum, {figure}"
                yield Comparison(title, values, bound)


def _ratios(
    figure: str, left: Sequence[Measurement], right: Sequence[Measurement]
) -> tuple[float, ...]:
    read = FIGURES[figure]
    by_pair = {m.pair: read(m) for m in right if not m.void}
    return tuple(read(m) / by_pair[m.pair] for m in left if not m.void and by_pair.get(m.pair))


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"
