"""Tenancy, redaction, limits and plans of the pipelines of logs and traces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.envelope import Envelope, scan
from relay.codec.otlp.record_buffer import RecordBuffer
from relay.codec.otlp.record_fields import (
    attributes_in,
    attributes_of,
    field_of,
    sampled,
    with_severity,
    without_severity,
)
from relay.codec.protobuf import field_bytes
from relay.codec.remote_write.v1 import no_pause
from relay.pipeline.contract import MULTITENANT, Tenant
from relay.pipeline.records.pipeline import RecordOptions, RecordsPipeline
from relay.pipeline.records.resource_table import (
    ATTRIBUTE_BYTES,
    BYTES_MAX,
    SCOPE_BYTES_MAX,
    SCOPES_MAX,
    ResourceTable,
)
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.tenancy import ANYWHERE, Tenancy
from relay.runtime.errors import DecodeError, TooLargeError
from relay.selector.inventory.store import Inventory, ManifestIndex, Object
from relay.selector.records.logql import parse_selector
from relay.selector.records.selection import RecordSelection, threshold_of
from relay.selector.resources.compiler import Compiler
from relay.selector.resources.label_selector import (
    LabelSelector,
    Requirement,
    ResourceSelection,
    ResourceSelector,
)
from tests.kit.otlp.batches import request_of, values_of
from tests.kit.otlp.official import LOGS, TRACES, attribute
from tests.own_time import CountingPace

ACCOUNTS = {(1, 0): "acme", (2, 0): "umbrella"}


class Rig:
    """A pipeline of logs with a sink for each project."""

    def __init__(self, *projects: str, limit: int = 500, **options: Any) -> None:
        self.options = options.pop("options", RecordOptions())
        self.pipeline = RecordsPipeline("logs", options=self.options, **options)
        self.batches: dict[str, OpenBatch] = {}
        for project in projects:
            self.select(project, RecordSelection(), limit)

    def select(self, project: str, selection: RecordSelection, limit: int = 500) -> None:
        """Give a project's exporter this selection."""
        batch = OpenBatch(None, limit=limit, new_buffer=RecordBuffer)
        batch = self.batches.setdefault(project, batch)
        target = SinkOutputSpec(SinkCounter(f"{project}/x", "s"), [batch])
        self.pipeline.router.set_sources(f"{project}/x", project, [("all", selection, [target])])

    def ingest(self, body: bytes, tenant: Tenant | None = None) -> Any:
        """Apply a request."""
        origin = self.pipeline.path_of(tenant)
        return self.pipeline.ingest(body, now=1.0, tick=1.0, origin=origin)

    def got(self, project: str) -> list[float]:
        """The numbers in a project's batch."""
        return values_of(LOGS, self.batches[project].point_buffer.encode())


def logs(*values: float, **attributes: Any) -> bytes:
    """A request with a resource of these attributes, their names with dots."""
    request = LOGS.request.FromString(request_of(LOGS, values))
    (resource,) = request.resource_logs
    for name, value in attributes.items():
        resource.resource.attributes.append(attribute(name.replace("__", "."), value))
    return bytes(request.SerializeToString())


def tenants(**options: Any) -> Rig:
    tenancy = Tenancy("label", ACCOUNTS)
    return Rig("acme", "umbrella", tenants=ResourceTenants(tenancy, **options))


def test_a_resource_names_its_project() -> None:
    rig = tenants()
    rig.ingest(logs(1.0, milo__project__id="acme") + logs(2.0, milo__project__id="umbrella"))
    assert (rig.got("acme"), rig.got("umbrella")) == ([1.0], [2.0])


def test_the_path_names_it_and_both_must_say_the_same() -> None:
    rig = tenants()
    rig.ingest(logs(1.0), Tenant(1))
    rig.ingest(logs(2.0, milo__project__id="acme"), Tenant(1))
    result = rig.ingest(logs(3.0, milo__project__id="umbrella"), Tenant(1))
    assert result.dropped == {"no_tenant": 1}
    assert "names the project 'umbrella'" in result.examples[0]
    assert rig.got("acme") == [1.0, 2.0]
    assert rig.got("umbrella") == []


def test_the_multitenant_path_has_accounts_in_attributes() -> None:
    rig = tenants()
    rig.ingest(logs(1.0, vm_account_id=2), MULTITENANT)
    assert rig.got("umbrella") == [1.0]


def test_the_first_tenant_attribute_that_is_there_counts() -> None:
    rig = tenants(attributes=("a", "b"))
    rig.ingest(logs(1.0, b="acme") + logs(2.0, a="umbrella", b="acme") + logs(3.0, a="", b="acme"))
    assert (rig.got("acme"), rig.got("umbrella")) == ([1.0, 3.0], [2.0])


@pytest.mark.parametrize("reports", [True, False])
def test_records_without_a_project_are_counted_and_told_where_wanted(reports: bool) -> None:
    rig = tenants(tells_senders=reports)
    result = rig.ingest(logs(1.0, 2.0) + logs(3.0, milo__project__id="acme"))
    assert result.dropped == ({"no_tenant": 2} if reports else {})
    assert result.taken.samples == 1
    assert rig.pipeline.statistics().no_tenant == 2
    if reports:
        assert result.examples == [
            "the resource of service.name 'api' names no project: set its attribute milo.project.id"
        ]


def test_records_of_a_project_without_exporters_match_nothing() -> None:
    rig = tenants()
    result = rig.ingest(logs(1.0, milo__project__id="other"))
    assert (result.dropped, result.has_effect) == ({}, False)
    assert rig.pipeline.statistics().unmatched == 1


def test_attributes_are_redacted_before_anything_is_queued() -> None:
    rig = Rig()
    rules = (("service.name", "hash"), ("label", "drop"))
    selection = RecordSelection(parse_selector('{service_name="api"}'), redactions=rules)  # type: ignore[arg-type]
    rig.select("", selection)
    rig.ingest(logs(1.0, 2.0))
    assert rig.got("") == [1.0, 2.0]
    body = rig.batches[""].point_buffer.encode()
    (resource,) = LOGS.request.FromString(body).resource_logs
    (name,) = resource.resource.attributes
    assert name.value.string_value == hashlib.sha256(b"api").hexdigest()
    assert [list(one.attributes) for one in resource.scope_logs[0].log_records] == [[], []]


def test_a_record_that_cannot_be_read_is_not_sent_where_it_is_redacted() -> None:
    rig = Rig()
    rig.select("", RecordSelection(redactions=(("label", "drop"),)))
    head = b"\x0a\x00"
    unreadable = b"\x12\x09\x32\x07\x0a\x09label"
    scope = head + unreadable
    rig.ingest(b"\x0a" + bytes((len(scope) + 2,)) + b"\x12" + bytes((len(scope),)) + scope)
    assert rig.batches[""].count == 0
    assert rig.pipeline.statistics().unmatched == 0
    (drop,) = rig.pipeline.drops.rows()
    assert (drop.exporter, drop.sink, drop.reason, drop.samples) == ("/x", "s", "unreadable", 1)


def test_a_change_of_sources_holds_for_known_resources() -> None:
    rig = Rig("")
    rig.ingest(logs(1.0))
    rig.select("", RecordSelection(parse_selector('{service_name="other"}')))
    rig.ingest(logs(2.0))
    rig.select("", RecordSelection(parse_selector('{service_name="api"}')))
    rig.ingest(logs(3.0))
    assert rig.got("") == [1.0, 3.0]
    rig.pipeline.router.remove("/x")
    rig.ingest(logs(4.0))
    assert rig.got("") == [1.0, 3.0]


def test_a_change_of_the_inventory_holds_for_known_resources() -> None:
    inventory = Inventory(objects_max=10)
    rig = Rig(inventory=inventory, compiler=Compiler())
    wanted = LabelSelector((Requirement("team", "In", ("a",)),))
    selector = ResourceSelector(LabelSelector(), wanted)
    rig.select("", RecordSelection(resources=ResourceSelection("n", (selector,))))
    body = logs(1.0, resource_kind="Pod", resource_namespace="n", resource_name="p")
    rig.ingest(body)
    assert rig.got("") == []
    pod = Object("", "api", "Pod", "n", "p", "", {"team": "a"})  # service.name is the API group
    inventory.replace_manifests(ManifestIndex([pod]))
    rig.ingest(body)
    assert rig.got("") == [1.0]


def test_what_is_too_large_is_left_out_and_told() -> None:
    rig = Rig("")
    result = rig.ingest(logs(1.0, big="x" * (1 << 20)) + logs(2.0))
    assert result.dropped == {"record_too_large": 1}
    assert rig.got("") == [2.0]
    request = LOGS.request.FromString(logs(3.0, 4.0))
    request.resource_logs[0].scope_logs[0].log_records[0].body.string_value = "x" * (4 << 20)
    result = rig.ingest(request.SerializeToString())
    assert result.dropped == {"record_too_large": 1}
    assert rig.got("") == [2.0, 4.0]


def test_batches_are_sealed_by_number_and_by_bytes() -> None:
    rig = Rig("", limit=3)
    result = rig.ingest(logs(*map(float, range(7))))
    assert [sealed.count for _, sealed in result.sealed] == [3, 3]
    rig = Rig("")
    request = LOGS.request.FromString(logs(*map(float, range(6))))
    for record in request.resource_logs[0].scope_logs[0].log_records:
        record.attributes.append(attribute("pad", "x" * (1 << 20)))
    result = rig.ingest(request.SerializeToString())
    assert [sealed.count for _, sealed in result.sealed] == [4]
    assert rig.batches[""].count == 2


def test_too_many_records_are_refused() -> None:
    rig = Rig("")
    many = b"\x12\x00" * 500_001
    scope = b"\x12\xa2\x89\x3d" + many
    assert len(many) == 1_000_002
    with pytest.raises((TooLargeError, DecodeError)):
        rig.ingest(b"\x0a\xa6\x89\x3d" + scope)
    assert rig.pipeline.offsets.low == rig.pipeline.offsets.following


def test_a_resource_keeps_a_bounded_number_of_scopes() -> None:
    table = ResourceTable(entries_max=10_000, idle_s=10.0)
    resource = table.add(ANYWHERE, b"", [], "")
    for number in range(SCOPES_MAX + 10):
        table.scope(resource, b"\x1a\x04%04d" % number)
    assert len(resource.scopes) == SCOPES_MAX


def test_a_resource_keeps_a_bounded_number_of_bytes_of_scopes() -> None:
    table = ResourceTable(entries_max=10_000, idle_s=10.0)
    resource = table.add(ANYWHERE, b"", [], "")
    for number in range(100):
        head = b"\x1a\x80\x80\x40%07d%b" % (number, bytes((1 << 20) - 7))
        assert table.find(ANYWHERE, b"") is resource
        assert table.scope(resource, head).group.scope == head
    assert SCOPE_BYTES_MAX <= sum(map(len, resource.scopes)) < 2 * SCOPE_BYTES_MAX


def test_attributes_count_as_memory_and_scopes_share_those_of_their_resource() -> None:
    table = ResourceTable(entries_max=10_000, idle_s=10.0)
    many = [(f"k{number}", "") for number in range(BYTES_MAX // ATTRIBUTE_BYTES // 2)]
    resource = table.add(ANYWHERE, b"many", many, "")
    scope = table.scope(resource, b"\x0a\x06\x1a\x04\x0a\x02s1")
    assert scope.attributes.get("k7", is_exact=True) == ""
    assert scope.attributes.get("s1", is_exact=False) == ""
    assert scope.attributes.get("s2", is_exact=False) is None
    assert list(scope.attributes.exact) == ["s1"]
    for number in range(4):
        table.add(ANYWHERE, b"%d" % number, many, "")
    assert table.find(ANYWHERE, b"many") is None


def test_the_table_forgets_what_is_not_asked_for() -> None:
    table = ResourceTable(entries_max=2, idle_s=10.0)
    for number in range(6):
        table.add(ANYWHERE, b"%d" % number, [], "")
        assert table.find(ANYWHERE, b"0") is not None
    assert table.find(ANYWHERE, b"1") is None
    assert table.statistics().read == 6
    table.sweep(0.5)
    table.sweep(20.0)
    table.sweep(40.0)
    assert table.find(ANYWHERE, b"0") is None


def test_a_sampled_span_goes_out_as_it_came_with_its_tracestate() -> None:
    """The threshold in a tracestate is not raised: spans are passed through byte for byte."""
    pipeline = RecordsPipeline("traces", options=RecordOptions())
    batch = OpenBatch(None, limit=10, new_buffer=RecordBuffer)
    target = SinkOutputSpec(SinkCounter("x", "s"), [batch])
    half = RecordSelection(threshold=threshold_of(0.5), whole_traces=True)
    pipeline.router.set_sources("x", "", [("all", half, [target])])
    request = TRACES.request.FromString(request_of(TRACES, [1.0, 2.0, 3.0]))
    states = ("ot=rv:ffffffffffffff;th:4", "ot=rv:00000000000000", "a=b,ot=th:c")
    for span, state in zip(request.resource_spans[0].scope_spans[0].spans, states, strict=True):
        span.trace_id, span.trace_state = bytes(16), state
    body = request.SerializeToString()
    pipeline.ingest(body, now=1.0, tick=1.0)
    first, _, third = TRACES.rows(body)
    assert TRACES.rows(batch.point_buffer.encode()) == [first, third]


def _ended() -> None:
    raise TimeoutError


# Of 1 MiB, four alike: nothing but fields, or one attribute that is nothing but fields.
FIELDS = b"\x18\x00" * (1 << 19)
LARGE = {"fields": FIELDS, "attribute": field_bytes(b"\x32", FIELDS)}


@pytest.mark.parametrize(
    ("name", "look", "pauses"),
    [
        ("fields", lambda large, pause: with_severity(large, [(0, 4)], 1, pause), 4 * 32),
        ("fields", lambda large, pause: without_severity(large, 0, 4, pause), 4 * 32),
        ("fields", lambda large, pause: sampled(large, [(0, 4)], 1, pause), 4 * 32),
        ("fields", lambda large, pause: field_of(large, 3, 5, pause), 31),
        ("fields", lambda large, pause: attributes_of(large, 3, 6, pause), 31),
        ("fields", lambda large, pause: attributes_in(large.record(0), 6, 0, pause), 31),
        ("attribute", lambda large, pause: attributes_of(large, 3, 6, pause), 32),
    ],
)
def test_large_records_are_looked_at_with_pauses(
    name: str, look: Callable[[Envelope, Callable[[], None]], object], pauses: int
) -> None:
    record = field_bytes(b"\x12", LARGE[name])
    envelope = scan(field_bytes(b"\x0a", field_bytes(b"\x12", record * 4)))
    times: list[int] = []
    found = look(envelope, lambda: times.append(1))
    assert len(times) == pauses
    assert found == look(envelope, no_pause)
    with pytest.raises(TimeoutError):
        look(envelope, _ended)


def test_records_are_copied_to_many_sinks_with_pauses() -> None:
    large = field_bytes(b"\x12", field_bytes(b"\x2a", bytes(3 << 20)))
    body = field_bytes(b"\x0a", field_bytes(b"\x12", large))
    for selection in (RecordSelection(), RecordSelection(redactions=(("a", "drop"),))):
        pipeline = RecordsPipeline("logs")
        batches = [OpenBatch(None, limit=10, new_buffer=RecordBuffer) for _ in range(10)]
        outputs = [SinkOutputSpec(SinkCounter("e", "s"), [batch]) for batch in batches]
        pipeline.router.set_sources("e", "", [("s", selection, outputs)])
        pipeline.ingest(body, now=1.0, tick=1.0)
        pace = CountingPace()
        pipeline.ingest(body, now=1.0, tick=1.0, pace=pace)
        assert pace.pauses >= 10


def test_a_record_with_too_many_attributes_cannot_be_read() -> None:
    for count, is_readable in ((10_000, True), (10_001, False)):
        record = field_bytes(b"\x12", b"\x32\x03\x0a\x01a" * count + b"\x32\x00")
        envelope = scan(field_bytes(b"\x0a", field_bytes(b"\x12", record)))
        found = attributes_of(envelope, 0, 6)
        assert (found == [(b"a", b"")] * count) is is_readable
        assert (found is None) is not is_readable


def test_a_resource_counts_the_records_of_all_its_scopes() -> None:
    rig = tenants()
    made = LOGS.request()
    for project, counts in (("acme", (1, 0, 2)), ("", (4,)), ("umbrella", (0, 5))):
        resource = made.resource_logs.add()
        if project:
            resource.resource.attributes.append(attribute("milo.project.id", project))
        for number, count in enumerate(counts):
            scope = resource.scope_logs.add()
            scope.scope.name = str(number)
            for _ in range(count):
                scope.log_records.add(severity_number=9)
    for turn in (1, 2):
        result = rig.ingest(bytes(made.SerializeToString()))
        assert result.dropped == {"no_tenant": 4}
        counted = {entry.project: entry.records for entry in rig.pipeline.table.entries()}
        assert counted == {"acme": 3 * turn, None: 0, "umbrella": 5 * turn}
