"""A preview counts streams of OTLP metrics like series, by all their names, and tells of deltas."""

from __future__ import annotations

import asyncio

import pytest

from bench.micro.preview import exporter
from relay.cli.live.preview import render
from relay.control.preview.preview import Preview
from relay.control.preview.result import PreviewResult
from relay.control.tap.points import read_points
from relay.control.time_slicing import Turns
from tests.kit.engine_rig import EVERYTHING, Rig, RigSink
from tests.kit.otlp.official import METRICS, attribute

TIME_NS = 10**18


def body() -> bytes:
    """Return a request of a counter, a delta counter and a histogram, two streams each."""
    request = METRICS.request()
    resource = request.resource_metrics.add()
    resource.resource.attributes.append(attribute("service.name", "api"))
    scope = resource.scope_metrics.add()
    for name, kind, temporality in (
        ("http.requests", "sum", 2),
        ("jobs.done", "sum", 1),
        ("http.duration", "histogram", 2),
    ):
        metric = scope.metrics.add(name=name, unit="s" if kind == "histogram" else "")
        data = getattr(metric, kind)
        data.aggregation_temporality = temporality
        if kind == "sum":
            data.is_monotonic = True
        for number in range(2):
            data.data_points.add(time_unix_nano=TIME_NS, attributes=[attribute("a.b", number)])
    return bytes(request.SerializeToString())


def preview_of(query: str) -> PreviewResult:
    rig = Rig()
    rig.export(RigSink("s", limit=10), sources={"all": EVERYTHING})
    rig.feed(body(), protocol="otlp_metrics")

    async def run() -> PreviewResult:
        events = [event async for event in Preview(rig.engine, Turns(), exporter(query)).count()]
        assert isinstance(events[-1], PreviewResult)
        return events[-1]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "series"),
    [
        ("{}", 6),
        ("http_requests_total", 2),
        ('{"http.requests"}', 2),
        ('{"http.requests","a.b"="1"}', 1),
        ('{a_b="1"}', 3),
        ('{"service.name"="api",job="api"}', 6),
        ('{__name__=~"http_duration_seconds_(bucket|sum|count)"}', 2),
        ("http_duration_seconds_count", 0),
        ('{__name__!="http.requests"}', 4),
        ('{__otlp_kind__!=""}', 0),
    ],
)
def test_streams_count_by_all_their_names(query: str, series: int) -> None:
    result = preview_of(query)
    assert (result.total.series, result.project_series) == (series, 6)


def test_deltas_are_told_with_the_sinks_that_drop_them() -> None:
    result = preview_of("{}")
    ((_, source),) = result.sources
    assert (source.deltas, source.without_deltas) == (2, ("s",))
    lines = list(render(result.document()))
    assert (
        "  2 of them come as deltas, which sinks of cumulative values drop (temporality): s"
        in lines
    )
    assert not any("__otlp" in line for line in lines)
    assert "deltaSeries" not in preview_of("http_requests_total").document()["sources"][0]


def test_a_tap_shows_attributes_of_every_type() -> None:
    point, *_ = read_points("otlp", body(), 6, 20)
    assert (point.metric, point.labels) == ("http.requests", {"a.b": "0"})
    assert point.resource == {"service.name": "api"}
