"""``relay explain`` of series that go to remote-write sinks."""

from __future__ import annotations

from relay.config.exporter.types import (
    Endpoint,
    Exporter,
    OtlpHttp,
    PrometheusRemoteWrite,
    Sink,
    Source,
)
from relay.control.explain import Explainer, parse_series
from relay.selector.metricsql.parser import parse_query

URL = "https://metrics.example.com/api/v1/write"
RAW = PrometheusRemoteWrite(URL, external_labels=(("cluster", "c1"), ("job", "no")))
OTLP = OtlpHttp("https://otlp.example.com/v1/metrics")


def lines(query: str, series: str, *endpoints: Endpoint) -> list[str]:
    """What is said of a series with one exporter."""
    sinks = tuple(Sink(f"s{n}", ("s",), endpoint) for n, endpoint in enumerate(endpoints))
    source = Source("s", query, parse_query(query))
    explainer = Explainer.offline([Exporter("", "default", "x", (source,), sinks)])
    return list(explainer.series(parse_series(series)))


def test_a_raw_sink_gets_it_as_it_came() -> None:
    found = lines("{}", 'up{job="a"}', RAW)
    assert found[:4] == [
        "default/x",
        "  yes: source s takes it, to s0",
        "    because of {}",
        '    s0: as it came, by remote write 1.0, with cluster="c1"',
    ]
    assert found[4:] == ["", "As it came: no sink that takes it needs its type"]


def test_sinks_of_both_kinds() -> None:
    found = lines("{}", "up", PrometheusRemoteWrite(URL, version="2.0"), OTLP)
    assert "  yes: source s takes it, to s0, s1" in found
    assert "    s0: as it came, by remote write 2.0" in found
    assert not any(line.startswith("    s1:") for line in found)
    assert any(line.startswith("As OTLP (type by name") for line in found)


def test_members_of_a_histogram_are_no_matter_of_a_raw_sink() -> None:
    query = '{__name__="h_bucket"}'
    assert not any("single number" in line for line in lines(query, 'h_bucket{le="1"}', RAW))
    assert any("single number" in line for line in lines(query, 'h_bucket{le="1"}', RAW, OTLP))


def test_a_series_that_no_sink_takes() -> None:
    found = lines('{__name__="other"}', "up", RAW)
    assert any(line.startswith("As OTLP") for line in found)
