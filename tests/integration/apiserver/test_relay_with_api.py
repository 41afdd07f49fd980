"""A whole relay whose objects come by its own API, with kubectl."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.kit.apiserver.running import ADMIN, VIEWER
from tests.kit.apiserver.whole_relay import SECRET, configure, exporter_text, kubectl_of
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import VERSIONS, Kubectl
from tests.kit.kubernetes.relays import Load
from tests.kit.processes import eventually, get_json, get_metrics, relay

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_exporter_delivers(tmp_path: Path, version: str) -> None:
    config = configure(tmp_path)
    async with OtlpServer() as server:
        async with relay(tmp_path, "--config", str(config)) as (process, url, admin):
            kubectl = await kubectl_of(config, tmp_path / "admin", ADMIN, version)
            async with Load(url).running():
                await kubectl.apply(SECRET, exporter_text("acme", server.origin))
                await kubectl(
                    "wait", "--for=condition=Delivering", "exporter/acme", "--timeout=60s"
                )
                found = await kubectl.get("exporter", "acme")
                (sink,) = found["status"]["sinks"]
                assert sink["ledger"]["delivered"] > 0
                assert sink["lastSuccess"].endswith("Z")
                conditions = found["status"]["conditions"]
                assert {one["observedGeneration"] for one in conditions} == {1}
                assert server.taken[0].headers["Authorization"] == "Bearer s3cret"
                await changes_only_counters(kubectl, found)
                described = await kubectl("describe", "exporter", "acme")
                events = described[described.index("\nEvents:") :]
                for reason in ("Accepted", "Programmed", "Delivering"):
                    assert re.search(rf"Normal +{reason} .* telemetry-relay ", events), events
            metrics = await get_metrics(f"{admin}/metrics")
            assert metrics['relay_api_objects{kind="exporters.telemetry.datumapis.com"}'] == 1
            assert metrics['relay_api_changes_total{result="failed"}'] == 0
            await process.stop()
        async with relay(tmp_path, "--config", str(config)) as (process, _, admin):
            again = await kubectl.get("exporter", "acme")
            assert again["metadata"]["uid"] == found["metadata"]["uid"]
            await kubectl("delete", "exporter", "acme", "--timeout=30s")

            async def is_gone() -> bool:
                return not (await get_json(f"{admin}/status"))["exporters"]

            await eventually("the exporter is gone", is_gone, timeout_s=30)
            assert await process.stop() == 0


async def changes_only_counters(kubectl: Kubectl, before: dict[str, Any]) -> None:
    """Counters go up, and the version stays."""
    counted = before["status"]["sinks"][0]["ledger"]["delivered"]

    async def has_more() -> bool:
        found = await kubectl.get("exporter", "acme")
        assert found["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        return found["status"]["sinks"][0]["ledger"]["delivered"] > counted

    await eventually("more is delivered", has_more, timeout_s=30)


async def test_objects_of_files_are_read_only(tmp_path: Path) -> None:
    (tmp_path / "exporters").mkdir()
    manifest = tmp_path / "exporters/acme.yaml"
    manifest.write_text(f"{SECRET}\n{exporter_text('acme', 'http://127.0.0.1:9')}\n")
    config = configure(tmp_path, exporters=[{"path": "exporters"}])
    async with relay(tmp_path, "--config", str(config)) as (process, _, _):
        kubectl = await kubectl_of(config, tmp_path / "admin", ADMIN, VERSIONS[-1])
        await kubectl("wait", "--for=create", "exporter/acme", "--timeout=30s")
        await kubectl("wait", "--for=condition=Programmed", "exporter/acme", "--timeout=30s")
        said = await kubectl.run("delete", "exporter", "acme")
        assert said.status == 1
        assert str(manifest) in said.errors
        viewer = await kubectl_of(config, tmp_path / "viewer", VIEWER, VERSIONS[-1])
        said = await viewer.run("apply", "-f", "-", text=exporter_text("own", "http://127.0.0.1:9"))
        assert "Forbidden" in said.errors
        await kubectl.apply(exporter_text("own", "http://127.0.0.1:9"))
        await kubectl("wait", "--for=condition=Programmed", "exporter/own", "--timeout=30s")
        (tmp_path / "exporters/own.yaml").write_text(exporter_text("own", "http://127.0.0.1:8"))
        found = await kubectl.wait_for("exporter", "own", kind="Accepted", status="False")
        assert found["reason"] == "Conflict"
        assert "the relay's files" in found["message"]
        manifest.unlink()
        await kubectl("wait", "--for=delete", "exporter/acme", "--timeout=30s")
        assert await process.stop() == 0
