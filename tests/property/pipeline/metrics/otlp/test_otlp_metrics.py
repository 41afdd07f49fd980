"""Data points of OTLP go where a slow reading says, equal to how they came, and nowhere else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codec.otlp.any_value import value_text
from relay.pipeline.metrics.otlp.prometheus_names import label_name, metric_name
from relay.pipeline.routing.match_set import OutputOptions
from relay.pipeline.routing.tenancy import Tenancy
from relay.runtime.errors import DecodeError, TooLargeError
from relay.selector.evaluate import matcher_test
from relay.selector.matchers import NAME, Matcher, Selector
from relay.selector.metricsql.parser import parse_selector
from tests.kit.engine_rig import RAW1, RAW2, Rig, RigSink
from tests.kit.examples import examples
from tests.kit.otlp.metrics_requests import (
    CUMULATIVE,
    DELTA,
    Row,
    metrics_requests,
    points_of,
    read,
    row_of,
    rows,
)

PROTOCOL = "otlp_metrics"
TENANT = "milo.project.id"
SELECTORS = [
    "{}",
    "mem",
    "mem_bytes",
    '{"http.requests"}',
    "http_requests_total",
    '{__name__=~"http.*", __name__!="http.requests"}',
    '{__name__!~"http_requests.*"}',
    '{"service.name"="svc-1"}',
    '{job="svc-1"}',
    '{service_name=~"svc-.*" or a!=""}',
    '{__name__=~"q_(bucket|sum|count)"}',
    '{__name__="q_count"}',
    '{otel_scope_name="lib"}',
]


def texts(attributes: Any) -> dict[str, str]:
    return {one.key: value_text(one.value) for one in attributes if value_text(one.value)}


def names_of(metric: Any, kind: str) -> tuple[set[str], set[str]]:
    """Return the names of all of a metric, and those of its members."""
    monotonic = kind == "sum" and metric.sum.is_monotonic
    name = metric_name(metric.name, metric.unit, kind, monotonic=monotonic)  # type: ignore[arg-type]
    members = {name + suffix for suffix in ("_count", "_sum", "_bucket")}
    return {name, metric.name}, members if "histogram" in kind else set()


def holds(matcher: Matcher, value: str) -> bool:
    return matcher_test(matcher)(value)


def selects(selector: Selector, resource: Any, scope: Any, metric: Any, point: Any) -> bool:
    """Say slowly whether a selector takes a data point."""
    kind = metric.WhichOneof("data")
    alone, members = names_of(metric, kind)
    own, of_resource = texts(point.attributes), texts(resource.resource.attributes)
    labels = {label_name(key): value for key, value in of_resource.items()}
    labels |= {"otel_scope_name": scope.scope.name, "otel_scope_version": scope.scope.version}
    labels |= of_resource | own
    prometheus: dict[str, str] = {}
    for key in sorted(own):
        name = label_name(key)
        if name and name != NAME:
            known = prometheus.get(name)
            prometheus[name] = f"{known};{own[key]}" if known else own[key]
    labels |= prometheus
    job = of_resource.get("service.name", "")
    if job:
        labels["job"] = job

    def group_holds(group: Any, name: str, extra: dict[str, str]) -> bool:
        seen = {**labels, **extra, NAME: name}
        return all(holds(matcher, seen.get(matcher.label, "")) for matcher in group)

    def excluded(group: Any) -> bool:
        return any(
            not holds(matcher, name)
            for matcher in group
            if matcher.label == NAME and matcher.op in ("!=", "!~")
            for name in alone | members
        )

    groups = selector.groups or ((),)
    if members and all(
        any(
            group_holds(group, name, {"le": "+Inf"} if name.endswith("_bucket") else {})
            for group in groups
        )
        for name in members
    ):
        return True
    return any(
        group_holds(group, name, {}) and not excluded(group) for group in groups for name in alone
    )


def wanted_rows(body: bytes, selector: Selector, project: str, temporality: int) -> list[Row]:
    """Return the points that leave as they came to a project's sink ("": of any project)."""
    found = []
    for resource, scope, metric, point in points_of(read(body)):
        owner = texts(resource.resource.attributes).get(TENANT, "")
        data = getattr(metric, metric.WhichOneof("data"))
        own = getattr(data, "aggregation_temporality", temporality)
        if own != temporality or project not in ("", owner):
            continue
        if selects(selector, resource, scope, metric, point):
            found.append(row_of(resource, scope, metric, point))
    return found


@pytest.mark.parametrize("tenancy", [False, True], ids=["alone", "tenants"])
@examples(40)
@given(data=st.data())
def test_every_sink_gets_what_it_selects_as_it_came(tenancy: bool, data: st.DataObject) -> None:
    rig = Rig(tenancy=Tenancy(TENANT) if tenancy else Tenancy())
    chosen: dict[str, Selector] = {}
    for project in ["svc-1", "svc-2"] if tenancy else [""]:
        chosen[project] = parse_selector(data.draw(st.sampled_from(SELECTORS)))
        sinks = [
            RigSink(
                f"{project}{temporality}", limit=1 << 20, options=options, exporter=f"{project}x"
            )
            for temporality, options in (
                (CUMULATIVE, OutputOptions()),
                (DELTA, OutputOptions(temporality="delta")),
                ("raw1", RAW1),
                ("raw2", RAW2),
            )
        ]
        rig.export(*sinks, exporter=f"{project}x", sources={"a": chosen[project]}, project=project)
    bodies = data.draw(st.lists(metrics_requests(), min_size=1, max_size=3))
    taken = dropped = 0
    for body in bodies:
        transaction = rig.feed(body, protocol=PROTOCOL)
        taken += transaction.taken.samples
        dropped += sum(transaction.dropped.values())
    assert taken + dropped == sum(len(rows(body)) for body in bodies)
    rig.flush()
    rig.engine.statistics()  # brings the counters up to date
    for at, (project, selector) in enumerate(chosen.items()):
        for sink, temporality in zip(rig.sinks[4 * at :], (CUMULATIVE, DELTA), strict=False):
            wanted = [
                row for body in bodies for row in wanted_rows(body, selector, project, temporality)
            ]
            got = [row for sealed in sink.sealed for row in rows(sealed.point_buffer.encode())]
            missing = Counter(wanted) - Counter(got)
            assert not missing
            if temporality == CUMULATIVE:
                assert not Counter(got) - Counter(wanted)
    for sink in rig.sinks:
        counter = sink.counter
        assert counter.points == sink.held
        drops = sum(drop.samples for drop in rig.engine.drops.rows() if drop.sink == sink.name)
        assert counter.samples == counter.exported + drops


@examples(100)
@given(st.binary(max_size=60), metrics_requests(), st.integers(0, 400), st.integers(0, 255))
def test_no_bytes_do_more_than_be_refused(noise: bytes, body: bytes, at: int, byte: int) -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=100))
    refused = []
    damaged = body[: at % (len(body) + 1)] + bytes([byte]) + body[at % (len(body) + 1) + 1 :]
    for one in (noise, damaged, body[:at]):
        before = rig.snapshot()
        try:
            rig.feed(one, protocol=PROTOCOL)
        except (DecodeError, TooLargeError):
            refused.append(rig.snapshot() == before)
        rig.flush()
    assert all(refused)
