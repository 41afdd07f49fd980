"""Streams of OTLP metrics: tenants, limits, changes of exporters, and points that are no good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from relay.pipeline.limits import Limits
from relay.pipeline.metrics.otlp import streams as streams_module
from relay.pipeline.metrics.otlp.stream_table import HEAD_ENTRIES
from relay.pipeline.routing.match_set import OutputOptions
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.tenancy import IngestPath, Tenancy
from relay.runtime.errors import OverloadedError
from tests.kit.engine_rig import EVERYTHING, Rig, RigSink, named
from tests.kit.otlp.metrics_requests import rows
from tests.kit.otlp.official import METRICS, attribute

PROTOCOL = "otlp_metrics"
TIME_NS = 10**18
TENANCY = Tenancy("project", {(7, 0): "seven"})


def body(
    count: int = 1,
    *,
    resource: Mapping[str, Any] | None = None,
    name: str = "m",
    first: int = 0,
    text: str = "",
    **fields: Any,
) -> bytes:
    """Return a request of one gauge with so many streams, with ``text`` as a further attribute."""
    request = METRICS.request()
    made = request.resource_metrics.add()
    made.resource.attributes.extend(attribute(*pair) for pair in (resource or {}).items())
    gauge = made.scope_metrics.add().metrics.add(name=name).gauge
    for number in range(first, first + count):
        point = {"time_unix_nano": TIME_NS, "as_int": number, **fields}
        attributes = [attribute("n", number), *([attribute("text", text)] if text else [])]
        gauge.data_points.add(attributes=attributes, **point)
    return bytes(request.SerializeToString())


def held(sink: RigSink) -> int:
    return sum(batch.count for batch in sink.batches)


def of_project(project: str) -> dict[str, str]:
    return {"milo.project.id": project}


@pytest.mark.parametrize("label", ["project", ""], ids=["label", "accounts"])
def test_tenants_are_named_by_the_resource_or_the_path(label: str) -> None:
    rig = Rig(tenancy=TENANCY.renamed(label))
    sinks = {
        project: rig.export(RigSink("s", limit=100), exporter=project, project=project)
        for project in ("a", "seven")
    }
    rig.feed(body(2, resource=of_project("a")), protocol=PROTOCOL)
    rig.feed(body(3), protocol=PROTOCOL, origin=IngestPath("seven"))
    contradicting = rig.feed(
        body(4, resource=of_project("a")), protocol=PROTOCOL, origin=IngestPath("seven")
    )
    assert {project: held(sink) for project, sink in sinks.items()} == {"a": 2, "seven": 3}
    assert contradicting.dropped == {"no_tenant": 4}
    assert "names the project 'a'" in contradicting.examples[0]
    two = body(resource={"vm_account_id": "7", **of_project("a")})
    origin = IngestPath(by_labels=True)
    (told,) = rig.feed(two, protocol=PROTOCOL, origin=origin).examples
    assert "account of its attributes belongs to another" in told


def test_what_many_resources_lack_is_said_once_and_leaves_room() -> None:
    rig = Rig(tenancy=TENANCY)
    lost = b"".join(body(resource={"host.name": str(number)}) for number in range(9))
    lost += body(resource=of_project("a"), text="x" * 20_000)
    transaction = rig.feed(lost, protocol=PROTOCOL)
    assert transaction.dropped == {"no_tenant": 9, "too_large": 1}
    told, other = transaction.examples
    assert told.startswith("the resource names no project: set its attribute")
    assert "no_tenant" not in told
    assert "too_large" in other


def test_points_without_a_project_are_counted_and_told_if_the_operator_wants_it() -> None:
    resource = {"service.name": "api"}
    for reports in (True, False):
        rig = Rig(tenancy=TENANCY, tenants=ResourceTenants(TENANCY, ("p",), tells_senders=reports))
        transaction = rig.feed(body(3, resource=resource), protocol=PROTOCOL)
        statistics = rig.engine.statistics()
        assert statistics.received_by_protocol == {PROTOCOL: 3}
        assert not transaction.has_effect
        if reports:
            assert transaction.dropped == {"no_tenant": 3}
            (example,) = transaction.examples
            assert "of service.name 'api' names no project: set its attribute p" in example
        else:
            assert not transaction.dropped
            assert statistics.router.unmatched_samples == 3


def test_known_streams_follow_changes_of_exporters() -> None:
    rig = Rig()
    first = rig.export(RigSink("s", limit=100), exporter="first", sources={"m": named("m")})
    rig.feed(body(2), protocol=PROTOCOL)
    second = rig.export(RigSink("t", limit=100), exporter="second")
    rig.feed(body(2), protocol=PROTOCOL)
    assert (held(first), held(second)) == (4, 2)
    rig.engine.replace_exporter("first", [("m", named("other"), [first.target])])
    rig.feed(body(2), protocol=PROTOCOL)
    assert (held(first), held(second)) == (4, 4)
    rig.engine.remove_exporter("second")
    rig.feed(body(2), protocol=PROTOCOL)
    assert (held(first), held(second)) == (4, 4)
    assert rig.engine.statistics().router.unmatched_samples == 2


def test_evicted_streams_come_back_and_memory_is_bounded() -> None:
    rig = Rig(Limits(series_max=50))
    sink = rig.export(RigSink("s", limit=10_000))
    for round_ in range(40):
        rig.feed(body(20, first=20 * (round_ % 20), name=f"m{round_ % 7}"), protocol=PROTOCOL)
    assert held(sink) == 800
    assert rig.engine.table.active <= 50
    known = rig.engine.streams.known
    assert known._entries <= 50 + 3 * HEAD_ENTRIES
    rig.flush()
    sent = [row for sealed in sink.sealed for row in rows(sealed.point_buffer.encode())]
    assert len(sent) == 800


def test_streams_above_the_limit_of_a_project_are_refused() -> None:
    rig = Rig(Limits(project_series_max=lambda _: 3), tenancy=TENANCY)
    sink = rig.export(RigSink("s", limit=100), exporter="a", project="a")
    for _ in range(2):
        rig.feed(body(5, resource=of_project("a")), protocol=PROTOCOL)
    rig.engine.statistics()
    assert held(sink) == 6
    (drop,) = rig.engine.drops.rows()
    assert (drop.family, drop.reason, drop.samples) == ("m", "project_limit", 4)


def test_equal_labels_of_other_resources_are_other_streams() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=100))
    wanted = []
    for number in (1, "1"):
        wanted.append(body(resource={"host": number}))
        for _ in range(2):
            rig.feed(wanted[-1], protocol=PROTOCOL)
    rig.flush()
    (sealed,) = sink.sealed
    assert rows(sealed.point_buffer.encode()) == [row for one in wanted for row in rows(one) * 2]
    assert rig.engine.table.active == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"time_unix_nano": 0}, "timestamp"),
        ({"time_unix_nano": 1 << 63}, "timestamp"),
        ({"time_unix_nano": 2 * 10**18}, "too_far_in_future"),
    ],
)
def test_points_of_no_good_time_are_dropped(fields: dict[str, int], reason: str) -> None:
    rig = Rig(future_max_s=3600.0)
    sink = rig.export(RigSink("s", limit=100))
    transaction = rig.feed(body(3, **fields), protocol=PROTOCOL)
    assert transaction.dropped == {reason: 3}
    assert held(sink) == 0


def test_metrics_without_a_name_or_temporality_are_refused() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=100))
    nameless = rig.feed(body(2, name=""), protocol=PROTOCOL)
    assert nameless.dropped == {"missing_name": 2}
    assert nameless.examples[0] == "a point of no metric: missing_name"
    request = METRICS.request()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.sum.data_points.add(time_unix_nano=TIME_NS)
    dropped = rig.feed(request.SerializeToString(), protocol=PROTOCOL).dropped
    assert dropped == {"unspecified_temporality": 1}
    assert held(sink) == 0


def test_kinds_that_an_endpoint_does_not_take_are_dropped() -> None:
    rig = Rig()
    rig.export(RigSink("s", limit=100, options=OutputOptions(unsupported=frozenset({"summary"}))))
    request = METRICS.request()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="q")
    metric.summary.data_points.add(time_unix_nano=TIME_NS)
    rig.feed(request.SerializeToString(), protocol=PROTOCOL)
    (drop,) = rig.engine.drops.rows()
    assert (drop.family, drop.reason) == ("q", "unsupported_kind")


def test_too_many_new_streams_are_refused_and_get_further_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams_module, "NEW_SERIES_MAX", 10)
    rig = Rig()
    sink = rig.export(RigSink("s", limit=100), sources={"all": EVERYTHING})
    for _ in range(2):
        with pytest.raises(OverloadedError):
            rig.feed(body(25), protocol=PROTOCOL)
        assert held(sink) == 0
    rig.feed(body(25), protocol=PROTOCOL)
    assert held(sink) == 25


@pytest.mark.parametrize("limit", [1_000, 30_000])
def test_labels_that_are_too_large_are_made_of_few_streams(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resource that is too large is known to be so; other labels are made within a limit."""
    made: list[int] = []
    real = streams_module.selected_labels

    def count(*parts: Any) -> dict[str, str]:
        made.append(1)
        return real(*parts)

    monkeypatch.setattr(streams_module, "selected_labels", count)
    monkeypatch.setattr(streams_module, "NEW_SERIES_BYTES_MAX", 200_000)
    rig = Rig(limits=Limits(series_bytes_max=limit))
    large = {f"k.{number}": "v" * 60 for number in range(200)}  # and as k_0, k_1, ...
    request = body(50, resource=large, text="x" * (limit // 2))
    assert rig.feed(request, protocol=PROTOCOL).dropped == {"too_large": 50}
    assert len(made) == (0 if limit == 1_000 else 5)
    assert rig.feed(body(3), protocol=PROTOCOL).dropped == {}


def test_texts_that_are_no_utf8_are_read_all_the_same() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=100))
    request = body(2, resource={"service.name": "good~"}, name="metric~", text="value~")
    transaction = rig.feed(request.replace(b"~", b"\xff"), protocol=PROTOCOL)
    assert transaction.dropped == {}
    assert held(sink) == 2


def test_metrics_without_good_points_are_new_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "NEW_SERIES_MAX", 10)
    rig = Rig()
    request = METRICS.request()
    scope = request.resource_metrics.add().scope_metrics.add()
    for number in range(12):
        scope.metrics.add(name=f"m{number}").gauge.data_points.add()
    with pytest.raises(OverloadedError):
        rig.feed(request.SerializeToString(), protocol=PROTOCOL)


def test_cumulative_sums_that_do_not_count_up_are_gauges_among_deltas() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=100, options=OutputOptions(temporality="delta")))
    request = METRICS.request()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m", unit="By")
    metric.sum.aggregation_temporality = 2
    point = metric.sum.data_points.add(time_unix_nano=TIME_NS, as_int=-3)
    rig.feed(request.SerializeToString(), protocol=PROTOCOL)
    rig.flush()
    (sealed,) = sink.sealed
    sent = METRICS.request.FromString(sealed.point_buffer.encode())
    (found,) = sent.resource_metrics[0].scope_metrics[0].metrics
    assert (found.name, found.unit) == ("m", "By")
    assert list(found.gauge.data_points) == [point]


def test_sinks_remember_the_deltas_that_they_drop() -> None:
    rig = Rig()
    sink = rig.export(RigSink("s", limit=100))
    request = METRICS.request()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.sum.aggregation_temporality = 1
    metric.sum.data_points.add(time_unix_nano=TIME_NS)
    for tick in (0.0, 5.0):
        rig.feed(request.SerializeToString(), protocol=PROTOCOL, tick=tick)
    assert (sink.counter.deltas, sink.counter.deltas_at) == (2, 1e9 + 5.0)
