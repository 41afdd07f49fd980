"""Connections that say nothing take nobody's place."""

from __future__ import annotations

import asyncio
import resource
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from tests.kit.processes import relay
from tests.kit.remote_write.raw import snappy
from tests.own_time import crowding

IDLE = 1_100
PROTOBUF = {"Content-Type": "application/x-protobuf"}


async def test_idle_connections_with_few_descriptors(tmp_path: Path) -> None:
    """Both listeners go on answering with 1,100 idle connections each and 1,024 descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * IDLE + 200
    assert hard == resource.RLIM_INFINITY or hard >= needed, "the test needs as many itself"
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    body = snappy(b"")
    async with AsyncExitStack() as stack:
        process, url, admin = await stack.enter_async_context(
            relay(tmp_path, "--data", str(tmp_path / "data"), nofile=1024)
        )
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10 * crowding()))
        )
        for target in (url, admin):
            port = int(target.split(":")[2].split("/")[0])
            for _ in range(IDLE):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                stack.callback(writer.close)
        for _ in range(5):
            async with session.get(f"{admin}/healthz") as answer:
                assert answer.status == 200
            async with session.post(url, data=body, headers=PROTOBUF) as answer:
                assert answer.status == 204
            async with session.get(f"{admin}/metrics") as answer:
                assert answer.status == 200
        assert "Too many open files" not in process.text()
