"""A remote-write sink against the newest Prometheus and VictoriaMetrics as receivers."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from relay.codec.remote_write.encode import request_headers
from relay.config.exporter.remote_write import REMOTE_WRITE_PROFILES
from relay.config.exporter.types import PrometheusRemoteWrite, RemoteWriteVersion, Sink
from relay.sink.http.response import HttpResponse
from relay.sink.remote_write.classify import Sent, classify
from relay.sink.retry.bisection import REQUESTS_MAX
from relay.sink.retry.verdict import Rejected, Split, Verdict
from tests.kit.batches import RAW_BATCHES
from tests.kit.processes import get_json
from tests.kit.remote_write.prompb import WriteRequest
from tests.kit.remote_write.raw import snappy
from tests.kit.sink.real_receivers import prometheus, victoria_metrics
from tests.kit.sink_harness import SinkHarness, running_sink

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

POINTS = 500
BAD = (7, 8, 300)
"""Samples of a batch that lie in a time that no receiver takes any more."""


def sink(url: str, version: RemoteWriteVersion) -> Sink:
    """A sink that sends everything to a URL."""
    return Sink("out", ("all",), PrometheusRemoteWrite(url, version=version, timeout_s=10.0))


def large_body() -> bytes:
    """A request of 1.0 of more than 32 MiB, of one sample again and again."""
    message: Any = WriteRequest()
    series = message.timeseries.add()
    series.labels.add(name="__name__", value="large")
    series.labels.add(name="pad", value="x" * 1000)
    series.samples.add(value=1.0, timestamp=int(time.time() * 1000))
    once = message.SerializeToString()
    return once * ((33 << 20) // len(once))


async def verdict_on(url: str, body: bytes) -> Verdict:
    """The verdict on an answer to a body."""
    headers = request_headers("remote_write_v1")
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=io.BytesIO(snappy(body)), headers=headers) as response,
    ):
        names = {name.lower(): value for name, value in response.headers.items()}
        answer = HttpResponse(response.status, names, await response.read())
    return classify(Sent("remote_write_v1", 500), answer, time.time())


def offer(harness: SinkHarness, *, bad: tuple[int, ...] = ()) -> dict[str, list[float]]:
    """Offer a batch of ten series; returns the values that are to be stored, by series."""
    # Later batches must not overlap earlier ones, however fast the machine is.
    now_ms = int(time.time() * 1000) - 60_000 + 1000 * harness.offsets
    samples = [
        (str(at % 10), 1_000 if at in bad else now_ms + at, float(at)) for at in range(POINTS)
    ]
    harness.offsets += 1
    harness.holds.hold(harness.offsets)
    batch = RAW_BATCHES.of(samples, position=harness.offsets, opened_at=time.time())
    harness.worker.offer(batch, 0)
    stored: dict[str, list[float]] = {}
    for n, time_ms, value in samples:
        if time_ms != 1_000:
            stored.setdefault(n, []).append(value)
    return stored


async def values_in_prometheus(url: str) -> dict[str, list[float]]:
    """The values of every series, in order of time."""
    answer = await get_json(f"{url}/api/v1/query?query={quote('temperature[1h]')}")
    return {
        series["metric"]["n"]: [float(value) for _, value in series["values"]]
        for series in answer["data"]["result"]
    }


async def values_in_victoria_metrics(url: str) -> dict[str, list[float]]:
    """The values of every series, in order of time."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/internal/force_flush") as response:
            assert response.status == 200
        async with session.get(f"{url}/api/v1/export?match[]=temperature") as response:
            lines = (await response.text()).splitlines()
    return {one["metric"]["n"]: one["values"] for one in map(json.loads, lines)}


@pytest.mark.parametrize("version", ["1.0", "2.0"])
async def test_prometheus_stores_a_batch(tmp_path: Path, version: RemoteWriteVersion) -> None:
    async with (
        prometheus(tmp_path) as url,
        running_sink(sink(f"{url}/api/v1/write", version)) as harness,
    ):
        stored = offer(harness)
        statistics = await harness.finished()
        assert await values_in_prometheus(url) == stored
    assert statistics.ledger.delivered == POINTS
    assert statistics.requests == {"delivered": 1}


async def test_prometheus_rolls_1_0_back_and_all_but_the_bad_points_arrive(tmp_path: Path) -> None:
    async with (
        prometheus(tmp_path) as url,
        running_sink(sink(f"{url}/api/v1/write", "1.0")) as harness,
    ):
        before = offer(harness)
        await harness.finished()
        stored = offer(harness, bad=BAD)
        statistics = await harness.finished()
        found = await values_in_prometheus(url)
        assert found == {n: before[n] + stored[n] for n in before}
    assert statistics.ledger.delivered == 2 * POINTS - len(BAD)
    assert sum(statistics.ledger.rejected.values()) == len(BAD)
    assert set(statistics.ledger.rejected) <= {"too_old", "out_of_order"}
    assert statistics.requests["bisect"] > len(BAD)
    assert sum(statistics.requests.values()) <= 2 + REQUESTS_MAX


async def test_prometheus_tells_of_2_0_how_many_it_refused(tmp_path: Path) -> None:
    async with (
        prometheus(tmp_path) as url,
        running_sink(sink(f"{url}/api/v1/write", "2.0")) as harness,
    ):
        before = offer(harness)
        await harness.finished()
        stored = offer(harness, bad=BAD)
        statistics = await harness.finished()
        assert await values_in_prometheus(url) == {n: before[n] + stored[n] for n in before}
    assert statistics.ledger.delivered == 2 * POINTS - len(BAD)
    assert sum(statistics.ledger.rejected.values()) == len(BAD)
    assert sum(statistics.requests.values()) == 2


@pytest.mark.parametrize("receiver", [prometheus, victoria_metrics])
async def test_requests_over_the_profiles_limit_are_to_be_split(tmp_path: Path, receiver) -> None:
    async with receiver(tmp_path) as url:
        assert isinstance(await verdict_on(f"{url}/api/v1/write", large_body()), Split)
        garbage = await verdict_on(f"{url}/api/v1/write", b"\xff" * 100)
    assert isinstance(garbage, Rejected)
    assert garbage.reason == "http_400"
    names = {"prometheus": "prometheus", "victoria_metrics": "victoriametrics"}
    profile = REMOTE_WRITE_PROFILES[names[receiver.__name__]]  # type: ignore[index]
    assert profile.request_bytes_max == 32 << 20


async def test_victoria_metrics_stores_a_batch_of_1_0(tmp_path: Path) -> None:
    async with (
        victoria_metrics(tmp_path, "-retentionPeriod=1") as url,
        running_sink(sink(f"{url}/api/v1/write", "1.0")) as harness,
    ):
        stored = offer(harness)
        statistics = await harness.finished()
        assert await values_in_victoria_metrics(url) == stored
    assert statistics.ledger.delivered == POINTS


async def test_victoria_metrics_stores_nothing_of_2_0_and_the_ledger_says_so(
    tmp_path: Path,
) -> None:
    async with (
        victoria_metrics(tmp_path, "-retentionPeriod=1") as url,
        running_sink(sink(f"{url}/api/v1/write", "2.0")) as harness,
    ):
        offer(harness)
        statistics = await harness.finished()
        assert await values_in_victoria_metrics(url) == {}
    assert statistics.ledger.rejected == {"not_version_2": POINTS}
    assert statistics.last_error is not None
    assert 'protocolVersion: "1.0"' in statistics.last_error.text
