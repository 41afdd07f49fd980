"""Simulated instruments, which advance their series by one step at a time.

Counters only increase and histograms' buckets are cumulative, as in a real process.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from relay.cli.demo.write_request import DemoFamily, encode_labels


class DemoSeries:
    """One series: its labels, as a mapping and encoded, and its latest value."""

    __slots__ = ("encoded", "labels", "value")

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = dict(labels)
        self.encoded = encode_labels(labels)
        self.value = 0.0

    def __repr__(self) -> str:
        return f"<Series {self.labels['__name__']} {self.value:g}>"


class Instrument(Protocol):
    """One or more series that advance together."""

    @property
    def series(self) -> Sequence[DemoSeries]:
        """All series, always in the same order."""

    def step(self, rng: random.Random) -> None:
        """Simulate the time since the last scrape."""


class Counter:
    """Count up in whole steps of ``mean`` on average."""

    def __init__(self, family: DemoFamily, labels: Mapping[str, str], *, mean: int) -> None:
        self.series = (DemoSeries({**labels, "__name__": family.name}),)
        self._step_max = 2 * mean

    def step(self, rng: random.Random) -> None:
        """Count up by a random step."""
        self.series[0].value += rng.randint(0, self._step_max)


class Gauge:
    """Walk at random between 0 and ``top``."""

    def __init__(self, family: DemoFamily, labels: Mapping[str, str], *, top: int) -> None:
        self.series = (DemoSeries({**labels, "__name__": family.name}),)
        self._top = top

    def step(self, rng: random.Random) -> None:
        """Move up or down by at most a tenth of the range."""
        moved = self.series[0].value + rng.uniform(-0.1, 0.1) * self._top
        self.series[0].value = float(round(min(max(moved, 0.0), self._top)))


class Histogram:
    """Response times: cumulative buckets, sum and count. ``bounds`` in s, ascending."""

    def __init__(
        self, family: DemoFamily, labels: Mapping[str, str], *, bounds: Sequence[float]
    ) -> None:
        self._bounds = (*bounds, float("inf"))
        buckets = {**labels, "__name__": f"{family.name}_bucket"}
        self._buckets = [DemoSeries({**buckets, "le": _bound(bound)}) for bound in self._bounds]
        self._sum = DemoSeries({**labels, "__name__": f"{family.name}_sum"})
        self._count = DemoSeries({**labels, "__name__": f"{family.name}_count"})
        self.series = (*self._buckets, self._sum, self._count)

    def step(self, rng: random.Random) -> None:
        """Observe a few responses."""
        for _ in range(rng.randint(0, 9)):
            seconds = rng.expovariate(5.0)
            for bound, bucket in zip(self._bounds, self._buckets, strict=True):
                bucket.value += seconds <= bound
            self._sum.value += seconds
            self._count.value += 1


class Summary:
    """Response times: two quantiles as the target computes them, sum and count."""

    def __init__(self, family: DemoFamily, labels: Mapping[str, str]) -> None:
        quantiles = {**labels, "__name__": family.name}
        self._median = DemoSeries({**quantiles, "quantile": "0.5"})
        self._tail = DemoSeries({**quantiles, "quantile": "0.99"})
        self._sum = DemoSeries({**labels, "__name__": f"{family.name}_sum"})
        self._count = DemoSeries({**labels, "__name__": f"{family.name}_count"})
        self.series = (self._median, self._tail, self._sum, self._count)

    def step(self, rng: random.Random) -> None:
        """Observe a few responses."""
        requests = rng.randint(0, 50)
        self._median.value = rng.uniform(0.01, 0.05)
        self._tail.value = rng.uniform(0.1, 0.9)
        self._sum.value += requests * self._median.value
        self._count.value += requests


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else f"{bound:g}"
