"""Real senders on real data: every sample that they say they sent arrives, unaltered.

Needs Debian's victoria-metrics (vmagent), prometheus and prometheus-node-exporter.
"""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kit.exporter_yaml import PATIENT, exporter_yaml
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.http.recording_proxy import RecordingProxy
from tests.kit.oracle.number_points import Point, assert_same, flatten
from tests.kit.oracle.slow_families import assembled_names, numbers_only
from tests.kit.oracle.slow_otlp import SlowRelay
from tests.kit.processes import (
    Process,
    at_once,
    binary,
    eventually,
    free_port,
    get_json,
    get_metrics,
    relay,
    started,
)
from tests.kit.remote_write.prompb import RawWriteRequest

pytestmark = [pytest.mark.slow, pytest.mark.real]

SAMPLES_MIN = 2_000

# With typographic quotes, as text gets them on its way through a word processor.
FILESYSTEMS = '{job=“node/exporter”, __name__=~”node_(cpu|network)_.*”, __name__!~".*_info"}\n'


def exporters(everything: str, filesystems: str) -> str:
    """Two Exporters, to an endpoint each."""
    return exporter_yaml(
        "everything",
        everything,
        batch={"timeout": "200ms", "maxSize": 500},
        otlp_http=PATIENT,
    ) + exporter_yaml(
        "filesystems",
        filesystems,
        metrics=FILESYSTEMS,
        batch={"timeout": "200ms", "maxSize": 100},
        otlp_http=PATIENT,
    )


def _scrape_config(directory: Path, targets: dict[str, int], remote_write: str = "") -> Path:
    lines = ["global: {scrape_interval: 1s, scrape_timeout: 1s}", "scrape_configs:"]
    for job, port in targets.items():
        lines.append(f"  - job_name: {job}")
        lines.append(f'    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]')
    if remote_write:
        metadata = "{send: true, send_interval: 2s}"
        lines.append(f"remote_write: [{{url: '{remote_write}', metadata_config: {metadata}}}]")
    path = directory / "scrape.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


class _Setup:
    """A relay with two exporters, their receivers, and a recording proxy before it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.everything = OtlpServer()
        self.filesystems = OtlpServer()

    async def enter(self, stack: AsyncExitStack) -> None:
        everything = await stack.enter_async_context(self.everything)
        filesystems = await stack.enter_async_context(self.filesystems)
        manifests = self.directory / "exporters.yaml"
        manifests.write_text(exporters(everything.url, filesystems.url))
        self.process: Process
        self.process, url, self.admin = await stack.enter_async_context(
            relay(self.directory, *at_once(self.directory), "--exporters", str(manifests))
        )
        self.proxy = await stack.enter_async_context(RecordingProxy(url))

    async def settled(self) -> bool:
        """Whether the relay has nothing left to deliver."""
        status = await get_json(f"{self.admin}/status")
        return not status["ingest"]["assembly"]["waitingSamples"] and all(
            sink["ledger"]["queued"] == 0
            for exporter in status["exporters"]
            for sink in exporter["sinks"]
        )

    async def check_everything(self) -> None:
        """Everything that was taken came out; both ledgers balance to the sample."""
        assert {passed.status for passed in self.proxy.passed} == {204}
        slow = SlowRelay()
        requests = [_raw(passed.message()) for passed in self.proxy.passed]
        derived = [slow.take(request) for request in requests]
        expected = [point for part in derived for point in part.points]
        # What is assembled is checked for itself, in test_real_histograms.
        members = assembled_names(requests)
        plain = [alternatives for alternatives in expected if alternatives[0].name not in members]
        actual = [point for point in _numbers(self.everything) if point.name not in members]
        assert len(plain) > SAMPLES_MIN / 2
        assert_same(plain, actual)

        wanted = [
            alternatives
            for alternatives in expected
            if dict(alternatives[0].resource).get("service.name") == "exporter"
            and alternatives[0].name.startswith(("node_cpu_", "node_network_"))
            and not alternatives[0].name.endswith("_info")
        ]
        filtered = _numbers(self.filesystems)
        assert wanted
        assert_same(wanted, filtered)

        status = await get_json(f"{self.admin}/status")
        sent = self.proxy.samples_taken()
        assert status["ingest"]["receivedSamples"] == sent
        assert status["ingest"]["droppedSamples"] == {}
        ledgers = {
            exporter["name"]: exporter["sinks"][0]["ledger"] for exporter in status["exporters"]
        }
        assembly = status["ingest"]["assembly"]
        outcomes = assembly["samples"]
        assert assembly["waitingSamples"] == 0
        assert set(outcomes) <= {"assembled", "late", "target_info"}
        # Each sample is a point, or part of a histogram or summary.
        points_of_all = sent - sum(outcomes.values()) + assembly["points"]
        for name, points in (
            ("default/everything", points_of_all),
            ("default/filesystems", len(wanted)),
        ):
            assert ledgers[name] == {
                "matched": points,
                "delivered": points,
                "rejected": {},
                "expired": 0,
                "dropped": {},
                "queued": 0,
                "balanced": True,
            }


def _numbers(receiver: OtlpServer) -> list[Point]:
    """Every number point that it has taken."""
    messages = (numbers_only(got.message) for got in receiver.taken)
    return [point for message in messages if message is not None for point in flatten(message)]


def _raw(message: Any) -> Any:
    return RawWriteRequest.FromString(message.SerializeToString())


async def test_vmagent_scraping_a_node_exporter(tmp_path: Path) -> None:
    setup = _Setup(tmp_path)
    async with AsyncExitStack() as stack:
        await setup.enter(stack)
        target_port, agent_port = free_port(), free_port()
        target_command = [
            binary("prometheus-node-exporter", "prometheus-node-exporter"),
            f"--web.listen-address=127.0.0.1:{target_port}",
        ]
        target = await stack.enter_async_context(
            started(
                target_command,
                log=tmp_path / "node.log",
                ready_url=f"http://127.0.0.1:{target_port}/metrics",
            )
        )
        queue = tmp_path / "queue"
        config = _scrape_config(tmp_path, {"node/exporter": target_port, "agent": agent_port})
        agent_url = f"http://127.0.0.1:{agent_port}"
        agent = await stack.enter_async_context(
            started(
                [
                    binary("vmagent", "victoria-metrics"),
                    f"-httpListenAddr=127.0.0.1:{agent_port}",
                    f"-promscrape.config={config}",
                    f"-remoteWrite.url={setup.proxy.url}",
                    f"-remoteWrite.tmpDataPath={queue}",
                    "-remoteWrite.flushInterval=200ms",
                ],
                log=tmp_path / "vmagent.log",
                ready_url=f"{agent_url}/metrics",
            )
        )
        await eventually(
            f"{SAMPLES_MIN} samples passed",
            lambda: setup.proxy.samples_taken() >= SAMPLES_MIN,
            timeout_s=30,
        )
        # The target dies: vmagent sends stale markers for each of its series.
        await target.stop()
        before = setup.proxy.samples_taken()
        await eventually(
            "stale markers passed",
            lambda: setup.proxy.samples_taken() >= before + 500,
            timeout_s=20,
        )
        # On SIGINT vmagent flushes what it has; what it says that it sent is final then.
        pushed = await _vmagent_says(agent_url)
        await agent.stop(signal.SIGINT)
        assert setup.proxy.samples_taken() >= pushed >= SAMPLES_MIN
        await eventually("nothing is queued", setup.settled, timeout_s=30)
        await setup.check_everything()
        stale = sum(point.flags for point in _numbers(setup.everything))
        assert stale >= 500


async def _vmagent_says(agent_url: str) -> int:
    """Samples in the blocks that vmagent says were answered 2xx, at this moment or a little ago."""
    metrics = await get_metrics(f"{agent_url}/metrics")
    sent = [
        value
        for name, value in metrics.items()
        if name.startswith("vmagent_remotewrite_requests_total") and 'status_code="2XX"' in name
    ]
    blocks = metrics["vmagent_remotewrite_block_size_rows_count"]
    rows = metrics["vmagent_remotewrite_block_size_rows_sum"]
    assert sent
    # Blocks are counted when they are made: those not yet answered are taken off at their mean.
    return int(rows - (blocks - min(sent[0], blocks)) * rows / blocks)


async def test_prometheus_scraping_itself(tmp_path: Path) -> None:
    setup = _Setup(tmp_path)
    async with AsyncExitStack() as stack:
        await setup.enter(stack)
        node_port, own_port = free_port(), free_port()
        await stack.enter_async_context(
            started(
                [
                    binary("prometheus-node-exporter", "prometheus-node-exporter"),
                    f"--web.listen-address=127.0.0.1:{node_port}",
                ],
                log=tmp_path / "node.log",
                ready_url=f"http://127.0.0.1:{node_port}/metrics",
            )
        )
        config = _scrape_config(
            tmp_path, {"node/exporter": node_port, "prometheus": own_port}, setup.proxy.url
        )
        own = f"http://127.0.0.1:{own_port}"
        server = await stack.enter_async_context(
            started(
                [
                    binary("prometheus", "prometheus"),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{own_port}",
                ],
                log=tmp_path / "prometheus.log",
                ready_url=f"{own}/-/ready",
            )
        )
        await eventually(
            f"{SAMPLES_MIN} samples passed",
            lambda: setup.proxy.samples_taken() >= SAMPLES_MIN,
            timeout_s=60,
        )
        await eventually("metadata passed", lambda: _metadata_passed(setup), timeout_s=30)
        before = setup.proxy.samples_taken()
        await eventually(
            "samples passed after the metadata",
            lambda: setup.proxy.samples_taken() >= before + SAMPLES_MIN,
            timeout_s=30,
        )
        metrics = await get_metrics(f"{own}/metrics")
        said = Counter(
            {
                name.partition("{")[0]: value
                for name, value in metrics.items()
                if name.startswith("prometheus_remote_storage_samples_")
            }
        )
        assert said["prometheus_remote_storage_samples_failed_total"] == 0
        assert said["prometheus_remote_storage_samples_dropped_total"] == 0
        await server.stop(timeout_s=60)
        assert (
            setup.proxy.samples_taken()
            >= said["prometheus_remote_storage_samples_total"]
            - said["prometheus_remote_storage_samples_pending"]
        )
        await eventually("nothing is queued", setup.settled, timeout_s=30)
        await setup.check_everything()
        assert any(
            point.identity.prometheus_type == "counter" for point in _numbers(setup.everything)
        ), "points after the metadata must be typed by it"


def _metadata_passed(setup: _Setup) -> bool:
    return any(len(passed.message().metadata) for passed in setup.proxy.passed)


async def test_a_restart_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """While the relay is away vmagent keeps its blocks; what either process took has arrived."""
    port = free_port()
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(OtlpServer())
        manifests = tmp_path / "exporters.yaml"
        manifests.write_text(exporters(receiver.url, receiver.url))
        proxy = await stack.enter_async_context(
            RecordingProxy(f"http://127.0.0.1:{port}/api/v1/write")
        )
        agent_port = free_port()
        config = _scrape_config(tmp_path, {"agent": agent_port})
        await stack.enter_async_context(
            started(
                [
                    binary("vmagent", "victoria-metrics"),
                    f"-httpListenAddr=127.0.0.1:{agent_port}",
                    f"-promscrape.config={config}",
                    f"-remoteWrite.url={proxy.url}",
                    f"-remoteWrite.tmpDataPath={tmp_path / 'queue'}",
                    "-remoteWrite.flushInterval=200ms",
                ],
                log=tmp_path / "vmagent.log",
                ready_url=f"http://127.0.0.1:{agent_port}/metrics",
            )
        )
        for _ in range(2):
            async with relay(tmp_path, "--exporters", str(manifests), port=port) as (process, _, _):
                taken = proxy.samples_taken()
                await eventually(
                    "some scrapes were taken",
                    lambda taken=taken: proxy.samples_taken() > taken + 1000,
                    timeout_s=30,
                )
                assert await process.stop() == 0
            await eventually(
                "a block was turned away while nobody listened",
                lambda: proxy.passed[-1].status == 503,
                timeout_s=20,
            )
        acknowledged = [passed for passed in proxy.passed if passed.status == 204]
        slow = SlowRelay()
        requests = [_raw(passed.message()) for passed in acknowledged]
        derived = [slow.take(request) for request in requests]
        members = assembled_names(requests)
        expected = [
            alternatives
            for part in derived
            for alternatives in part.points
            if alternatives[0].name not in members
        ]
        actual = [point for point in _numbers(receiver) if point.name not in members]
        assert_same(expected, actual)
