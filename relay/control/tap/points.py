"""Read some points of an encoded batch, for people. Pure.

OTLP is read by the official classes, remote write by the relay's own reader of both versions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from relay.codec.otlp.any_value import value_text
from relay.codec.otlp.data_points import STALE
from relay.codec.remote_write.raw_series import RawSeries, label_fields, read_v1, read_v2
from relay.control.tap.records import read_logs, read_spans
from relay.control.tap.tapped_point import TappedPoint
from relay.selector.matchers import NAME

_NO_RECORDED_VALUE: Final = 1


def read_points(kind: str, body: bytes, count: int, wanted: int) -> list[TappedPoint]:
    """Return up to ``wanted`` of the ``count`` points of a body, evenly spread.

    ``kind`` is that of the encoder which made the body. Raises nothing for what it made.
    """
    step = max(1, -(-count // wanted))
    if kind == "otlp_logs":
        points = read_logs(body)
    elif kind == "otlp_traces":
        points = read_spans(body)
    elif kind == "otlp":
        points = _otlp_points(ExportMetricsServiceRequest.FromString(body))
    elif kind == "remoteWrite2":
        points = _raw_points(read_v2(body))
    else:
        points = _raw_points(read_v1(body)[0])
    return list(islice(points, 0, None, step))


def _otlp_points(message: ExportMetricsServiceRequest) -> Iterator[TappedPoint]:
    for of_resource in message.resource_metrics:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_metrics:
            for metric in of_scope.metrics:
                kind = str(metric.WhichOneof("data"))
                for point in getattr(metric, kind).data_points:
                    yield TappedPoint(
                        metric.name,
                        kind,
                        _attributes(point.attributes),
                        resource,
                        _otlp_value(point),
                        point.time_unix_nano / 1e9,
                    )


def _otlp_value(point: Any) -> str:
    if point.flags & _NO_RECORDED_VALUE:
        return "no recorded value"
    if hasattr(point, "as_double"):
        return f"{point.as_int}" if point.WhichOneof("value") == "as_int" else repr(point.as_double)
    return f"count {point.count}, sum {point.sum!r}"


def _attributes(pairs: Iterable[Any]) -> dict[str, str]:
    return {pair.key: value_text(pair.value) for pair in pairs}


def _raw_points(series: Iterable[RawSeries]) -> Iterator[TappedPoint]:
    for one in series:
        labels = {name.decode(): text.decode() for _, name, text in label_fields(one.labels)}
        metric = labels.pop(NAME, "")
        for value, time_ms, _ in one.samples:
            (number,) = struct.unpack("<d", value)
            shown = "stale" if value == STALE else repr(number)
            yield TappedPoint(metric, "sample", labels, {}, shown, time_ms / 1000)
        for message in one.histograms:
            shown = f"{len(message)} bytes"
            yield TappedPoint(metric, "native histogram", labels, {}, shown, 0.0)
