"""The official classes of metrics, by kind.

Imported when the first is needed: they take 4 MiB, and a relay may receive no metrics of OTLP.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError as ProtobufDecodeError
from opentelemetry.proto.metrics.v1 import metrics_pb2

from relay.codec.otlp.metrics import Kind

__all__ = ["DATA", "POINTS", "ProtobufDecodeError"]

DATA: Final[dict[Kind, Any]] = {
    "sum": metrics_pb2.Sum,
    "histogram": metrics_pb2.Histogram,
    "exponential_histogram": metrics_pb2.ExponentialHistogram,
}
"""Class of the data of each kind that has a temporality."""
POINTS: Final[dict[Kind, Any]] = {
    "gauge": metrics_pb2.NumberDataPoint,
    "sum": metrics_pb2.NumberDataPoint,
    "histogram": metrics_pb2.HistogramDataPoint,
    "exponential_histogram": metrics_pb2.ExponentialHistogramDataPoint,
    "summary": metrics_pb2.SummaryDataPoint,
}
"""Class of the points of each kind."""
