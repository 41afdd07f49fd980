"""Specify a metric: name, help, type, labels, and how its rows are read from a snapshot."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)

from relay.telemetry.histogram import Distribution
from relay.telemetry.snapshot import SinkFigures, Snapshot, StorageFigures

Kind = Literal["counter", "gauge", "info", "histogram"]
Row = tuple[tuple[str, ...], float]
"""Label values in the order of the metric's label names, and the value."""
DistributionRow = tuple[tuple[str, ...], Distribution]
"""Label values, and their histogram."""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """Specify a metric and read its rows from a snapshot; histograms use ``distributions``."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    rows: Callable[[Snapshot], Iterable[Row]] = lambda _snapshot: ()
    distributions: Callable[[Snapshot], Iterable[DistributionRow]] = lambda _snapshot: ()

    def family(self, snapshot: Snapshot) -> Metric:
        """Return this metric as a prometheus-client metric family."""
        if self.kind == "info":
            info = InfoMetricFamily(self.name.removesuffix("_info"), self.help, labels=())
            for values, _ in self.rows(snapshot):
                info.add_metric((), dict(zip(self.labels, values, strict=True)))
            return info
        if self.kind == "histogram":
            histogram = HistogramMetricFamily(self.name, self.help, labels=self.labels)
            for values, distribution in self.distributions(snapshot):
                histogram.add_metric(values, list(buckets_of(distribution)), distribution.sum_s)
            return histogram
        made = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = made(self.name, self.help, labels=self.labels)
        for values, value in self.rows(snapshot):
            family.add_metric(values, value)
        return family


def buckets_of(distribution: Distribution) -> Iterable[tuple[str, int]]:
    """Return upper bounds as text, "+Inf" last, each with its cumulative count."""
    bounds = [*(str(bound) for bound in distribution.bounds_s), "+Inf"]
    return zip(bounds, itertools.accumulate(distribution.counts), strict=True)


def one_distribution(
    read: Callable[[Snapshot], Distribution],
) -> Callable[[Snapshot], Iterable[DistributionRow]]:
    """Return a reader of a histogram without labels."""
    return lambda snapshot: (((), read(snapshot)),)


def distribution_per_sink(
    read: Callable[[SinkFigures], Distribution],
) -> Callable[[Snapshot], Iterable[DistributionRow]]:
    """Return a reader of a histogram with labels ``exporter`` and ``sink``."""
    return lambda snapshot: (((sink.exporter, sink.sink), read(sink)) for sink in snapshot.sinks)


def one(read: Callable[[Snapshot], float]) -> Callable[[Snapshot], Iterable[Row]]:
    """Return a reader of a metric without labels."""
    return lambda snapshot: (((), read(snapshot)),)


def by(read: Callable[[Snapshot], Mapping[str, int]]) -> Callable[[Snapshot], Iterable[Row]]:
    """Return a reader of a metric with one label: the keys of a mapping."""
    return lambda snapshot: (((key,), value) for key, value in read(snapshot).items())


def per_sink(read: Callable[[SinkFigures], float]) -> Callable[[Snapshot], Iterable[Row]]:
    """Return a reader of a metric with labels ``exporter`` and ``sink``."""
    return lambda snapshot: (((sink.exporter, sink.sink), read(sink)) for sink in snapshot.sinks)


def per_part(read: Callable[[StorageFigures], float]) -> Callable[[Snapshot], Iterable[Row]]:
    """Return a reader of a metric with label ``part``."""
    return lambda snapshot: (((one.part,), read(one)) for one in snapshot.storage)
