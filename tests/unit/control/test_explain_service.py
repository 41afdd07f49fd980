"""Explanations of a project's series: by its own exporters, and never of another project's."""

from __future__ import annotations

import pytest

from relay.config.exporter.types import Exporter, OtlpHttp, Sink, Source
from relay.control import explain_service
from relay.control.explain_service import ExplainService, ProjectAnswer, ProjectQuestion
from relay.control.time_slicing import Turns
from relay.pipeline.routing.tenancy import Tenancy
from relay.runtime.errors import ConfigError, OverloadedError
from relay.selector.metricsql.parser import parse_query
from tests.kit.engine_rig import Rig, RigSink

SINK = Sink("otlp", ("s",), OtlpHttp("https://otlp.example.com/v1/metrics"))


def exporter(project: str, name: str, query: str) -> Exporter:
    return Exporter(project, "default", name, (Source("s", "", parse_query(query)),), (SINK,))


def service_of(*exporters: Exporter, tenancy: Tenancy | None) -> ExplainService:
    rig = Rig(tenancy=tenancy)
    for one in exporters:
        target = RigSink("otlp", limit=10, exporter=one.id).target
        sources = [(source.name, source.selector, [target]) for source in one.sources]
        rig.engine.add_exporter(one.id, one.project, sources)
    return ExplainService(rig.engine, Turns(), lambda: exporters)


TWO = (
    exporter("acme", "web", "up"),
    exporter("acme", "db", 'up{job="db"}'),
    exporter("globex", "secretive", "{}"),
)


async def asked(service: ExplainService, **question: object) -> ProjectAnswer:
    return await service.answer_project(ProjectQuestion("acme", **question))  # type: ignore[arg-type]


async def test_a_project_hears_of_its_own_exporters_alone() -> None:
    service = service_of(*TWO, tenancy=Tenancy("tenant"))
    for labels in ({"__name__": "up"}, {"__name__": "up", "tenant": "acme"}):
        found = await asked(service, labels=labels, every=True)
        assert found.takers == (("acme/default/web", "s"),)
        text = "\n".join(found.lines)
        assert "acme/default/web\n  yes: source s takes it, to otlp" in text
        assert "acme/default/db\n  no: source s" in text
        assert "globex" not in text
        assert "secretive" not in text
    with pytest.raises(ConfigError, match="series: the label tenant names another project"):
        await asked(service, labels={"__name__": "up", "tenant": "globex"})
    with pytest.raises(ConfigError) as raised:
        await asked(service, labels={"__name__": "up"}, exporter="globex/default/secretive")
    assert "did you mean" not in str(raised.value)
    assert "acme/default/web" in str(raised.value)


async def test_one_exporter_is_asked() -> None:
    service = service_of(*TWO, tenancy=Tenancy("tenant"))
    found = await asked(service, labels={"__name__": "up"}, exporter="acme/default/db")
    assert found.takers == ()
    assert found.series == "up{}"
    assert "acme/default/web" not in "\n".join(found.lines)


async def test_without_tenancy_every_exporter_is_asked() -> None:
    service = service_of(exporter("", "web", "up"), tenancy=None)
    found = await service.answer_project(ProjectQuestion("", {"__name__": "up", "tenant": "any"}))
    assert found.takers == (("default/web", "s"),)
    assert found.series == 'up{tenant="any"}'


async def test_too_many_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain_service, "WAITING_MAX", 0)
    service = service_of(*TWO, tenancy=Tenancy("tenant"))
    with pytest.raises(OverloadedError):
        await asked(service, labels={"__name__": "up"})
