"""Cutting requests in two, by hand-made examples; arbitrary ones are in tests/property."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest as Request,
)

from relay.codec.otlp.split import METRICS, RECORDS, count_points, split_request
from relay.runtime.errors import DecodeError
from tests.kit.otlp.batches import request_of
from tests.kit.otlp.official import KINDS
from tests.own_time import LeastTime, slowness

LOOP_S_MAX = 0.025
"""Both halves are compressed within what is left of 50 ms."""


def export_request(*counts: int) -> Request:
    """One resource and scope; a Sum for each count, its points numbered through."""
    message = Request()
    resource = message.resource_metrics.add(schema_url="https://example.com/1")
    resource.resource.attributes.add(key="service.name").value.string_value = "api"
    scope = resource.scope_metrics.add(schema_url="https://example.com/2")
    scope.scope.name = "relay"
    time = 0
    for index, count in enumerate(counts):
        metric = scope.metrics.add(name=f"m{index}", unit="By", description="Bytes")
        metric.sum.aggregation_temporality = 2
        metric.sum.is_monotonic = True
        metric.metadata.add(key="prometheus.type").value.string_value = "counter"
        for _ in range(count):
            time += 1
            metric.sum.data_points.add(time_unix_nano=time, as_double=time)
    return message


def halves(message: Request) -> tuple[Request, Request]:
    cut = split_request(message.SerializeToString())
    assert cut is not None
    (first, first_points), (second, second_points) = cut
    assert count_points(first) == first_points
    assert count_points(second) == second_points
    return Request.FromString(first), Request.FromString(second)


def times(message: Request) -> list[tuple[str, list[int]]]:
    return [
        (metric.name, [point.time_unix_nano for point in metric.sum.data_points])
        for metric in message.resource_metrics[0].scope_metrics[0].metrics
    ]


@pytest.mark.parametrize("counts", [(), (0,), (1,), (0, 1, 0)])
def test_less_than_two_points_cannot_be_cut(counts: tuple[int, ...]) -> None:
    data = export_request(*counts).SerializeToString()
    assert count_points(data) == sum(counts)
    assert split_request(data) is None


def test_no_request_has_no_points() -> None:
    assert count_points(b"") == 0
    assert split_request(b"") is None


def test_a_cut_between_metrics_copies_them_whole() -> None:
    first, second = halves(export_request(2, 2))
    assert times(first) == [("m0", [1, 2])]
    assert times(second) == [("m1", [3, 4])]


def test_a_cut_inside_a_metric_repeats_what_wraps_it() -> None:
    first, second = halves(export_request(1, 4))
    assert times(first) == [("m0", [1]), ("m1", [2, 3])]
    assert times(second) == [("m1", [4, 5])]
    for half in (first, second):
        resource = half.resource_metrics[0]
        assert resource.schema_url == "https://example.com/1"
        assert resource.resource.attributes[0].value.string_value == "api"
        scope = resource.scope_metrics[0]
        assert (scope.scope.name, scope.schema_url) == ("relay", "https://example.com/2")
        metric = scope.metrics[-1]
        assert (metric.name, metric.unit, metric.description) == ("m1", "By", "Bytes")
        assert metric.metadata[0].value.string_value == "counter"
        assert metric.sum.is_monotonic
        assert metric.sum.aggregation_temporality == 2


def test_the_first_half_has_the_odd_point() -> None:
    first, second = halves(export_request(3))
    assert times(first) == [("m0", [1, 2])]
    assert times(second) == [("m0", [3])]


def test_a_cut_between_resources() -> None:
    message = export_request(2)
    message.MergeFrom(export_request(2))
    first, second = halves(message)
    assert len(first.resource_metrics) == len(second.resource_metrics) == 1


@pytest.mark.parametrize("kind", ["gauge", "sum", "histogram", "exponential_histogram", "summary"])
def test_every_kind_of_metric_is_cut(kind: str) -> None:
    message = Request()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    for time in (1, 2, 3):
        getattr(metric, kind).data_points.add(time_unix_nano=time)
    kept = []
    for half in halves(message):
        metric = half.resource_metrics[0].scope_metrics[0].metrics[0]
        assert metric.WhichOneof("data") == kind
        kept.append([point.time_unix_nano for point in getattr(metric, kind).data_points])
    assert kept == [[1, 2], [3]]


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05abc", b"\x0a\x02\x12\x05", b"<html>"])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        split_request(data)
    with pytest.raises(DecodeError):
        count_points(data)


@pytest.mark.parametrize(
    ("signal", "path"), [("metrics", METRICS), ("logs", RECORDS), ("traces", RECORDS)]
)
def test_a_batch_of_as_many_points_as_allowed_is_cut_without_holding_the_loop(
    signal: str, path: tuple[frozenset[int], ...]
) -> None:
    data = request_of(KINDS[signal], range(10_000), label="x" * 300)
    least = LeastTime()
    for _ in range(5):
        with least.attempt():
            cut = split_request(data, path)
        assert cut is not None
        assert [points for _, points in cut] == [5_000, 5_000]
    assert least.s < LOOP_S_MAX * slowness()
