"""No input within the limits holds the event loop: the longest wait of ``/healthz`` beside it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import cramjam
import pytest

from tests.kit.exporter_yaml import exporter_of
from tests.kit.processes import relay
from tests.kit.remote_write.hostile_bodies import NOW_MS, SHAPES, Shape, field, labels, sample
from tests.own_time import HELD_S_MAX, slowness

pytestmark = pytest.mark.alone

WAIT_S_MAX = 0.25 if os.environ.get("CI") == "true" else HELD_S_MAX
ATTEMPTS = 6
"""A machine that others use holds processes up now and then; what holds the loop does so always."""

IDLE_S = 0.3
"""How long an idle relay is asked at least: what it waits then is the machine's doing."""


def exporters(name: str = "all") -> str:
    """An Exporter that takes everything, and asks two expensive expressions besides."""
    patterns = {
        "all": '{__name__!=""}',
        "patterns": '{pod=~".*(a?b?){300}c"}',
        "more-patterns": '{pod=~".*a.{200}"}',
    }
    target = {"endpoint": "http://127.0.0.1:9"}
    return exporter_of(
        name,
        [{"name": source, "metrics": {"metricsql": one}} for source, one in patterns.items()],
        [
            {"name": "everything", "otlp_http": target},
            {"name": "some", "sources": ["patterns"], "otlp_http": target},
        ],
    )


Send = Callable[[], Awaitable[object]]


@asynccontextmanager
async def asking_relay(directory: Path, text: str = "") -> AsyncIterator[tuple[str, str]]:
    """A relay with an exporter that takes everything; gives its two URLs."""
    manifest = directory / "exporters.yaml"
    manifest.write_text(text or exporters())
    async with relay(directory, "--exporters", str(manifest)) as (_, url, admin):
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


async def too_long(admin: str, prepare: Callable[[], Send], what: str) -> str:
    """What to say where every attempt holds the loop; "" where one does not.

    A wait that is too long is compared with one beside nothing, which is the machine's own.
    """
    waits = []
    for _ in range(ATTEMPTS):
        send = prepare()
        began = time.perf_counter()
        wait = await longest_wait(admin, send)
        idle_s = max(IDLE_S, time.perf_counter() - began)
        most = WAIT_S_MAX * slowness()
        if wait > most:
            wait -= await longest_wait(admin, partial(asyncio.sleep, idle_s))
        if wait <= most:
            return ""
        waits.append(wait)
    shown = ", ".join(f"{wait * 1000:.0f}" for wait in waits)
    return f"{what}: {shown} ms, at most {WAIT_S_MAX * 1000:.0f}"


def post(url: str, shape: Shape) -> Send:
    """A request of this shape, made before anything is measured."""
    body = bytes(cramjam.zstd.compress(shape.make(), 1))
    headers = {"Content-Encoding": "zstd", "Content-Type": shape.content_type}

    async def send() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers=headers) as answer,
        ):
            text = await answer.text()
            assert answer.status in (204, 400, 503), text
            assert answer.status == 204 or text

    return send


def get(url: str, *, times: int = 1) -> Send:
    """So many requests at once."""

    async def send() -> None:
        async with aiohttp.ClientSession() as session:

            async def one() -> None:
                async with session.get(url) as answer:
                    await answer.read()

            await asyncio.gather(*(one() for _ in range(times)))

    return send


def pods(count: int, chars: int) -> bytes:
    """New series whose label is what expensive patterns ask for."""
    tail = "ab" * (chars // 2 - 10)
    return b"".join(
        field(1, labels(__name__="p", pod=f"{time.perf_counter_ns():x}{n}{tail}") + sample())
        for n in range(count)
    )


@pytest.mark.slow
async def test_bodies(tmp_path: Path) -> None:
    async with asking_relay(tmp_path) as (url, admin):
        found = [
            await too_long(admin, lambda shape=shape: post(url, shape), name)
            for name, shape in SHAPES.items()
        ]
    assert not any(found), "\n".join(filter(None, found))


@pytest.mark.parametrize("name", ["30k-series-of-127-equal-labels", "good-with-a-damaged-end"])
async def test_some_bodies(name: str, tmp_path: Path) -> None:
    async with asking_relay(tmp_path) as (url, admin):
        assert not await too_long(admin, lambda: post(url, SHAPES[name]), name)


@pytest.mark.parametrize(("count", "chars"), [(100, 200), (2_000, 200), (20, 15_000)])
async def test_selectors(count: int, chars: int, tmp_path: Path) -> None:
    """The most expensive selectors that are accepted, asked for values that are all new."""
    async with asking_relay(tmp_path) as (url, admin):
        shape = Shape(lambda: pods(count, chars))
        what = f"{count} series with values of {chars} characters"
        assert not await too_long(admin, lambda: post(url, shape), what)


def many_exporters(count: int) -> str:
    """Exporters that each say why they do not take a series."""
    return "\n---\n".join(exporters(f"all-{n}") for n in range(count))


async def test_admin_requests(tmp_path: Path) -> None:
    async with asking_relay(tmp_path, many_exporters(400)) as (url, admin):
        await post(
            url, Shape(lambda: field(1, labels(__name__="up", pod="a") + sample(1, NOW_MS)))
        )()
        found = [
            await too_long(admin, lambda path=path: get(f"{admin}{path}", times=24), path)
            for path in (
                "/explain?series=up&all=1",
                "/explain?series=up{pod='x'}",
                "/explain?series=" + "(" * 500,
                "/status",
                "/metrics",
            )
        ]
    assert not any(found), "\n".join(filter(None, found))
