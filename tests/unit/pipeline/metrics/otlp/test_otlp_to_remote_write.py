"""Sinks of remote write get the series that a metric of OTLP is in Prometheus."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from relay.codec.otlp.data_points import STALE, Buckets, ExponentialPoint
from relay.codec.otlp.metrics_in.prometheus_points import bound_text, native_histogram
from relay.codec.remote_write.native_histogram import parse_histogram
from tests.kit.engine_rig import RAW1, RAW2, Rig, RigSink
from tests.kit.examples import examples
from tests.kit.otlp.official import attribute

TIME_NS = 10**18 + 1_500_000
TIME_MS = 10**12 + 1


def request() -> tuple[ExportMetricsServiceRequest, Any]:
    """Return a request of one resource and scope, and the metrics of that."""
    made = ExportMetricsServiceRequest()
    resource = made.resource_metrics.add()
    resource.resource.attributes.extend(
        attribute(*pair)
        for pair in {
            "service.namespace": "shop",
            "service.name": "api",
            "service.instance.id": "a:1",
            "host.name": "h",
        }.items()
    )
    scope = resource.scope_metrics.add()
    scope.scope.name = "lib"
    return made, scope.metrics


def sent(made: ExportMetricsServiceRequest, options: Any) -> tuple[dict[str, list[Any]], Any]:
    """Return what a sink of remote write gets, by series without its target's labels."""
    rig = Rig()
    sink = rig.export(RigSink("s", limit=1000, options=options))
    rig.feed(made.SerializeToString(), protocol="otlp_metrics")
    rig.flush()
    rig.engine.statistics()
    assert sink.counter.points == sink.held
    drops = sum(drop.samples for drop in rig.engine.drops.rows())
    assert sink.counter.samples == sink.counter.exported + drops
    as_sent = sink.as_sent()
    found = {}
    for labels, series in as_sent.series.items():
        named = dict(labels)
        assert (named.pop("job"), named.pop("instance")) == ("shop/api", "a:1")
        name = named.pop("__name__")
        rest = ",".join(f"{key}={value}" for key, value in sorted(named.items()))
        found[f"{name}{{{rest}}}"] = series
    return found, as_sent


def value(series: Any) -> float:
    """Return the value of a series' only sample."""
    (point,) = series.points
    assert point.time_ms == TIME_MS
    number: float = struct.unpack("<d", struct.pack("<Q", point.content))[0]
    return number


@pytest.mark.parametrize("options", [RAW1, RAW2], ids=["v1", "v2"])
def test_a_histogram_is_a_classic_one(options: Any) -> None:
    made, metrics = request()
    metric = metrics.add(name="http.duration", unit="s", description="How long.")
    metric.histogram.aggregation_temporality = 2
    point = metric.histogram.data_points.add(
        time_unix_nano=TIME_NS,
        start_time_unix_nano=TIME_NS - 10**9,
        count=7,
        sum=9.5,
        explicit_bounds=[0.1, 5],
        bucket_counts=[2, 3, 2],
        attributes=[attribute("http.method", "GET")],
    )
    point.exemplars.add(time_unix_nano=TIME_NS, as_double=0.5, span_id=b"12345678")
    found, as_sent = sent(made, options)
    method = "http_method=GET"
    assert {name: value(series) for name, series in found.items()} == {
        f"http_duration_seconds_count{{{method}}}": 7,
        f"http_duration_seconds_sum{{{method}}}": 9.5,
        f"http_duration_seconds_bucket{{{method},le=0.1}}": 2,
        f"http_duration_seconds_bucket{{{method},le=5}}": 5,
        f"http_duration_seconds_bucket{{{method},le=+Inf}}": 7,
    }
    carrying = [name for name, series in found.items() if series.exemplars]
    assert carrying == [f"http_duration_seconds_bucket{{{method},le=5}}"]
    if options is RAW1:
        assert as_sent.families == {"http_duration_seconds": (3, "How long.", "seconds")}
    else:
        for series in found.values():
            assert series.metadata == [(3, "How long.", "seconds")]
            assert series.points[0].start_ms == TIME_MS - 1000


@pytest.mark.parametrize("options", [RAW1, RAW2], ids=["v1", "v2"])
def test_a_summary_is_its_quantiles(options: Any) -> None:
    made, metrics = request()
    metric = metrics.add(name="rpc")
    point = metric.summary.data_points.add(time_unix_nano=TIME_NS, count=4, sum=2.5)
    point.quantile_values.add(quantile=0.5, value=0.25)
    point.quantile_values.add(quantile=1, value=2)
    found, _ = sent(made, options)
    assert {name: value(series) for name, series in found.items()} == {
        "rpc_count{}": 4,
        "rpc_sum{}": 2.5,
        "rpc{quantile=0.5}": 0.25,
        "rpc{quantile=1}": 2,
    }


@pytest.mark.parametrize("options", [RAW1, RAW2], ids=["v1", "v2"])
def test_no_recorded_value_is_a_stale_marker(options: Any) -> None:
    made, metrics = request()
    metrics.add(name="a").gauge.data_points.add(time_unix_nano=TIME_NS, flags=1)
    metric = metrics.add(name="h")
    metric.histogram.aggregation_temporality = 2
    metric.histogram.data_points.add(time_unix_nano=TIME_NS, flags=1, sum=0, bucket_counts=[0])
    found, _ = sent(made, options)
    assert set(found) == {"a{}", "h_count{}", "h_sum{}", "h_bucket{le=+Inf}"}
    (stale,) = struct.unpack("<Q", STALE)
    assert {series.points[0].content for series in found.values()} == {stale}


@pytest.mark.parametrize("options", [RAW1, RAW2], ids=["v1", "v2"])
def test_an_exponential_histogram_is_a_native_one(options: Any) -> None:
    made, metrics = request()
    metric = metrics.add(name="e")
    metric.exponential_histogram.aggregation_temporality = 2
    point = metric.exponential_histogram.data_points.add(
        time_unix_nano=TIME_NS, count=5, sum=7, scale=1, zero_count=1
    )
    point.positive.offset = 2
    point.positive.bucket_counts.extend([1, 0, 3])
    found, _ = sent(made, options)
    (series,) = found.values()
    (native,) = series.points
    assert native.time_ms == TIME_MS
    parsed = parse_histogram(native.content, 0, len(native.content))
    assert isinstance(parsed, ExponentialPoint)
    assert (parsed.count, parsed.scale, parsed.zero_count) == (5, 1, 1)
    assert parsed.positive == Buckets(2, (1, 0, 3))


def test_what_prometheus_cannot_express_is_counted_by_its_reason() -> None:
    made, metrics = request()
    for name, kind in (("d", "sum"), ("dh", "histogram"), ("de", "exponential_histogram")):
        metric = metrics.add(name=name)
        getattr(metric, kind).aggregation_temporality = 1
        getattr(metric, kind).data_points.add(time_unix_nano=TIME_NS)
    metric = metrics.add(name="fine")
    metric.exponential_histogram.aggregation_temporality = 2
    metric.exponential_histogram.data_points.add(time_unix_nano=TIME_NS, scale=-5)
    metric = metrics.add(name="wrong")
    metric.histogram.aggregation_temporality = 2
    metric.histogram.data_points.add(time_unix_nano=TIME_NS, count=3, bucket_counts=[1, 1])
    rig = Rig()
    rig.export(RigSink("s", limit=1000, options=RAW2))
    rig.feed(made.SerializeToString(), protocol="otlp_metrics")
    rows = {drop.family: drop.reason for drop in rig.engine.drops.rows()}
    assert rows == {
        "d": "temporality",
        "dh": "temporality",
        "de": "temporality",
        "fine": "scale",
        "wrong": "contradiction",
    }


@examples(100)
@given(
    scale=st.integers(-4, 12),
    offset=st.integers(-200, 200),
    counts=st.lists(st.integers(0, 3) | st.just(0), max_size=40),
)
def test_buckets_come_back_from_a_native_histogram(
    scale: int, offset: int, counts: list[int]
) -> None:
    buckets = Buckets(offset, tuple(counts))
    total = sum(counts)
    point = ExponentialPoint(TIME_NS, 2 * total, None, scale, positive=buckets, negative=buckets)
    message = native_histogram(point)
    assert message is not None
    parsed = parse_histogram(message, 0, len(message))
    assert isinstance(parsed, ExponentialPoint)
    down = max(0, scale - 8)
    expected: dict[int, int] = {}
    for at, count in enumerate(counts, offset):
        if count:
            expected[at >> down] = expected.get(at >> down, 0) + count
    for side in (parsed.positive, parsed.negative):
        got = {at: count for at, count in enumerate(side.counts, side.offset) if count}
        assert got == expected
    assert parsed.count == 2 * total


def test_bounds_are_the_shortest_decimals() -> None:
    bounds = [0.1, 5.0, 1e-7, 1e21, 2.5e10, -0.5, math.inf, 100.0]
    assert [bound_text(bound) for bound in bounds] == [
        "0.1",
        "5",
        "0.0000001",
        "1000000000000000000000",
        "25000000000",
        "-0.5",
        "+Inf",
        "100",
    ]
