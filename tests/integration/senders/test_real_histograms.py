"""Prometheus' own classic histograms arrive as histograms, equal to what Prometheus itself stores.

Prometheus scrapes itself and sends what it has over several shards, so that the members of one
histogram travel in different requests; once straight to the relay, once through vmagent. What must
arrive is read back from Prometheus' own query API.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.kit.exporter_yaml import PATIENT, exporter_yaml
from tests.kit.http.otlp_server import OtlpServer
from tests.kit.http.recording_proxy import RecordingProxy
from tests.kit.oracle.any_points import AnyPoint, bits
from tests.kit.processes import binary, eventually, free_port, get_json, relay, started

pytestmark = [pytest.mark.slow, pytest.mark.real]

SECONDS_MIN = 6

Key = tuple[str, tuple[tuple[str, str], ...], int]
"""Name, labels and milliseconds."""


async def _stored(prometheus_url: str) -> dict[Key, Any]:
    """Every histogram that Prometheus has, complete sets only, by its query API."""
    query = quote('{__name__=~".+_(bucket|count|sum)"}[5m]')
    answer = await get_json(f"{prometheus_url}/api/v1/query?query={query}")
    parts: dict[Key, dict[str, float]] = defaultdict(dict)
    for series in answer["data"]["result"]:
        labels = dict(series["metric"])
        family, _, part = labels.pop("__name__").rpartition("_")
        bound = labels.pop("le", "")
        for seconds, text in series["values"]:
            key = (family, tuple(sorted(labels.items())), round(float(seconds) * 1000))
            parts[key][f"{part} {bound}"] = float(text)
    return {
        key: _data(members)
        for key, members in parts.items()
        if "bucket +Inf" in members and "count " in members and "sum " in members
    }


def _data(members: dict[str, float]) -> Any:
    """Count, bits of the sum, bounds and counts."""
    cumulative = sorted(
        (float(name.partition(" ")[2]), value)
        for name, value in members.items()
        if name.startswith("bucket ")
    )
    counts = [value for _, value in cumulative]
    each = tuple(int(b - a) for a, b in zip([0.0, *counts], counts, strict=False))
    bounds = tuple(bound for bound, _ in cumulative if bound != math.inf)
    return int(members["count "]), bits(members["sum "]), bounds, each


def _arrived(points: list[AnyPoint]) -> dict[Key, Any]:
    found: dict[Key, Any] = {}
    for point in points:
        if point.identity.kind == "histogram" and not point.flags:
            names = {"service.name": "job", "service.instance.id": "instance"}
            labels = dict(point.attributes)
            labels |= {names[key]: value for key, value in point.resource}
            key = (point.name, tuple(sorted(labels.items())), point.time_ns // 1_000_000)
            assert key not in found, f"a second point: {key}"
            found[key] = point.data
    return found


def _config(directory: Path, own_port: int, write_url: str, jobs: int) -> Path:
    """Four shards of at most 40 samples a request: no histogram of Prometheus' is in one. Several
    jobs scrape the same, so that each relay gets some of it."""
    path = directory / "prometheus.yaml"
    queue = {"min_shards": 4, "max_samples_per_send": 40, "batch_send_deadline": "300ms"}
    metadata = {"send": True, "send_interval": "1s"}
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {"job_name": f"job{job}", "static_configs": [{"targets": [f"127.0.0.1:{own_port}"]}]}
            for job in range(jobs)
        ],
        "remote_write": [{"url": write_url, "queue_config": queue, "metadata_config": metadata}],
    }
    path.write_text(json.dumps(config))
    return path


def _sharding(directory: Path, shard: int, shards: int) -> Path:
    """Relabeling that keeps one shard's series: those with equal labels, but for the name and
    ``le``, stay together. This vmagent has no ``-remoteWrite.shardByURL`` yet."""
    path = directory / f"shard{shard}.yaml"
    rules = [
        {
            "action": "hashmod",
            "source_labels": ["job", "handler"],
            "modulus": shards,
            "target_label": "__tmp_shard",
        },
        {"action": "keep", "source_labels": ["__tmp_shard"], "regex": str(shard)},
        {"action": "labeldrop", "regex": "__tmp_shard"},
    ]
    path.write_text(json.dumps(rules))
    return path


async def _through_vmagent(stack: AsyncExitStack, directory: Path, urls: list[str]) -> str:
    port = free_port()
    shards = [_sharding(directory, shard, len(urls)) for shard in range(len(urls))]
    await stack.enter_async_context(
        started(
            [
                binary("vmagent", "victoria-metrics"),
                f"-httpListenAddr=127.0.0.1:{port}",
                *(f"-remoteWrite.url={url}" for url in urls),
                *(f"-remoteWrite.urlRelabelConfig={path}" for path in shards),
                f"-remoteWrite.tmpDataPath={directory / 'queue'}",
                "-remoteWrite.flushInterval=200ms",
            ],
            log=directory / "vmagent.log",
            ready_url=f"http://127.0.0.1:{port}/metrics",
        )
    )
    return f"http://127.0.0.1:{port}/api/v1/write"


@pytest.mark.parametrize(
    ("relays", "through_vmagent"),
    [(1, False), (1, True), (2, True)],
    ids=["straight", "through vmagent", "sharded by vmagent over two relays"],
)
async def test_every_classic_histogram_arrives_as_one(
    tmp_path: Path, *, relays: int, through_vmagent: bool
) -> None:
    receivers = [OtlpServer() for _ in range(relays)]
    proxies, admins = [], []
    async with AsyncExitStack() as stack:
        for number, receiver in enumerate(receivers):
            await stack.enter_async_context(receiver)
            directory = tmp_path / f"relay{number}"
            directory.mkdir()
            manifest = directory / "exporter.yaml"
            batch = {"timeout": "200ms", "maxSize": 500}
            manifest.write_text(
                exporter_yaml("everything", receiver.url, batch=batch, otlp_http=PATIENT)
            )
            _, url, admin = await stack.enter_async_context(
                relay(directory, "--exporters", str(manifest))
            )
            proxies.append(await stack.enter_async_context(RecordingProxy(url)))
            admins.append(admin)
        url = proxies[0].url
        if through_vmagent:
            url = await _through_vmagent(stack, tmp_path, [proxy.url for proxy in proxies])
        own_port = free_port()
        own = f"http://127.0.0.1:{own_port}"
        server = await stack.enter_async_context(
            started(
                [
                    binary("prometheus", "prometheus"),
                    f"--config.file={_config(tmp_path, own_port, url, 2 * relays)}",
                    f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{own_port}",
                ],
                log=tmp_path / "prometheus.log",
                ready_url=f"{own}/-/ready",
            )
        )

        def points() -> list[AnyPoint]:
            return [point for receiver in receivers for point in receiver.any_points()]

        def times() -> list[int]:
            return sorted({time for _, _, time in _arrived(points())})

        await eventually(
            "histograms of some seconds arrived",
            lambda: len(times()) >= SECONDS_MIN,
            timeout_s=50,
        )
        stored = await _stored(own)
        arrived = _arrived(points())
        # What was stored before the first metadata came may be in numbers still, and what was
        # stored at last may be on its way.
        first, last = times()[1], times()[-2]
        expected = {key: data for key, data in stored.items() if first <= key[2] <= last}
        await eventually(
            "all of these arrived",
            lambda: expected.keys() <= _arrived(points()).keys(),
            timeout_s=60,
        )
        arrived = _arrived(points())
        assert len(expected) > 50
        assert {key: arrived.get(key) for key in expected} == expected
        await server.stop(timeout_s=60)

        # Split over requests, so that the relay has to put it together, but never over relays.
        splits = [_requests_per_histogram(proxy) for proxy in proxies]
        for split in splits:
            assert max(split.values()) > 1, "no histogram was split over requests"
        assert len(set().union(*splits)) == sum(map(len, splits))
        for admin in admins:
            status = await get_json(f"{admin}/status")
            outcomes = status["ingest"]["assembly"]["samples"]
            assert set(outcomes) <= {"assembled", "late"}
            assert all(
                sink["ledger"]["balanced"]
                for exporter in status["exporters"]
                for sink in exporter["sinks"]
            )


def _requests_per_histogram(proxy: RecordingProxy) -> dict[Key, int]:
    """Over how many requests each histogram of one time was spread."""
    requests: dict[Key, set[int]] = defaultdict(set)
    for number, passed in enumerate(proxy.passed):
        for series in passed.message().timeseries:
            labels = {label.name: label.value for label in series.labels}
            name = labels.pop("__name__")
            if name.endswith("_bucket"):
                labels.pop("le", None)
                for sample in series.samples:
                    key = (name, tuple(sorted(labels.items())), sample.timestamp)
                    requests[key].add(number)
    return {key: len(numbers) for key, numbers in requests.items()}
