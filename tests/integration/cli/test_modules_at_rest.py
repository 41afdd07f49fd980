"""Modules that a relay without Kubernetes and without its own API must not keep in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NOT_NEEDED = (
    "cramjam",
    "cryptography",
    "importlib.metadata",
    "jinja2",
    "jsonschema_rs",
    "re2",
    "relay.apiserver",
    "relay.control.cluster.cluster_source",
    "relay.control.cluster.relays",
    "relay.control.explain",
    "relay.control.kubernetes.client",
    "relay.control.preview",
    "relay.control.replicas.replicas",
    "relay.control.sink_test",
    "relay.control.tap",
    "relay.ui.compose",
)
CHILD = """
import asyncio, sys
from pathlib import Path
import relay.cli.main
from relay.app import Relay
from relay.config.settings.settings import load_settings

async def run():
    relay = Relay(load_settings(Path(sys.argv[1]), {}))
    await relay.start()
    print(*sys.modules, sep="\\n")
    await relay.stop()

asyncio.run(run())
"""
SETTINGS = """
listen: 127.0.0.1:0
adminListen: 127.0.0.1:0
exporters: [{path: exporter.yaml}]
"""
EXPORTER = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: all}
spec:
  sources:
    - {name: metrics, metrics: {metricsql: ''}}
    - {name: logs, logs: {selector: '{}'}}
    - {name: traces, traces: {selector: '{}'}}
  sinks: [{name: sink, otlp_http: {endpoint: "https://collector.example"}}]
"""


def test_a_started_relay_has_not_imported_what_it_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text(SETTINGS)
    (tmp_path / "exporter.yaml").write_text(EXPORTER)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "relay.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    imported = child.stdout.split()
    assert "relay.sink.otlp_http" in imported, child.stderr
    assert [one for one in imported if one.startswith(NOT_NEEDED)] == []
