"""Read the heads of scopes and metrics, and the attributes of a point, once for each stream.

A head is a whole message without its children, so the official classes read it.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from google.protobuf.message import DecodeError as ProtobufDecodeError
from opentelemetry.proto.metrics.v1 import metrics_pb2

from relay.codec.otlp.any_value import AttributeTexts, value_text
from relay.codec.otlp.metrics import Kind
from relay.runtime.errors import DecodeError

KINDS: Final[dict[int, Kind]] = {
    5: "gauge",
    7: "sum",
    9: "histogram",
    10: "exponential_histogram",
    11: "summary",
}
"""Kind of a metric's data, by the number of its field."""

PointTemporality = Literal["cumulative", "delta", "unspecified", ""]
"""Of sums and histograms; "" for kinds that have none."""

_TEMPORALITIES: Final[dict[int, PointTemporality]] = {1: "delta", 2: "cumulative"}
_DATA: Final[dict[Kind, Any]] = {
    "sum": metrics_pb2.Sum,
    "histogram": metrics_pb2.Histogram,
    "exponential_histogram": metrics_pb2.ExponentialHistogram,
}
POINTS: Final[dict[Kind, Any]] = {
    "gauge": metrics_pb2.NumberDataPoint,
    "sum": metrics_pb2.NumberDataPoint,
    "histogram": metrics_pb2.HistogramDataPoint,
    "exponential_histogram": metrics_pb2.ExponentialHistogramDataPoint,
    "summary": metrics_pb2.SummaryDataPoint,
}
"""Class of the points of each kind."""


class ScopeHead(NamedTuple):
    """A scope's name and version, and the texts of its attributes."""

    name: str
    version: str
    schema_url: str
    attributes: AttributeTexts


class MetricHead(NamedTuple):
    """The parts of a metric that its points share."""

    name: str
    unit: str
    description: str
    kind: Kind
    temporality: PointTemporality
    monotonic: bool


def read_scope(head: bytes) -> ScopeHead:
    """Read the head of a scope. Raise DecodeError."""
    try:
        found = metrics_pb2.ScopeMetrics.FromString(head)
    except ProtobufDecodeError as error:
        raise DecodeError("a scope cannot be read") from error
    scope = found.scope
    attributes = [(one.key, value_text(one.value)) for one in scope.attributes]
    return ScopeHead(scope.name, scope.version, found.schema_url, attributes)


def read_metric(head: bytes, number: int, tail: bytes) -> MetricHead:
    """Read the head of a metric and the rest of its data. Raise DecodeError."""
    kind = KINDS[number]
    data = _DATA.get(kind)
    temporality: PointTemporality = ""
    monotonic = False
    try:
        metric = metrics_pb2.Metric.FromString(head)
        if data is not None:
            rest = data.FromString(tail)
            temporality = _TEMPORALITIES.get(rest.aggregation_temporality, "unspecified")
            monotonic = kind == "sum" and rest.is_monotonic
    except ProtobufDecodeError as error:
        raise DecodeError("a metric cannot be read") from error
    return MetricHead(metric.name, metric.unit, metric.description, kind, temporality, monotonic)


def read_attributes(fields: bytes, kind: Kind) -> AttributeTexts:
    """Return the attributes of a point, given its encoded attribute fields. Raise DecodeError."""
    if not fields:
        return []
    try:
        point = POINTS[kind].FromString(fields)
    except ProtobufDecodeError as error:
        raise DecodeError("the attributes of a point cannot be read") from error
    return [(one.key, value_text(one.value)) for one in point.attributes]
