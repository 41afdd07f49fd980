"""Real senders from a cold start: no sample is dropped, no family arrives under two types, and no
member of a histogram or summary arrives by itself."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bench import newest
from tests.kit.exporter_yaml import PATIENT, exporter_yaml
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.http.recording_proxy import RecordingProxy
from tests.kit.oracle.any_points import AnyPoint
from tests.kit.processes import binary, eventually, free_port, get_json, relay, started

pytestmark = [pytest.mark.slow, pytest.mark.real]

PROMETHEUS = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ["127.0.0.1:{own}"]}}]
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{node}"]}}]
remote_write:
  - url: '{url}'
    metadata_config: {{send: true, send_interval: 1s}}
    queue_config: {{min_shards: 4, max_shards: 4, batch_send_deadline: 1s}}
"""

SCRAPES = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: vmagent
    static_configs: [{{targets: ["127.0.0.1:{own}"]}}]
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{node}"]}}]
"""


class _Setup:
    """A relay that has just been started, the endpoint of its one sink, a node exporter."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = OtlpServer()
        self.own_port, self.node_port = free_port(), free_port()

    async def enter(self, stack: AsyncExitStack) -> None:
        server = await stack.enter_async_context(self.server)
        manifests = self.directory / "exporters.yaml"
        batch = {"timeout": "200ms", "maxSize": 500}
        manifest = exporter_yaml(
            "everything", server.url, metrics="{}", batch=batch, otlp_http=PATIENT
        )
        manifests.write_text(manifest)
        _, url, self.admin = await stack.enter_async_context(
            relay(self.directory, "--exporters", str(manifests))
        )
        self.proxy = await stack.enter_async_context(RecordingProxy(url))
        node = binary("prometheus-node-exporter", "prometheus-node-exporter")
        await stack.enter_async_context(
            started(
                [node, f"--web.listen-address=127.0.0.1:{self.node_port}"],
                log=self.directory / "node.log",
                ready_url=f"http://127.0.0.1:{self.node_port}/metrics",
            )
        )

    def points(self) -> list[AnyPoint]:
        """Everything that arrived."""
        return self.server.any_points()

    async def check(self) -> None:
        """See the module's description."""
        await eventually("nothing waits", self._settled, timeout_s=30)
        status = await get_json(f"{self.admin}/status")
        assert status["ingest"]["droppedSamples"] == {}
        outcomes = status["ingest"]["assembly"]["samples"]
        assert set(outcomes) <= {"assembled", "target_info"}, outcomes
        kinds: dict[str, set[tuple[str, str]]] = {}
        for point in self.points():
            identity = point.identity
            kinds.setdefault(point.name, set()).add((identity.kind, identity.prometheus_type))
        twice = {name: found for name, found in kinds.items() if len(found) > 1}
        assert not twice
        families = {name for name, found in kinds.items() for kind, _ in found if kind in WHOLE}
        assert len(families) > 3
        stray = {
            family + suffix
            for family in families
            for suffix in ("_bucket", "_count", "_sum")
            if family + suffix in kinds
        }
        assert not stray

    async def _settled(self) -> bool:
        status = await get_json(f"{self.admin}/status")
        (exporter,) = status["exporters"]
        ledger = exporter["sinks"][0]["ledger"]
        waiting = status["ingest"]["assembly"]["waitingSamples"]
        waiting += status["ingest"]["firstSight"]["samples"]
        return not waiting and not ledger["queued"]


WHOLE = ("histogram", "summary")


async def test_prometheus_with_four_shards(tmp_path: Path) -> None:
    setup = _Setup(tmp_path)
    async with AsyncExitStack() as stack:
        await setup.enter(stack)
        config = tmp_path / "prometheus.yaml"
        config.write_text(
            PROMETHEUS.format(own=setup.own_port, node=setup.node_port, url=setup.proxy.url)
        )
        sender = await stack.enter_async_context(
            started(
                [
                    binary("prometheus", "prometheus"),
                    f"--config.file={config}",
                    f"--web.listen-address=127.0.0.1:{setup.own_port}",
                    f"--storage.tsdb.path={tmp_path / 'prometheus'}",
                ],
                log=tmp_path / "prometheus.log",
                ready_url=f"http://127.0.0.1:{setup.own_port}/-/ready",
            )
        )
        await _run(setup)
        await sender.stop(signal.SIGTERM)
        await setup.check()


async def _run(setup: _Setup) -> None:
    """Wait until six scrapes of both targets have passed."""

    def enough() -> bool:
        return setup.proxy.samples_taken() >= 12_000

    await eventually("some scrapes have passed", enough, timeout_s=60)
    assert {passed.status for passed in setup.proxy.passed} == {204}


@pytest.mark.newest
async def test_the_newest_vmagent(tmp_path: Path) -> None:
    setup = _Setup(tmp_path)
    async with AsyncExitStack() as stack:
        await setup.enter(stack)
        config = tmp_path / "scrape.yaml"
        config.write_text(SCRAPES.format(own=setup.own_port, node=setup.node_port))
        sender = await stack.enter_async_context(
            started(
                [
                    str(newest.binary("vmagent")),
                    f"-httpListenAddr=127.0.0.1:{setup.own_port}",
                    f"-promscrape.config={config}",
                    f"-remoteWrite.url={setup.proxy.url}",
                    f"-remoteWrite.tmpDataPath={tmp_path / 'queue'}",
                    "-remoteWrite.flushInterval=200ms",
                ],
                log=tmp_path / "vmagent.log",
                ready_url=f"http://127.0.0.1:{setup.own_port}/metrics",
            )
        )
        await _run(setup)
        await sender.stop(signal.SIGINT)
        await setup.check()
