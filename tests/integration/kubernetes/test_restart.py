"""A relay that starts again shows what is written until it knows better."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import Kubectl
from tests.kit.kubernetes.relays import Load
from tests.kit.kubernetes.servers import KUBERNETES, OWN, ObjectServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.newest,
    pytest.mark.parametrize("api", [KUBERNETES, OWN], indirect=True),
]

EXPORTER = """\
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: web, namespace: default}}
spec:
  sources: [{{name: all, metrics: {{metricsql: numbered}}}}]
  sinks:
    - name: out
      sources: [all]
      otlp_http: {{endpoint: "{origin}"}}
      batch: {{timeout: 50ms, maxSize: 10}}
"""


async def test_a_restart_changes_no_condition(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    async with OtlpServer() as server:
        await kubectl.apply(EXPORTER.format(origin=server.origin))
        access = {"allowPrivateEndpoints": True}
        folder = tmp_path / "relay"
        async with api.relay(folder, **access) as relay:
            async with Load(relay.url).running():
                await kubectl.wait_for("exporter", "web", status="True")
            before = (await kubectl.get("exporter", "web"))["status"]["conditions"]
            assert await relay.stop() == 0
        async with api.relay(folder, **access) as relay:
            await asyncio.sleep(10)  # it has had the time to lead and to write
            found = (await kubectl.get("exporter", "web"))["status"]["conditions"]
            assert found == before
            shown = (await relay.status())["exporters"][0]["conditions"]
            assert [one["lastTransitionTime"] for one in shown] == [
                one["lastTransitionTime"] for one in before
            ]
