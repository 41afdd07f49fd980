"""The table of workloads: the data sent, and the expected output of a peer.

A workload is a row here and, for each peer that supports it, an entry of the same name under
``workloads`` in the peer's file (:mod:`bench.peer`). :mod:`bench.ratios` has the expected figures.
Nothing else knows a workload's name.

Each run is verified exactly: the number of points for each sink follows from the accepted samples,
and one point in fifty is checked (value, time, sink; a histogram's count, sum, bounds, buckets).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench import scrape
from bench.dataset import SERIES_PER_HISTOGRAM, Dataset, Shape
from bench.labels import LabelSet

EXPORT = "export"
"""The workload that others are compared with."""

SCRAPE = "scrape"
"""The workload that is closest to production."""

_SCRAPED: Mapping[str, Any] = {"content": "scrape", "series": 100 * len(scrape.exposed())}

COLD_SERIES = 1_000_000
COLD_SERIES_PER_S = 100_000
"""Bound of series per second asked for: short runs do not send a million."""

_ROUNDS_MIN = 5
_ANY: tuple[LabelSet, ...] = ("platform", "small", "large")


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload.

    ``delivers``: every sample to one sink; those of the proposal's selector to one sink; every
    sample to each of ``sinks``; or each sample to its tenant's exporter. ``shape``: differences
    from :class:`Shape`'s defaults. ``label_sets``: those with the labels it needs. ``label_set``:
    its only one. ``once``: requests must not repeat, because their series would not be new or their
    times would be past; a peer faster than the data is sent less. ``seconds_min``: shortest run.
    ``rounds_per_s``: prepared rounds per second of sending. ``timed``: sending ends with the time,
    otherwise after one round of new series only. ``warmup_requests``: requests before the
    measurement; None: two rounds.
    """

    name: str
    title: str
    delivers: Literal["all", "wanted", "each", "tenants"] = "all"
    sinks: int = 1
    shape: Mapping[str, Any] = field(default_factory=dict)
    label_sets: tuple[LabelSet, ...] = _ANY
    label_set: LabelSet | None = None
    once: bool = False
    seconds_min: float = 0.0
    rounds_per_s: float = 12.0
    timed: bool = True
    warmup_requests: int | None = None

    def shape_of(
        self, start_ms: int, seconds: float, label_set: LabelSet, series: int | None
    ) -> Shape:
        """Return the data set's shape for a duration; ``series`` overrides the workload's."""
        if not self.timed:
            return self._shape_of_one_round(start_ms, seconds, label_set, series)
        given = dict(self.shape)
        label_set = self.label_set or label_set
        if series is not None:
            given["series"] = series
        whole = {"histograms": SERIES_PER_HISTOGRAM, "scrape": len(scrape.exposed())}
        if (content := given.get("content")) in whole:  # whole histograms or targets only
            given["series"] = max(1, given["series"] // whole[content]) * whole[content]
        rounds = max(_ROUNDS_MIN, round(self.rounds_per_s * seconds))
        return Shape(start_ms=start_ms, rounds=rounds, label_set=label_set, **given)

    def expected(self, dataset: Dataset, first: int, requests: int) -> Counter[str]:
        """Return the number of points due at each sink for requests from number ``first`` on."""
        points: Counter[str] = Counter()
        for index, times in dataset.sent(first, requests):
            request = dataset.requests[index]
            if self.delivers == "tenants":
                for exporter, count in dataset.exporters(index).items():
                    points[exporter] += count * times
            elif self.delivers == "each":
                for sink in range(self.sinks):
                    points[f"sink-{sink:04d}"] += request.samples * times
            elif self.delivers == "wanted":
                points[""] += request.wanted * times
            else:
                points[""] += request.samples * times // dataset.shape.series_per_point
        return +points

    def _shape_of_one_round(
        self, start_ms: int, seconds: float, label_set: LabelSet, series: int | None
    ) -> Shape:
        """Return the shape of one round; the warm-up's series come first."""
        assert self.warmup_requests is not None
        count = series or min(COLD_SERIES, round(seconds * COLD_SERIES_PER_S))
        label_set = self.label_set or label_set
        given = {**self.shape, "start_ms": start_ms, "rounds": 1, "label_set": label_set}
        per_request = Shape(**{"series": len(scrape.exposed()), **given}).series_per_request
        count += self.warmup_requests * per_request
        if given.get("content") == "scrape":
            count -= count % len(scrape.exposed())
        return Shape(**{**given, "series": count})


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload(
            SCRAPE,
            "a node exporter's 507 series a target, in scrape order, with the labels that it has",
            shape=_SCRAPED,
            label_sets=("platform",),
            label_set="exposed",
        ),
        Workload(
            "scrape-platform",
            "the same with the platform's labels",
            shape=_SCRAPED,
            label_sets=("platform",),
        ),
        Workload(
            "worst",
            "the same, every series another target's than the one before, and another metric's",
            shape={**_SCRAPED, "scattered": True},
            label_sets=("platform",),
        ),
        Workload(
            "scrape-filter",
            "scrapes with the platform's labels, 4 % pass",
            delivers="wanted",
            shape=_SCRAPED,
            label_sets=("platform",),
        ),
        Workload(
            "scrape-cold",
            "new series of scrapes only, with the labels that they have, all exported",
            shape={"content": "scrape"},
            label_sets=("platform",),
            label_set="exposed",
            once=True,
            timed=False,
            warmup_requests=10,
        ),
        Workload(
            "scrape-cold-platform",
            "the same with the platform's labels",
            shape={"content": "scrape"},
            label_sets=("platform",),
            once=True,
            timed=False,
            warmup_requests=10,
        ),
        Workload(EXPORT, "everything to one sink, batches of 10,000"),
        Workload(
            "filter",
            "the proposal's own selector, 4 % pass",
            delivers="wanted",
            label_sets=("platform", "large"),
        ),
        Workload("fanout", "every sample to five sinks", delivers="each", sinks=5),
        Workload(
            "tenants",
            "10,000 exporters of 2,000 projects, each with a sink; each sample is for one of them",
            delivers="tenants",
            shape={"projects": 2_000},
            label_sets=("platform", "large"),
            # A run shorter than the batches' timeout would send one small request per sink and
            # measure nothing but requests.
            seconds_min=5.0,
        ),
        Workload("seed", "the proposal's batches: 500 points or 5 s"),
        Workload(
            "churn",
            "a fifth of the series of each request is new",
            shape={"churn": True},
            once=True,
        ),
        Workload(
            "cold", "new series only, all exported", once=True, timed=False, warmup_requests=10
        ),
        Workload(
            "histograms",
            "classic histograms of 12 buckets, 14 series each",
            # Closest to 50,000 series and 2,000 samples with whole histograms.
            shape={"content": "histograms", "series": 50_050, "series_per_request": 2_002},
            once=True,
            rounds_per_s=24.0,
        ),
        Workload("v2", "remote write 2.0", shape={"protocol": "2.0"}),
        Workload("zstd", "remote write compressed with zstd", shape={"encoding": "zstd"}),
        Workload("durable", "with the journal and queues on disk"),
        Workload(
            "shuffled",
            "the series of each request in an order of their own",
            shape={"shuffled": True},
        ),
    )
}
