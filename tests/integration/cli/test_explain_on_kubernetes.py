"""``relay explain --kubernetes``: objects of an API answer as manifests do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from relay.cli import main
from tests.kit.kubernetes.fake_api import FakeApi, Fault, failing, kubeconfig_of

EXPORTERS = "/apis/telemetry.datumapis.com/v1alpha1/exporters"
SINK = {"name": "s", "otlp_http": {"endpoint": "https://otlp.example.com"}}


def exporter(name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """An object as a list has it: without kind."""
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"sources": [{"name": "s", "metrics": metrics}], "sinks": [SINK]},
    }


async def explained(
    api: FakeApi, directory: Path, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit status, output and errors."""
    path = directory / "kubeconfig"
    path.write_text(kubeconfig_of(api.url))
    line = ["explain", "--kubernetes", "--kubeconfig", str(path), *arguments]
    status = await asyncio.to_thread(main.main, line)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


async def test_every_exporter_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with FakeApi() as api:
        api.put(EXPORTERS, exporter("web", {"metricsql": '{job="node"}'}))
        api.put(EXPORTERS, exporter("broken", {"metricsql": '{job="node"'}))
        production = {"namespaceSelector": {"matchLabels": {"environment": "production"}}}
        api.put(EXPORTERS, exporter("resources", {"resourceSelectors": [production]}))
        labels = {"environment": "production"}
        api.put("/api/v1/namespaces", {"metadata": {"name": "shop", "labels": labels}})
        status, out, err = await explained(
            api, tmp_path, capsys, 'up{job="node",resource_namespace="shop"}'
        )
        assert status == 0
        assert "shop/web\n  yes: source s takes it, to s" in out
        assert "shop/resources\n  yes: source s takes it, to s" in out
        assert "shop/broken" not in out
        assert "left out:" in err
        assert "this { is never closed" in err

        api.faults.append(
            Fault(failing(403, "Forbidden"), matches=lambda request: "namespaces" in request.path)
        )
        _, out, err = await explained(
            api, tmp_path, capsys, 'up{job="node",resource_namespace="shop"}'
        )
        assert "shop/resources\n  no: source s" in out
        assert "namespaces" in err


async def test_an_api_that_refuses_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeApi() as api:
        api.faults.append(Fault(failing(403, "Forbidden"), times=2))  # discovery as well
        status, out, err = await explained(api, tmp_path, capsys, "up")
    assert (status, out) == (1, "")
    assert f"relay: --kubernetes: {api.url}: exporters: " in err


async def test_check_reports_every_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeApi() as api:
        api.put(EXPORTERS, exporter("web", {"metricsql": '{job="node"}'}))
        broken = exporter("broken", {"metricsql": "{}"})
        broken["spec"]["sinks"] = [{"name": "s", "otlp_http": {}}]
        api.put(EXPORTERS, broken)
        path = tmp_path / "kubeconfig"
        path.write_text(kubeconfig_of(api.url))
        line = ["check", "--kubeconfig", str(path)]
        assert await asyncio.to_thread(main.main, line) == 1
        good, fault, *_, summary = capsys.readouterr().out.splitlines()
        assert good.startswith(f"good     {api.url} exporters:1 (Exporter shop/web): exporter")
        assert "(Exporter shop/broken): spec.sinks[0].otlp_http.endpoint: is required" in fault
        assert summary.startswith("1 fault")


def test_check_needs_something_to_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["check"]) == 2
    assert "PATH: or --kubernetes is required, one of them" in capsys.readouterr().err
