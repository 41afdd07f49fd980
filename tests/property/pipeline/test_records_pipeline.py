"""Records go where a slow reading by the official classes says, byte for byte, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codec.otlp.any_value import value_text
from relay.codec.otlp.batch import OpenBatch
from relay.codec.otlp.record_buffer import RecordBuffer
from relay.codec.signal_names import RecordSignal
from relay.pipeline.records.pipeline import RecordsPipeline
from relay.pipeline.routing.match_set import SinkCounter, SinkOutputSpec
from relay.pipeline.routing.resource_tenants import ResourceTenants
from relay.pipeline.routing.tenancy import Tenancy
from relay.selector.records.logql import parse_selector
from relay.selector.records.selection import AttributeMatcher, RecordSelection, plain_name
from relay.selector.regex import compile_regex
from tests.kit.examples import examples
from tests.kit.otlp.official import LOGS, TRACES, Kind, Row, grouped
from tests.kit.otlp.requests import requests

TENANT = "milo.project.id"
PROJECTS = ["svc-1", "svc-2"]
"""Names of projects: values that the strategy of attributes likes."""
SELECTORS = [
    "",
    '{service_name="svc-1"}',
    '{"service.name"=~"svc-.*"}',
    '{service_name!="", a=""}',
    '{a=~".+" or "service_name"="svc-2"}',
    '{k8s_pod!~"svc-1|true"}',
]


@dataclass
class Rig:
    """A pipeline with one sink for each project's selection."""

    kind: Kind
    pipeline: RecordsPipeline
    batches: dict[str, OpenBatch]

    def rows(self, project: str) -> list[Row]:
        """Return what is in the sink's batch."""
        return self.kind.rows(self.batches[project].point_buffer.encode())


def rig_of(kind: Kind, wanted: Mapping[str, RecordSelection], tenancy: Tenancy) -> Rig:
    """Return a pipeline with an exporter for each project."""
    signal: RecordSignal = "logs" if kind is LOGS else "traces"
    pipeline = RecordsPipeline(signal, tenants=ResourceTenants(tenancy))
    batches = {}
    for project, selection in wanted.items():
        batch = batches[project] = OpenBatch(None, limit=1 << 20, new_buffer=RecordBuffer)
        target = SinkOutputSpec(SinkCounter(f"{project}/x", "s"), [batch])
        pipeline.router.set_sources(f"{project}/x", project, [("all", selection, [target])])
    return Rig(kind, pipeline, batches)


def texts(attributes: Any) -> list[tuple[str, str]]:
    return [(one.key, value_text(one.value)) for one in attributes]


def holds(matcher: AttributeMatcher, layers: list[list[tuple[str, str]]]) -> bool:
    """Return whether a matcher holds, looking through the layers in order."""
    value = next(
        (
            text
            for layer in layers
            for key, text in layer
            if (key if matcher.is_exact else plain_name(key)) == matcher.name
        ),
        "",
    )
    found = {
        "=": value == matcher.value,
        "!=": value != matcher.value,
    }
    if matcher.op in found:
        return found[matcher.op]
    return compile_regex(matcher.value).matches(value) == (matcher.op == "=~")


def wanted_rows(kind: Kind, body: bytes, selection: RecordSelection, project: str) -> list[Row]:
    """Return the rows that a project's sink must get ("": of any project)."""
    rows, at = kind.rows(body), 0
    found = []
    for resource in getattr(kind.request.FromString(body), kind.resources):
        owner = dict(reversed(texts(resource.resource.attributes))).get(TENANT, "")
        for scope in getattr(resource, kind.scopes):
            for record in getattr(scope, kind.records):
                row, at = rows[at], at + 1
                layers = [
                    texts(resource.resource.attributes),
                    texts(scope.scope.attributes),
                    texts(record.attributes),
                ]
                groups = selection.selector.groups
                passes = not groups or any(all(holds(m, layers) for m in g) for g in groups)
                if selection.severity_min:
                    passes = passes and record.severity_number >= selection.severity_min
                if selection.threshold:
                    last = int.from_bytes(record.trace_id[-7:], "big")
                    passes = passes and len(record.trace_id) == 16 and last >= selection.threshold
                if passes and project in ("", owner):
                    found.append(row)
    return found


@st.composite
def selections(draw: st.DrawFn, kind: Kind) -> RecordSelection:
    """Any of some selections."""
    selector = parse_selector(draw(st.sampled_from(SELECTORS)))
    if kind is LOGS:
        return RecordSelection(selector, severity_min=draw(st.sampled_from([0, 9, 13])))
    return RecordSelection(selector, threshold=draw(st.sampled_from([0, 1 << 55])))


@pytest.mark.parametrize("kind", [LOGS, TRACES], ids=["logs", "traces"])
@pytest.mark.parametrize("tenancy", [False, True], ids=["alone", "tenants"])
@examples(80)
@given(data=st.data())
def test_every_sink_gets_what_it_selects(kind: Kind, tenancy: bool, data: st.DataObject) -> None:
    projects = PROJECTS if tenancy else [""]
    wanted = {project: data.draw(selections(kind)) for project in projects}
    rig = rig_of(kind, wanted, Tenancy(TENANT) if tenancy else Tenancy())
    bodies = data.draw(st.lists(requests(kind), min_size=1, max_size=3))
    results = [rig.pipeline.ingest(body, now=1.0, tick=1.0) for body in bodies]
    for project, selection in wanted.items():
        rows = [row for body in bodies for row in wanted_rows(kind, body, selection, project)]
        assert rig.rows(project) == grouped(rows)
        assert rig.batches[project].count == len(rows)
    received = sum(len(kind.rows(body)) for body in bodies)
    statistics = rig.pipeline.statistics()
    assert statistics.received == received
    dropped = sum(result.dropped.get("no_tenant", 0) for result in results)
    assert dropped == statistics.no_tenant
    assert received == dropped + sum(result.taken.samples for result in results)
