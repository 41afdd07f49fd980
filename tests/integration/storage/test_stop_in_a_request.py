"""A stop in the middle of one replayed request: nothing of it is lost or taken as finished."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from relay.app import Relay
from tests.kit.exporter_yaml import exporter_of
from tests.kit.http.otlp_server import OtlpServer, Reply
from tests.kit.otlp.official import LOGS, any_value, attribute
from tests.kit.remote_write.raw import HEADERS, T0_MS, join, snappy, text_series
from tests.kit.stored_relay import OTLP, Sender, crash_image, made, running
from tests.own_time import patience

COUNT = 20_000
"""Series of a request, which take far longer than a slice."""
RESOURCES = 4_000
"""Resources of a request of logs, with a record each; likewise."""


def exporter(url: str) -> str:
    """An Exporter of metrics and logs, in large batches."""
    sources = [{"name": "metrics", "metrics": {"metricsql": ""}}, {"name": "logs", "logs": {}}]
    sink = {"name": "sink", "otlp_http": {"endpoint": url.removesuffix("/v1/metrics")}}
    return exporter_of("all", sources, [{**sink, "batch": {"timeout": "1ms", "maxSize": 5_000}}])


async def send(sender: Sender, signal: str) -> None:
    """Send one large request."""
    if signal == "metrics":
        series = (
            text_series({"__name__": "large", "n": str(n)}, (float(n), T0_MS)) for n in range(COUNT)
        )
        assert await sender.post(snappy(join(series)), headers=HEADERS) == 204
        return
    request = LOGS.request()
    for number in range(RESOURCES):
        resource = request.resource_logs.add()
        resource.resource.attributes.append(attribute("service.name", f"svc-{number}"))
        resource.scope_logs.add().log_records.add(body=any_value(float(number)))
    body = gzip.compress(request.SerializeToString())
    assert await sender.post(body, path="/v1/logs", headers=OTLP) == 200


async def in_the_middle(relay: Relay) -> None:
    """Return between two slices of a request that is replayed."""
    async with patience(10):
        while not relay._turns.entered:  # noqa: ASYNC110 - it is told to nobody
            await asyncio.sleep(0)
    replay = relay._replay
    assert replay is not None
    assert replay.active
    assert not replay.statistics().requests


@pytest.mark.parametrize("signal", ["metrics", "logs"])
async def test_a_stop_in_a_replayed_request(tmp_path: Path, signal: str) -> None:
    async with OtlpServer(lambda _: Reply(503)) as server:
        async with running(made(tmp_path, exporter(server.url))) as sender:
            await send(sender, signal)
            image = crash_image(tmp_path / "data", tmp_path / "image")
        server.answer = lambda _: Reply()
        for _ in range(2):
            relay = made(tmp_path, exporter(server.url), data=image)
            async with running(relay):
                await in_the_middle(relay)
        server.taken.clear()

        def found() -> list[float]:
            return sorted(server.values if signal == "metrics" else server.numbers("logs"))

        wanted = list(map(float, range(COUNT if signal == "metrics" else RESOURCES)))
        async with running(made(tmp_path, exporter(server.url), data=image)):
            await server.wait_until(lambda: len(found()) >= len(wanted), timeout_s=10)
        assert found() == wanted
