"""No input within the limits holds the event loop: the longest wait of ``/healthz`` beside it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import cramjam
import pytest

from tests.support.hostile_bodies import SHAPES, Shape
from tests.support.processes import relay

WAIT_S_MAX = 0.25 if os.environ.get("CI") == "true" else 0.05
ATTEMPTS = 4
"""A machine that others use holds processes up now and then; what holds the loop does so always."""

EXPORTERS = """
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {name: all}
spec:
  sources: [{name: all, metrics: {metricsql: '{__name__!=""}'}}]
  sinks:
    - {name: numbers, otlp_http: {endpoint: "http://127.0.0.1:9"}}
    - {name: more, otlp_http: {endpoint: "http://127.0.0.1:9"}}
"""

Send = Callable[[], Awaitable[object]]


@asynccontextmanager
async def running(directory: Path, *arguments: str) -> AsyncIterator[tuple[str, str]]:
    """A relay with an exporter that takes everything; gives its two URLs."""
    manifest = directory / "exporters.yaml"
    manifest.write_text(EXPORTERS)
    async with relay(directory, "--exporters", str(manifest), *arguments) as (_, url, admin):
        yield url, admin


async def longest_wait(admin: str, send: Send) -> float:
    """Send something, and ask for ``/healthz`` over and over meanwhile."""
    host, port = admin.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    waits = [0.0]
    sending = asyncio.ensure_future(send())
    while not sending.done():
        began = time.perf_counter()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"ok\n")
        waits.append(time.perf_counter() - began)
        await asyncio.sleep(0.002)
    writer.close()
    await sending
    return max(waits)


async def assert_goes_on(admin: str, send: Send, what: str) -> None:
    """Fail where every attempt to send it holds the loop for too long."""
    waits = []
    for _ in range(ATTEMPTS):
        waits.append(await longest_wait(admin, send))
        if waits[-1] <= WAIT_S_MAX:
            return
    shown = ", ".join(f"{wait * 1000:.0f}" for wait in waits)
    raise AssertionError(f"{what} holds the loop: {shown} ms, at most {WAIT_S_MAX * 1000:.0f}")


def post(url: str, shape: Shape) -> Send:
    """A request of this shape; what is drawn anew in it, is so for every attempt."""

    async def send() -> None:
        body = await asyncio.to_thread(lambda: bytes(cramjam.zstd.compress(shape.make(), 1)))
        headers = {"Content-Encoding": "zstd", "Content-Type": shape.content_type}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers=headers) as answer,
        ):
            text = await answer.text()
            assert answer.status in (204, 400, 503), text
            assert answer.status == 204 or text

    return send


@pytest.mark.parametrize("name", SHAPES)
async def test_bodies(name: str, tmp_path: Path) -> None:
    async with running(tmp_path) as (url, admin):
        await assert_goes_on(admin, post(url, SHAPES[name]), name)
