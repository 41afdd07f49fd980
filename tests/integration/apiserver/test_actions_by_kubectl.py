"""A whole relay with two projects: previews, tests, explanations and taps by kubectl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.apiserver.running import ADMIN, EDITOR, VIEWER
from tests.kit.apiserver.whole_relay import (
    SECRET,
    ProjectsRelay,
    exporter_text,
    projects_relay,
)
from tests.kit.kubernetes.kubectl import VERSIONS, Kubectl

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

API = "telemetry.datumapis.com/v1alpha1"


def question(kind: str, spec: dict[str, Any]) -> str:
    """The text of an object that can only be created."""
    return json.dumps({"apiVersion": API, "kind": kind, "spec": spec})


async def created(kubectl: Kubectl, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The status of an object that kubectl creates."""
    out = await kubectl("create", "-f", "-", "-o", "yaml", text=question(kind, spec))
    assert "globex" not in out
    assert "secretive" not in out
    made: dict[str, Any] = yaml.safe_load(out)
    return dict(made["status"])


@pytest.mark.parametrize("version", VERSIONS)
async def test_questions(tmp_path: Path, version: str) -> None:
    async with projects_relay(tmp_path) as found:
        kubectl = await found.kubectl(EDITOR, version)
        await kubectl.apply(SECRET, exporter_text("acme", found.server.origin))
        # By name, at once: it need not run yet.
        status = await created(kubectl, "ExporterPreview", {"exporter": "acme"})
        (source,) = status["sources"]
        assert (source["name"], source["series"]) == ("some", 10)
        assert source["topMetrics"] == [{"name": "numbered", "series": 10}]
        assert all('tenant="acme"' in one for one in source["firstSeries"])
        # Of ten series each, ten times a second; those within half a second count once.
        assert 60 * 10 <= source["samplesPerMinute"] <= 60 * 10 * 10
        changed = yaml.safe_load(exporter_text("acme", found.server.origin))
        changed["spec"]["sources"][0]["metrics"]["metricsql"] = 'numbered{n=~"[0-3]"}'
        spec = {"exporter": changed, "measureSeconds": 0}
        status = await created(kubectl, "ExporterPreview", spec)
        assert (status["added"]["series"], status["removed"]["series"]) == (0, 6)
        assert len(status["removed"]["firstSeries"]) == 6
        await kubectl("wait", "--for=condition=Delivering", "exporter/acme", "--timeout=60s")

        status = await created(kubectl, "SinkTest", {"exporter": "acme", "sink": "collector"})
        assert status["ok"], status
        assert [one["name"] for one in status["steps"]][-2:] == ["answer", "body"]
        sink = changed["spec"]["sinks"][0]
        status = await created(kubectl, "SinkTest", {"sink": sink})
        assert status["ok"], status
        tested = [one for one in found.server.taken if _is_test(one)]
        assert len(tested) == 2
        assert {one.headers["Authorization"] for one in tested} == {"Bearer s3cret"}

        spec = {"series": 'numbered{n="1"}', "exporter": "acme"}
        status = await created(kubectl, "SeriesExplanation", spec)
        assert status["takenBy"] == [{"exporter": "acme/default/acme", "source": "some"}]
        assert status["lines"][0] == "acme/default/acme"
        await refused(found, kubectl, version)


def _is_test(received: Any) -> bool:
    metrics = [
        metric.name
        for resource in received.message.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    return metrics == ["telemetry_relay_sink_test"]


async def refused(found: ProjectsRelay, kubectl: Kubectl, version: str) -> None:
    """What kubectl says of faulty questions, and of what cannot be done with them."""

    async def said(of: Kubectl, kind: str, spec: dict[str, Any], *words: str) -> str:
        answer = await of.run("create", "-f", "-", *words, text=question(kind, spec))
        assert answer.status == 1
        return answer.errors

    wrong = {"exporter": "acme", "bogus": 1}
    assert 'unknown field "bogus"' in await said(kubectl, "ExporterPreview", wrong)
    errors = await said(kubectl, "ExporterPreview", {"exporter": "none"})
    assert 'spec.exporter: Not found: "none"' in errors
    errors = await said(kubectl, "SeriesExplanation", {"series": 'numbered{tenant="globex"}'})
    assert "spec.series: Invalid value: the label tenant names another project" in errors
    viewer = await found.kubectl(VIEWER, version)
    assert "Forbidden" in await said(viewer, "SinkTest", {"exporter": "acme"})
    status = await created(viewer, "ExporterPreview", {"exporter": "acme", "measureSeconds": 0})
    assert status["projectSeries"] == 10
    for words in (("get", "exporterpreviews"), ("delete", "sinktests", "--all")):
        answer = await kubectl.run(*words)
        assert "MethodNotAllowed" in answer.errors
    out = await kubectl("explain", "exporterpreview.spec")
    assert "exporter\t<Object> -required-" in out
    assert "measureSeconds\t<integer>" in out
    out = await kubectl("api-resources", "--verbs=create", "-o", "name")
    for name in ("exporterpreviews", "sinktests", "seriesexplanations"):
        assert f"{name}.telemetry.datumapis.com\n" in out
    wanted = {"exporter": "acme", "sink": "collector"}
    text = question("SinkTest", wanted)
    before = len(found.server.received)
    out = await kubectl("create", "--dry-run=server", "-f", "-", "-o", "json", text=text)
    assert "status" not in json.loads(out)
    assert not any(map(_is_test, found.server.received[before:]))


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_tap(tmp_path: Path, version: str) -> None:
    # Since some version kubectl puts the server's own path before a raw one.
    prefix = "/projects/acme" if version == "kubectl-1.32" else ""
    path = f"{prefix}/apis/{API}/namespaces/default/exporters/acme/tap"
    async with projects_relay(tmp_path, admin={"tap": True}) as found:
        kubectl = await found.kubectl(ADMIN, version)
        await kubectl.apply(SECRET, exporter_text("acme", found.server.origin))
        await kubectl("wait", "--for=condition=Delivering", "exporter/acme", "--timeout=60s")
        out = await kubectl("get", "--raw", f"{path}?points=15&seconds=30")
        *points, end = map(json.loads, out.splitlines())
        assert len(points) == end["shown"] == 15
        assert {one["metric"] for one in points} == {"numbered"}
        assert {one["labels"]["tenant"] for one in points} == {"acme"}
        for token in (EDITOR, VIEWER):
            answer = await (await found.kubectl(token, version)).run("get", "--raw", path)
            assert "Forbidden" in answer.errors
        if prefix:
            answer = await kubectl.run("get", "--raw", path.replace("acme", "globex", 1))
            assert "Forbidden" in answer.errors
