"""What a relay without Kubernetes and without its own API must not keep in memory.

It is asked what probes and scrapers ask, and gets requests of OTLP, before one looks.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NOT_NEEDED = (
    "aiohttp",
    "cramjam",
    "cryptography",
    "difflib",
    "google.protobuf",
    "idna",
    "importlib.metadata",
    "jinja2",
    "jsonschema_rs",
    "re2",
    "relay.control.durability.checkpointer",
    "relay.control.durability.open_storage",
    "relay.sink.spill.store",
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
    "unicodedata",
    "yarl",
)
MIB_MAX = 59
"""Bound of the memory, MiB; 53 where this was written, 66 with all that is above."""
CHILD = """
import socket, sys
from relay.cli import main
from relay.config.settings.settings import load_settings

async def ask(address, request):
    one = socket.socket()
    one.connect((address.host.encode(), address.port))  # a str goes through the codec idna
    reader, writer = await main.asyncio.open_connection(sock=one)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer

async def run():
    from relay.app import Relay
    relay = Relay(load_settings(main.Path(sys.argv[1]), {}))
    await relay.start()
    scrape = b"Accept: application/openmetrics-text\\r\\nAccept-Encoding: gzip\\r\\n"
    for page in (b"readyz", b"healthz", b"metrics", b"status"):
        for more in (b"", scrape):
            head = b"GET /%b HTTP/1.1\\r\\nHost: localhost\\r\\n%bConnection: close\\r\\n\\r\\n"
            answer = await ask(relay.admin_address, head % (page, more))
            assert answer.startswith(b"HTTP/1.1 200 OK"), answer
    for path in (b"v1/logs", b"v1/traces", b"v1/metrics"):
        head = b"POST /%b HTTP/1.1\\r\\nHost: r\\r\\nContent-Type: application/x-protobuf\\r\\n"
        ends = b"Connection: close\\r\\nContent-Length: 0\\r\\n\\r\\n"
        answer = await ask(relay.ingest_address, head % path + ends)
        assert answer.startswith(b"HTTP/1.1 200 OK"), answer
    status = open("/proc/self/status").read()
    print(status.partition("VmRSS:")[2].split()[0])
    print(*sys.modules, sep="\\n")
    await relay.stop()

main.run_on_uvloop(run())
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
    assert child.stdout, child.stderr
    memory_kib, *imported = child.stdout.split()
    assert "relay.sink.otlp_http" in imported, child.stderr
    roots = tuple(f"{one}." for one in NOT_NEEDED)
    assert [one for one in imported if f"{one}.".startswith(roots)] == []
    assert int(memory_kib) >> 10 < MIB_MAX
