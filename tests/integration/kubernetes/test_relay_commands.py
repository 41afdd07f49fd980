"""``relay explain``, ``check``, ``test`` and ``preview`` with objects of a real API server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relay.cli import main
from tests.integration.cli.test_test_command import relay_with
from tests.kit.exporter_yaml import exporter_yaml
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import Kubectl, object_text
from tests.kit.kubernetes.servers import KUBERNETES, ObjectServer
from tests.kit.remote_write.write_client import WriteClient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.newest,
    pytest.mark.parametrize("api", [KUBERNETES], indirect=True),
]

TOKEN = "t0p-secret-token"
POLICY = """
apiVersion: telemetry.miloapis.com/v1alpha1
kind: ExportPolicy
metadata: {name: everything}
spec:
  sources: [{name: all, metrics: {metricsql: "{}"}}]
  sinks:
    - name: collector
      sources: [all]
      target: {openTelemetry: {http: {endpoint: "https://otlp.example.com"}}}
"""


async def test_they_read_what_kubectl_has_applied(
    api: ObjectServer, kubectl: Kubectl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def command(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        status = await asyncio.to_thread(main.main, list(words))
        printed = capsys.readouterr()
        assert TOKEN not in printed.out + printed.err
        return status, printed.out + printed.err

    cluster = ("--kubernetes", "--kubeconfig", str(api.kubeconfig))
    other = exporter_yaml("other", "https://otlp.example.com", metrics="nothing")
    async with OtlpServer() as server, relay_with(tmp_path, other) as relay:
        authentication = {"type": "bearerToken", "secretRef": {"name": "grafana"}}
        text = exporter_yaml(
            "web",
            server.url,
            metrics='{job="api",n=~"[0-3]"}',
            otlp_http={"authentication": authentication},
        )
        await kubectl.apply(text)
        await kubectl.apply(POLICY)

        status, said = await command("check", *cluster)
        assert status == 0, said
        assert said.count("good     ") == 2

        status, said = await command("explain", *cluster, 'requests_total{job="api",n="2"}')
        assert status == 0, said
        assert "default/web\n  yes: source all takes it" in said
        assert "default/ExportPolicy/everything\n  yes: source all takes it" in said

        status, said = await command("test", *cluster, "--exporter", "default/web")
        assert status == 1
        assert "FAIL credentials" in said
        secret = {"stringData": {"token": TOKEN}}
        await kubectl.apply(object_text("Secret", "grafana", secret))
        status, said = await command("test", *cluster, "--exporter", "web")
        assert status == 0, said
        assert server.received[0].headers["Authorization"] == f"Bearer {TOKEN}"

        async with WriteClient(f"http://{relay.ingest_address}/api/v1/write") as client:
            await client.send(series=10)
        asked = ("--relay", f"http://{relay.admin_address}", "--measure", "0")
        status, said = await command("preview", *asked, *cluster, "--exporter", "web")
        assert status == 0, said
        assert said.startswith("default/web takes 4 of 10 series now\n")
        policy = ("--exporter", "default/ExportPolicy/everything")
        status, said = await command("preview", *asked, *cluster, *policy)
        assert said.startswith("default/ExportPolicy/everything takes 10 of 10 series now\n"), said
        status, said = await command("preview", *asked, *cluster, "--exporter", "none")
        assert (status, "has no Exporter default/none" in said) == (1, True)
