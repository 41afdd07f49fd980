"""Points of every kind out of an official ExportMetricsServiceRequest, refusing what OTLP forbids.

The wider sister of :mod:`tests.kit.oracle.number_points`, for histograms, summaries, start times
and exemplars. Nothing of ``relay.pipeline`` or ``relay.codec`` may be imported here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

Pairs = tuple[tuple[str, str], ...]
TEMPORALITY = {1: "delta", 2: "cumulative"}
STALE_FLAG = 1


class Identity(NamedTuple):
    """What a metric is besides its name. ``temporality`` is "" for gauges and summaries."""

    kind: str
    monotonic: bool
    temporality: str
    unit: str
    description: str
    prometheus_type: str


class AnyExemplar(NamedTuple):
    """One exemplar; ids in hexadecimal."""

    time_ns: int
    value: float
    trace_id: str
    span_id: str
    attributes: Pairs


class AnyPoint(NamedTuple):
    """One point of any kind. ``data`` by kind:

    * gauge, sum: the bits of the double
    * histogram: (count, sum's bits or None, bounds, counts)
    * exponential_histogram: (count, sum's bits or None, scale, zero count, zero threshold, positive
      buckets, negative buckets), buckets as a tuple of (index, count) without zeros
    * summary: (count, sum, quantiles), quantiles as a tuple of (quantile, value)
    """

    resource: Pairs
    scope: tuple[str, str, Pairs]
    name: str
    identity: Identity
    attributes: Pairs
    time_ns: int
    start_ns: int
    flags: int
    data: Any
    exemplars: tuple[AnyExemplar, ...]

    @property
    def value(self) -> float:
        """The value of a number point."""
        value: float = struct.unpack("<d", struct.pack("<Q", self.data))[0]
        return value


def read_points(body: bytes) -> list[AnyPoint]:
    """Every point of an encoded request, in order. AssertionError where OTLP is broken."""
    request = ExportMetricsServiceRequest.FromString(body)
    return [point for resource in request.resource_metrics for point in _of_resource(resource)]


def bits(value: float) -> int:
    """The bits of a double."""
    number: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return number


def _of_resource(resource_metrics: Any) -> Iterator[AnyPoint]:
    resource = pairs(resource_metrics.resource.attributes)
    for scope_metrics in resource_metrics.scope_metrics:
        scope = scope_metrics.scope
        seen = set()
        for metric in scope_metrics.metrics:
            identity = _identity(metric)
            assert (metric.name, identity) not in seen, f"metric {metric.name} repeated"
            seen.add((metric.name, identity))
            points = getattr(metric, identity.kind).data_points
            assert points, "metric without points"
            for point in points:
                assert 0 < point.time_unix_nano < 1 << 63
                assert point.start_time_unix_nano <= point.time_unix_nano
                yield AnyPoint(
                    resource,
                    (scope.name, scope.version, pairs(scope.attributes)),
                    metric.name,
                    identity,
                    pairs(point.attributes),
                    point.time_unix_nano,
                    point.start_time_unix_nano,
                    point.flags,
                    _DATA[identity.kind](point),
                    _exemplars(point),
                )


def _identity(metric: Any) -> Identity:
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind)
    temporality = ""
    if kind in ("sum", "histogram", "exponential_histogram"):
        temporality = TEMPORALITY[data.aggregation_temporality]
    metadata = dict(pairs(metric.metadata))
    return Identity(
        kind,
        kind == "sum" and data.is_monotonic,
        temporality,
        metric.unit,
        metric.description,
        metadata.pop("prometheus.type", ""),
    )


def pairs(attributes: Iterable[Any]) -> Pairs:
    """Attributes, sorted; their keys must be unique and their values strings."""
    found = []
    for attribute in attributes:
        assert attribute.key
        assert attribute.value.WhichOneof("value") == "string_value"
        found.append((attribute.key, attribute.value.string_value))
    assert len({key for key, _ in found}) == len(found), "attribute key repeated"
    return tuple(sorted(found))


def _number(point: Any) -> int:
    assert point.WhichOneof("value") == "as_double"
    return bits(point.as_double)


def _sum(point: Any) -> int | None:
    return bits(point.sum) if point.HasField("sum") else None


def _histogram(point: Any) -> Any:
    bounds, counts = tuple(point.explicit_bounds), tuple(point.bucket_counts)
    assert all(a < b for a, b in pairwise(bounds))
    assert len(counts) == len(bounds) + 1 or not counts
    assert not counts or sum(counts) == point.count
    assert not point.HasField("min")
    assert not point.HasField("max")
    return point.count, _sum(point), bounds, counts


def _exponential(point: Any) -> Any:
    positive, negative = _buckets(point.positive), _buckets(point.negative)
    total = sum(count for _, count in (*positive, *negative)) + point.zero_count
    assert total == point.count
    assert not point.HasField("min")
    return (
        point.count,
        _sum(point),
        point.scale,
        point.zero_count,
        point.zero_threshold,
        positive,
        negative,
    )


def _buckets(buckets: Any) -> tuple[tuple[int, int], ...]:
    counts = enumerate(buckets.bucket_counts)
    return tuple((buckets.offset + number, count) for number, count in counts if count)


def _summary(point: Any) -> Any:
    quantiles = tuple((item.quantile, item.value) for item in point.quantile_values)
    assert all(a < b for (a, _), (b, _) in pairwise(quantiles))
    assert not math.isnan(point.sum)
    return point.count, point.sum, quantiles


_DATA = {
    "gauge": _number,
    "sum": _number,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
    "summary": _summary,
}


def _exemplars(point: Any) -> tuple[AnyExemplar, ...]:
    if not hasattr(point, "exemplars"):  # summaries
        return ()
    found = []
    for exemplar in point.exemplars:
        assert len(exemplar.trace_id) in (0, 16)
        assert len(exemplar.span_id) in (0, 8)
        assert exemplar.WhichOneof("value") == "as_double"
        found.append(
            AnyExemplar(
                exemplar.time_unix_nano,
                exemplar.as_double,
                exemplar.trace_id.hex(),
                exemplar.span_id.hex(),
                pairs(exemplar.filtered_attributes),
            )
        )
    return tuple(found)
