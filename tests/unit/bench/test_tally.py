"""The benchmark's sink counts right and notices what is wrong."""

from __future__ import annotations

import gzip
from pathlib import Path
from time import monotonic
from typing import Any

import cramjam
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from bench.dataset import BOUNDS, Dataset, Shape, labels_of, value_of, write_dataset
from bench.labels import MARKER, exporter_of
from bench.tally import Arrival, Protocol, Tally
from tests.kit.remote_write import prompb
from tests.kit.remote_write.raw import snappy

START_MS = 1_790_000_000_000


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two rounds of 500 series in requests of 200, 200 and 100."""
    shape = Shape(start_ms=START_MS, rounds=2, series=500, series_per_request=200)
    return write_dataset(tmp_path, shape)


def first_body(dataset: Dataset) -> bytes:
    return dataset.bodies.read_bytes()[: dataset.requests[0].size]


def otlp_body(dataset: Dataset, *, value_added: float = 0.0) -> bytes:
    """100 series of the first round as a faithful peer would deliver them, or not quite."""
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for series in range(100):
        labels = labels_of(series)
        point = scope.metrics.add(name=labels.pop("__name__")).gauge.data_points.add()
        point.time_unix_nano = dataset.shape.time_ms(series, 0) * 1_000_000
        point.as_double = value_of(series, 0) + value_added
        for name, value in labels.items():
            point.attributes.add(key=name).value.string_value = value
    return gzip.compress(request.SerializeToString())


def tally_of(
    dataset: Dataset,
    body: bytes,
    *,
    encoding: str = "gzip",
    sink: str = "",
    protocol: Protocol = "otlp",
) -> dict[str, Any]:
    tally = Tally(dataset)
    tally.add(Arrival(1.0, sink, protocol, encoding, body))
    assert tally.figures(2.0)["uncounted"] == 1, "nothing is counted before it is asked for"
    tally.count_until(monotonic() + 10)
    figures = tally.figures(2.0)
    assert tally.points_by_sink[sink] == figures["points"]
    return figures


def test_otlp_is_counted_and_verified(dataset: Dataset) -> None:
    figures = tally_of(dataset, otlp_body(dataset))
    assert figures["points"] == figures["verified_points"] == figures["points_until"] == 100
    assert figures["faults"] == []


def test_remote_write_is_counted_and_verified(dataset: Dataset) -> None:
    figures = tally_of(dataset, first_body(dataset), encoding="snappy", protocol="remote write 1.0")
    assert figures["points"] == figures["verified_points"] == 200
    assert figures["faults"] == []


def test_remote_write_2_is_counted_by_its_samples(dataset: Dataset) -> None:
    message = prompb.WriteRequest.FromString(
        bytes(cramjam.snappy.decompress_raw(first_body(dataset)))
    )
    request = prompb.RequestV2(symbols=[""])
    numbers = {"": 0}
    for series in message.timeseries:
        added = request.timeseries.add()
        for label in series.labels:
            for text in (label.name, label.value):
                if text not in numbers:
                    numbers[text] = len(numbers)
                    request.symbols.append(text)
                added.labels_refs.append(numbers[text])
        for sample in series.samples:
            added.samples.add(value=sample.value, timestamp=sample.timestamp)
    body = snappy(request.SerializeToString())
    figures = tally_of(dataset, body, encoding="snappy", protocol="remote write 2.0")
    assert figures["points"] == figures["verified_points"] == 200
    assert figures["faults"] == []


def test_values_that_were_not_sent_are_noticed(dataset: Dataset) -> None:
    figures = tally_of(dataset, otlp_body(dataset, value_added=0.001))
    assert figures["fault_count"] == 100
    assert "was not sent" in figures["faults"][0]


def test_series_with_more_samples_than_markers_are_noticed(dataset: Dataset) -> None:
    message = prompb.WriteRequest.FromString(
        bytes(cramjam.snappy.decompress_raw(first_body(dataset)))
    )
    message.timeseries[0].samples.append(message.timeseries[0].samples[0])
    body = snappy(message.SerializeToString())
    figures = tally_of(dataset, body, encoding="snappy", protocol="remote write 1.0")
    assert figures["faults"] == ["a body with 200 markers decodes to 201 points"]


@pytest.mark.parametrize("encoding", ["gzip", "snappy", "zstd", "br"])
def test_bodies_that_cannot_be_read_are_noticed(dataset: Dataset, encoding: str) -> None:
    figures = tally_of(dataset, b"\xff" * 40, encoding=encoding)
    assert figures["fault_count"] == 1
    assert figures["points"] == 0


def test_points_that_come_late_are_not_credited(dataset: Dataset) -> None:
    tally = Tally(dataset)
    for at in (1.0, 3.0):
        tally.add(Arrival(at, "", "otlp", "gzip", otlp_body(dataset)))
    tally.count_until(monotonic() + 10)
    assert tally.figures(2.0)["points_until"] == 100
    assert tally.figures(2.0)["points"] == 200


@pytest.mark.parametrize("wrong", [False, True])
def test_a_tenants_point_at_anothers_sink_is_noticed(dataset: Dataset, wrong: bool) -> None:
    shape = Shape(START_MS, 2, 500, 200, projects=20)
    tenants = Dataset(dataset.directory, shape, dataset.requests, 0)
    request = ExportMetricsServiceRequest()
    points = request.resource_metrics.add().scope_metrics.add().metrics.add().gauge.data_points
    point = points.add(time_unix_nano=shape.time_ms(7, 0) * 1_000_000, as_double=value_of(7, 0))
    point.attributes.add(key=MARKER).value.string_value = "00000007"
    sink = exporter_of(7 if not wrong else 99, 20)
    figures = tally_of(tenants, gzip.compress(request.SerializeToString()), sink=sink)
    assert figures["verified_points"] == 1
    assert figures["faults"] == ([f"series 7 is not for {sink!r}"] if wrong else [])


@pytest.mark.parametrize("moved", [0, 1])
def test_histograms_are_verified_bucket_by_bucket(dataset: Dataset, moved: int) -> None:
    shape = Shape(START_MS, 2, 14 * 10, 14 * 5, content="histograms")
    histograms = Dataset(dataset.directory, shape, dataset.requests, 0)
    expected = shape.value(3, 1)
    assert isinstance(expected, tuple)
    count, total, *numbers = expected
    bounds, counts = numbers[: len(BOUNDS) - 1], numbers[len(BOUNDS) - 1 :]
    counts[4] += moved
    counts[5] -= moved
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    point = metric.histogram.data_points.add(
        time_unix_nano=shape.time_ms(3, 1) * 1_000_000,
        count=int(count),
        sum=total,
        explicit_bounds=bounds,
        bucket_counts=map(int, counts),
    )
    point.attributes.add(key=MARKER).value.string_value = "00000003"
    figures = tally_of(histograms, gzip.compress(request.SerializeToString()))
    assert figures["points"] == figures["verified_points"] == 1
    assert figures["fault_count"] == moved
