"""A running relay's answer about metrics that came by OTLP: all their names count."""

from __future__ import annotations

import pytest

from relay.config.exporter.types import (
    Endpoint,
    Exporter,
    OtlpHttp,
    PrometheusRemoteWrite,
    Sink,
    Source,
)
from relay.control.explain import Explainer, parse_series
from relay.control.explain_service import ExplainService, ProjectQuestion
from relay.control.time_slicing import Turns
from relay.pipeline.routing.tenancy import ANYWHERE, UNMAPPED, IngestPath, Tenancy
from relay.selector.metricsql.parser import parse_query
from tests.kit.engine_rig import Rig, RigSink
from tests.kit.otlp.official import METRICS, attribute
from tests.kit.remote_write import raw

URL = "https://metrics.example.com"
CUMULATIVE, DELTA = OtlpHttp(URL), OtlpHttp(URL, temporality="delta")
NO_SUMMARIES = OtlpHttp(URL, unsupported_kinds=frozenset({"summary"}))
REMOTE_WRITE = PrometheusRemoteWrite(URL, external_labels=(("cluster", "c1"),))


def body(project: str = "") -> bytes:
    """Return a request of one stream of each kind."""
    request = METRICS.request()
    resource = request.resource_metrics.add()
    resource.resource.attributes.append(attribute("service.name", "shop"))
    if project:
        resource.resource.attributes.append(attribute("milo.project.id", project))
    scope = resource.scope_metrics.add()
    for name, kind, temporality in (
        ("orders.delta", "sum", 1),
        ("orders.placed", "sum", 2),
        ("orders.open", "sum", 2),
        ("orders.time", "histogram", 2),
        ("orders.size", "summary", 0),
    ):
        metric = scope.metrics.add(name=name, unit="s" if kind == "histogram" else "")
        data = getattr(metric, kind)
        if temporality:
            data.aggregation_temporality = temporality
        if kind == "sum":
            data.is_monotonic = name != "orders.open"
        data.data_points.add(time_unix_nano=10**18, attributes=[attribute("shop.id", "7")])
    return bytes(request.SerializeToString())


def rig_of(*exporters: Exporter, tenancy: Tenancy | None = None, sent: bytes | None = None) -> Rig:
    rig = Rig(tenancy=tenancy)
    for one in exporters:
        target = RigSink("s0", limit=10, exporter=one.id).target
        sources = [(source.name, source.selector, [target]) for source in one.sources]
        rig.engine.add_exporter(one.id, one.project, sources)
    rig.feed(sent or body(), protocol="otlp_metrics")
    return rig


def exporter(query: str, *endpoints: Endpoint, project: str = "") -> Exporter:
    sinks = [Sink(f"s{n}", ("s",), one) for n, one in enumerate(endpoints or (CUMULATIVE,))]
    source = Source("s", query, parse_query(query))
    return Exporter(project, "default", "x", (source,), tuple(sinks))


def told(query: str, series: str, *endpoints: Endpoint) -> list[str]:
    one = exporter(query, *endpoints)
    rig = rig_of(one)
    explainer = Explainer.running(rig.engine, {one.id: one})
    found = list(explainer.series(parse_series(series)))
    is_taken = any(line.startswith("  yes") for line in found)
    assert explainer.takers(parse_series(series)) == ([("default/x", "s")] if is_taken else [])
    return found


@pytest.mark.parametrize(
    "series",
    [
        'orders_delta_total{job="shop"}',
        '{"orders.delta"}',
        '{"orders.delta","service.name"="shop",shop_id="7"}',
        'orders_delta_total{job="shop",service_name="shop","service.name"="shop","shop.id"="7"}',
    ],
)
def test_a_stream_is_found_by_each_of_its_names(series: str) -> None:
    for query in ('{"orders.delta"}', "orders_delta_total", '{"orders.delta","shop.id"="7"}'):
        found = told(query, series, DELTA)
        assert found[0].startswith("orders_delta_total{")
        assert found[0].endswith("came by OTLP")
        assert "  yes: source s takes it, to s0" in found
        assert "As OTLP (as it came): orders.delta (sum, delta, monotonic)" in found
        assert "  in Prometheus: orders_delta_total" in found


def test_a_refusal_tells_of_every_name() -> None:
    found = told('{"other.name"}', "orders_delta_total")
    assert '    __name__="other.name" fails: __name__ is "orders_delta_total"' in found
    assert '    __name__="other.name" fails: __name__ is "orders.delta"' in found


def test_a_matcher_that_excludes_one_name_tells_which() -> None:
    found = told('{__name__!="orders.delta"}', "orders_delta_total")
    assert '    __name__!="orders.delta" fails: __name__ is "orders.delta"' in found
    found = told('{__name__!="orders_time_seconds_sum"}', '{"orders.time"}')
    assert any("is" in line and "orders_time_seconds_sum" in line for line in found)
    assert not any(line.startswith("  yes") for line in found)


def test_the_group_that_takes_it_is_told() -> None:
    found = told('{job="none" or __name__="orders.delta"}', "orders_delta_total")
    assert '    because of {__name__="orders.delta"}' in found


@pytest.mark.parametrize("series", ["orders_time_seconds", 'orders_time_seconds_bucket{le="1"}'])
def test_a_histogram_is_one_thing(series: str) -> None:
    found = told('{__name__=~"orders_time_seconds_(count|sum|bucket)"}', series)
    assert "  yes: source s takes it, to s0" in found
    assert "As OTLP (as it came): orders.time (histogram, cumulative)" in found
    found = told("orders_time_seconds_bucket", series)
    assert any(line.startswith("  no") for line in found)


@pytest.mark.parametrize(
    ("name", "endpoint", "said"),
    [
        ("orders.delta", DELTA, ""),
        ("orders.delta", CUMULATIVE, "nothing: its points are deltas, and the sink takes"),
        ("orders.delta", REMOTE_WRITE, "nothing: its points are deltas, and remote write"),
        ("orders.placed", CUMULATIVE, ""),
        ("orders.placed", DELTA, "as deltas"),
        ("orders.open", DELTA, "as a gauge"),
        ("orders.time", DELTA, "as deltas"),
        ("orders.size", DELTA, ""),
        ("orders.size", NO_SUMMARIES, "nothing: its profile takes no summary"),
        ("orders.placed", REMOTE_WRITE, "as Prometheus would store it, by remote write 1.0, with"),
    ],
)
def test_what_each_sink_gets(name: str, endpoint: Endpoint, said: str) -> None:
    found = [line for line in told("{}", f'{{"{name}"}}', endpoint) if line.startswith("    s0: ")]
    assert [line[8 : 8 + len(said)] for line in found] == ([said] if said else [])


def test_a_series_of_remote_write_goes_first_and_others_are_as_before() -> None:
    one = exporter('{"orders.delta"}')
    rig = rig_of(one)
    rig.feed(raw.text_series({"__name__": "orders_delta_total", "job": "shop"}, (1.0, 1)))
    explainer = Explainer.running(rig.engine, {one.id: one})
    found = list(explainer.series({"__name__": "orders_delta_total", "job": "shop"}))
    assert found[1].startswith("  no: source s")
    for other in ('orders_delta_total{job="other"}', "unknown"):
        assert "came by OTLP" not in "\n".join(explainer.series(parse_series(other)))


async def test_a_project_hears_of_its_own_streams_alone() -> None:
    tenancy = Tenancy("tenant")
    own = exporter('{"orders.delta"}', project="acme")
    foreign = exporter("{}", project="globex")
    rig = rig_of(own, foreign, tenancy=tenancy, sent=body("globex"))
    service = ExplainService(rig.engine, Turns(), lambda: (own, foreign))
    question = ProjectQuestion("acme", {"__name__": "orders_delta_total"})
    assert "came by OTLP" not in "\n".join((await service.answer_project(question)).lines)
    rig.feed(body("acme"), protocol="otlp_metrics")
    found = await service.answer_project(question)
    assert found.takers == (("acme/default/x", "s"),)
    assert "globex" not in "\n".join(found.lines)


@pytest.mark.parametrize(
    ("series", "origin"),
    [("orders_open", UNMAPPED), ('orders_open{project="other"}', ANYWHERE)],
)
def test_a_series_of_nobody_or_of_others_is_no_project_s_stream(
    series: str, origin: IngestPath
) -> None:
    one = exporter("orders_open", project="acme")
    rig = rig_of(one, tenancy=Tenancy("project"), sent=body("acme"))
    explainer = Explainer.running(rig.engine, {one.id: one})
    assert explainer.takers(parse_series("orders_open")) == [("acme/default/x", "s")]
    assert explainer.takers(parse_series(series), origin) == []
