"""Requests of OTLP metrics, drawn at random and as rows of data points, by the official classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    SummaryDataPoint,
)

from tests.kit.otlp.official import attribute
from tests.kit.otlp.requests import attributes, unknown, with_fields

KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
NOW_NS = 1_000_000_000 * 10**9
DELTA, CUMULATIVE = 1, 2


class Row(NamedTuple):
    """One data point: the messages around it without their children, encoded, and its own."""

    resource: bytes
    scope: bytes
    metric: bytes
    point: bytes


def read(body: bytes) -> Any:
    """Return a request by the official class."""
    return ExportMetricsServiceRequest.FromString(body)


def points_of(request: Any) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield (resource, scope, metric, point) of every data point."""
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points if kind else ():
                    yield resource, scope, metric, point


def row_of(resource: Any, scope: Any, metric: Any, point: Any) -> Row:
    """Return a data point as a row."""
    own = ResourceMetrics.FromString(resource.SerializeToString())
    own.ClearField("scope_metrics")
    of_scope = ScopeMetrics.FromString(scope.SerializeToString())
    of_scope.ClearField("metrics")
    of_metric = Metric.FromString(metric.SerializeToString())
    getattr(of_metric, of_metric.WhichOneof("data")).ClearField("data_points")
    return Row(*(_encoded(one) for one in (own, of_scope, of_metric, point)))


def rows(body: bytes) -> list[Row]:
    """Return every data point of a request, in order."""
    return [row_of(*found) for found in points_of(read(body))]


def _encoded(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


_names = st.sampled_from(["http.requests", "http_requests", "mem", "x.total", "q"])
_units = st.sampled_from(["", "1", "s", "By", "{call}", "By/s"])
_times = st.integers(1, 5).map(lambda at: NOW_NS - 10**12 + at * 10**9 + at)
_bits = st.integers(0, 1)
_numbers = st.floats(allow_nan=False)


@st.composite
def exemplars(draw: st.DrawFn) -> Exemplar:
    """Any exemplar."""
    return Exemplar(
        time_unix_nano=draw(_times),
        as_double=draw(_numbers),
        trace_id=draw(st.sampled_from([b"", bytes(15) + b"\1"])),
        filtered_attributes=[attribute(*pair) for pair in draw(attributes).items()],
    )


@st.composite
def numbers(draw: st.DrawFn) -> NumberDataPoint:
    """Any point of a gauge or a sum."""
    point = NumberDataPoint(exemplars=draw(st.lists(exemplars(), max_size=1)))
    if draw(st.booleans()):
        point.as_double = draw(_numbers)
    else:
        point.as_int = draw(st.integers(-(1 << 63), (1 << 63) - 1))
    return point


@st.composite
def histograms(draw: st.DrawFn) -> HistogramDataPoint:
    """Any valid point of an explicit histogram."""
    bounds = sorted(draw(st.sets(st.floats(-100, 100), max_size=3)))
    counts = draw(st.lists(st.integers(0, 9), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    point = HistogramDataPoint(
        explicit_bounds=bounds,
        bucket_counts=counts,
        count=sum(counts),
        exemplars=draw(st.lists(exemplars(), max_size=1)),
    )
    if draw(st.booleans()):
        point.sum = draw(_numbers)
    return point


@st.composite
def exponentials(draw: st.DrawFn) -> ExponentialHistogramDataPoint:
    """Any valid point of an exponential histogram."""
    point = ExponentialHistogramDataPoint(
        scale=draw(st.integers(-4, 20)), zero_count=draw(st.integers(0, 3))
    )
    point.positive.offset = draw(st.integers(-30, 30))
    point.positive.bucket_counts.extend(draw(st.lists(st.integers(0, 5), max_size=5)))
    point.count = point.zero_count + sum(point.positive.bucket_counts)
    return point


@st.composite
def summaries(draw: st.DrawFn) -> SummaryDataPoint:
    """Any point of a summary."""
    point = SummaryDataPoint(count=draw(st.integers(0, 9)), sum=draw(_numbers))
    for quantile in sorted(draw(st.sets(st.sampled_from([0.0, 0.5, 0.99]), max_size=2))):
        point.quantile_values.add(quantile=quantile, value=draw(_numbers))
    return point


_POINTS = {
    "gauge": numbers(),
    "sum": numbers(),
    "histogram": histograms(),
    "exponential_histogram": exponentials(),
    "summary": summaries(),
}


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    """Any metric with points."""
    metric = Metric(
        name=draw(_names), unit=draw(_units), description=draw(st.sampled_from(["", "d"]))
    )
    kind = draw(st.sampled_from(KINDS))
    data = getattr(metric, kind)
    if kind in ("sum", "histogram", "exponential_histogram"):
        data.aggregation_temporality = draw(st.sampled_from([DELTA, CUMULATIVE]))
    if kind == "sum":
        data.is_monotonic = draw(st.booleans())
    data.SetInParent()
    for _ in range(draw(st.integers(0, 3))):
        point = draw(_POINTS[kind])
        point.time_unix_nano = draw(_times)
        point.start_time_unix_nano = draw(st.sampled_from([0, NOW_NS - 2 * 10**12]))
        point.flags = draw(_bits)
        point.attributes.extend(attribute(*pair) for pair in draw(attributes).items())
        data.data_points.append(with_fields(point, draw(unknown)))
    return with_fields(metric, draw(unknown))


@st.composite
def metrics_requests(draw: st.DrawFn) -> bytes:
    """Any request of metrics, with unknown fields, empty resources, scopes and metrics."""
    request = ExportMetricsServiceRequest()
    for _ in range(draw(st.integers(0, 3))):
        resource = ResourceMetrics(schema_url=draw(st.sampled_from(["", "https://e.example/1"])))
        resource.resource.attributes.extend(attribute(*pair) for pair in draw(attributes).items())
        for _ in range(draw(st.integers(0, 2))):
            scope = ScopeMetrics(schema_url=draw(st.sampled_from(["", "https://e.example/2"])))
            scope.scope.name = draw(st.sampled_from(["", "lib"]))
            scope.metrics.extend(draw(st.lists(metrics(), max_size=3)))
            resource.scope_metrics.append(with_fields(scope, draw(unknown)))
        request.resource_metrics.append(with_fields(resource, draw(unknown)))
    return bytes(with_fields(request, draw(unknown)).SerializeToString())
