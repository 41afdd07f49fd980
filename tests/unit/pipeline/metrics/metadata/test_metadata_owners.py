"""Whose metadata types whose series, what a series says of itself, what a target says: row by row.

The property of :mod:`tests.property.pipeline.metrics.test_tenancy_learned` covers all of it; these
say what is right.
"""

from __future__ import annotations

import pytest

from relay.config.exporter.types import Exporter, OtlpHttp, Sink, Source
from relay.control.durability.learned_state import decode_knowledge, encode_knowledge
from relay.control.explain import Explainer, parse_series
from relay.pipeline.routing.match_set import OutputOptions
from relay.pipeline.routing.tenancy import ANYWHERE, MULTITENANT, UNMAPPED, IngestPath, Tenancy
from relay.selector.metricsql.parser import parse_query
from tests.kit.engine_rig import PLAIN, Rig, RigSink
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.remote_write import raw
from tests.kit.remote_write.symbolic import Request2

TENANCY = Tenancy("tenant", {(42, 7): "acme", (43, 0): "zeta"})
SHARED = Tenancy("tenant", {(42, 7): "acme", (43, 0): "zeta"}, shares_metadata=True)
COUNTER, GAUGE = 1, 2
T = raw.T0_MS
DELTA = OutputOptions(temporality="delta")
ORDERS = [(b"__name__", b"acme_orders_total"), (b"job", b"shop"), (b"instance", b"i")]
STRANGERS = (GAUGE, "words of another customer", "secrets")


def owners_rig(tenancy: Tenancy = TENANCY, options: OutputOptions = PLAIN) -> Rig:
    made = Rig(tenancy=tenancy)
    for project in ("acme", "zeta"):
        made.export(
            RigSink("s", limit=1000, exporter=f"{project}/x", options=options),
            exporter=f"{project}/x",
            project=project,
        )
    return made


def acme_got(made: Rig) -> list[AnyPoint]:
    made.flush()
    points = made.sinks[0].any_points()
    made.sinks[0].forget()
    return points


def told(point: AnyPoint) -> tuple[str, str, str]:
    return point.identity.kind, point.identity.description, point.identity.unit


@pytest.mark.parametrize(
    ("origin", "account", "tenancy", "expected"),
    [
        # of another account, by path and marked
        (IngestPath("zeta"), None, TENANCY, ("sum", "", "")),
        (MULTITENANT, (43, 0), TENANCY, ("sum", "", "")),
        # of an account that nobody has
        (UNMAPPED, None, TENANCY, ("sum", "", "")),
        (MULTITENANT, (9, 9), TENANCY, ("sum", "", "")),
        # of nobody: the platform's; it types and lends no words, but where it should
        (ANYWHERE, None, TENANCY, ("gauge", "", "")),
        (MULTITENANT, None, TENANCY, ("gauge", "", "")),
        (ANYWHERE, None, SHARED, ("gauge", STRANGERS[1], "secrets")),
        # of the own account
        (IngestPath("acme"), None, TENANCY, ("gauge", STRANGERS[1], "secrets")),
        (MULTITENANT, (42, 7), TENANCY, ("gauge", STRANGERS[1], "secrets")),
    ],
)
@pytest.mark.parametrize("restarts", [False, True])
def test_metadata_of_a_stranger(
    origin: IngestPath,
    account: tuple[int, int] | None,
    tenancy: Tenancy,
    expected: tuple[str, str, str],
    *,
    restarts: bool,
) -> None:
    made = owners_rig(tenancy)
    made.feed(raw.metadata("acme_orders_total", *STRANGERS, account=account), origin=origin)
    if restarts:
        knowledge = decode_knowledge(encode_knowledge(made.engine.export_metadata()))
        assert knowledge is not None
        made = owners_rig(tenancy)
        made.engine.import_metadata(knowledge)
    made.feed(raw.series(ORDERS, (5.0, T)), origin=IngestPath("acme"))
    assert [told(point) for point in acme_got(made)] == [expected]


def write2(tenant: str, value: float, at: int, metadata: tuple[int, str, str] | None) -> bytes:
    request = Request2()
    labels = {"__name__": "queue_total", "job": "shop", "instance": str(at % 2), "tenant": tenant}
    in_order = dict(sorted(labels.items()))
    request.series(in_order, (value, T + at * 1000), metadata=metadata)
    return request.body


def test_2_0_metadata_of_another_label_is_the_others() -> None:
    made = owners_rig()
    made.feed(write2("zeta", 1.0, 0, STRANGERS), protocol="remote_write_v2")
    made.feed(write2("acme", 1.0, 0, None), protocol="remote_write_v2")
    assert [told(point) for point in acme_got(made)] == [("sum", "", "")]


def test_a_declared_gauge_stays_one_beside_a_declared_counter() -> None:
    made = owners_rig(options=DELTA)
    for at, value in enumerate((10.0, 100.0, 4.0, 101.0, 7.0, 102.0)):
        kind = COUNTER if at % 2 else GAUGE
        made.feed(write2("acme", value, at, (kind, "", "")), protocol="remote_write_v2")
    points = acme_got(made)
    gauges = [point.value for point in points if point.identity.kind == "gauge"]
    sums = [point.value for point in points if point.identity.kind == "sum"]
    assert gauges == [10.0, 4.0, 7.0]
    assert sums == [1.0, 1.0]
    (one,) = made.engine.statistics().types.contradicted
    assert (one.project, one.family, one.kept, one.other) == (
        "acme",
        "queue_total",
        "gauge",
        "counter",
    )


def test_a_series_that_says_something_else_is_that_from_then_on() -> None:
    made = owners_rig()
    for at, kind in enumerate((GAUGE, GAUGE, COUNTER, COUNTER, COUNTER)):
        made.feed(write2("acme", 1.0, 2 * at, (kind, "", "")), protocol="remote_write_v2")
    kinds = [point.identity.kind for point in acme_got(made)]
    assert kinds == ["gauge", "gauge", "sum", "sum", "sum"]


def target_info(env: bytes) -> bytes:
    labels = [(b"__name__", b"target_info"), (b"job", b"shop"), (b"instance", b"i"), (b"env", env)]
    return raw.series(labels, (1.0, T))


def test_what_a_target_says_reaches_series_before_it_in_its_request() -> None:
    for tenancy in (Tenancy(), TENANCY):
        made = Rig(tenancy=tenancy)
        project = "acme" if tenancy.enabled else ""
        made.export(RigSink("s", limit=10), project=project)
        body = raw.series(ORDERS, (5.0, T)) + target_info(b"prod")
        made.feed(body, origin=IngestPath("acme") if tenancy.enabled else ANYWHERE)
        (point,) = acme_got(made)
        assert dict(point.resource)["env"] == "prod"


def test_the_same_of_2_0() -> None:
    made = Rig()
    made.export(RigSink("s", limit=10))
    request = Request2()
    target = {"job": "shop", "instance": "i"}
    request.series({"__name__": "up", **target}, (1.0, T))
    request.series({"__name__": "target_info", **target, "env": "prod"}, (1.0, T))
    made.feed(request.body, protocol="remote_write_v2")
    (point,) = acme_got(made)
    assert dict(point.resource)["env"] == "prod"


def test_what_a_target_said_is_known_after_a_restart_and_to_its_project_alone() -> None:
    before = owners_rig()
    before.feed(target_info(b"prod"), origin=IngestPath("acme"))
    before.feed(raw.series(ORDERS, (5.0, T)), origin=IngestPath("acme"))
    knowledge = decode_knowledge(encode_knowledge(before.engine.export_metadata()))
    assert knowledge is not None
    made = owners_rig()
    made.engine.import_metadata(knowledge)
    for origin in (IngestPath("acme"), IngestPath("zeta")):
        made.feed(raw.series(ORDERS, (5.0, T)), origin=origin)
    made.flush()
    resources = [dict(sink.any_points()[0].resource) for sink in made.sinks]
    assert [resource.get("env") for resource in resources] == ["prod", None]


def test_what_was_known_of_targets_that_stay_away_is_forgotten() -> None:
    before = owners_rig()
    before.feed(target_info(b"prod") + raw.series(ORDERS, (5.0, T)), origin=IngestPath("acme"))
    made = owners_rig()
    made.engine.import_metadata(before.engine.export_metadata())
    assert len(made.engine.resources) == 1
    for tick in (1e6, 1e6 + 3599.0, 1e6 + 3600.0):
        assert made.engine.resources.known()
        other = raw.series([(b"__name__", b"up"), (b"job", b"another")], (1.0, T))
        made.feed(other, tick=tick, origin=IngestPath("acme"))
    assert not made.engine.resources.known()


def test_explain_says_what_the_running_relay_exports() -> None:
    made = owners_rig()
    made.feed(target_info(b"prod"), origin=IngestPath("acme"))
    made.feed(raw.metadata("acme_orders", COUNTER, "Orders.", "bytes"), origin=IngestPath("acme"))
    made.feed(raw.metadata("acme_orders", *STRANGERS), origin=IngestPath("zeta"))
    made.feed(write2("acme", 1.0, 0, (GAUGE, "In line.", "")), protocol="remote_write_v2")
    made.feed(raw.series(ORDERS, (5.0, T)), origin=IngestPath("acme"))
    query = parse_query("{}")
    sink = Sink("s", ("all",), OtlpHttp("https://otlp.example.com/v1/metrics"))
    exporters = {
        f"{project}/x": Exporter(project, "default", "x", (Source("all", "{}", query),), (sink,))
        for project in ("acme", "zeta")
    }
    explainer = Explainer.running(made.engine, exporters)

    def lines(series: str, origin: IngestPath) -> list[str]:
        return list(explainer.series(parse_series(series), origin=origin))

    ours = lines('acme_orders_total{job="shop",instance="i"}', IngestPath("acme"))
    assert "As OTLP (type from metadata): acme_orders_total (sum, cumulative, monotonic)" in ours
    assert "  unit: 'By'" in ours
    assert "  description: 'Orders.'" in ours
    assert "    env = 'prod'" in ours
    theirs = lines('acme_orders_total{job="shop",instance="i"}', IngestPath("zeta"))
    assert "    env = 'prod'" not in theirs
    assert not any("Orders." in line for line in theirs)
    declared = lines('queue_total{instance="0",job="shop",tenant="acme"}', ANYWHERE)
    assert "As OTLP (type declared by the series): queue_total (gauge)" in declared
    assert "  description: 'In line.'" in declared
    exported = {point.name: point.identity for point in acme_got(made)}
    assert exported["queue_total"].kind == "gauge"
    assert exported["acme_orders_total"].description == "Orders."
