"""kill -9 while objects are written: every acknowledged one is there, none half."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from random import Random

import aiohttp
import pytest

from tests.kit.apiserver.running import ADMIN, EXPORTERS, ApiProcess, exporter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROUNDS = 20
WRITES = 1000
WRITERS = 16
HEADERS = {"Authorization": f"Bearer {ADMIN}"}


async def write_until_killed(
    api: ApiProcess, number: int, kill_after: int
) -> tuple[set[str], set[str]]:
    """Create objects, kill the server after so many; return names acknowledged, and sent."""
    names = iter([f"r{number}-{index}" for index in range(WRITES)])
    acknowledged: set[str] = set()
    sent: set[str] = set()

    async def writer(session: aiohttp.ClientSession) -> None:
        for name in names:
            sent.add(name)
            body = exporter(name, annotations={"filler": name * 50})
            try:
                async with session.post(api.url + EXPORTERS, json=body, ssl=False) as response:
                    assert response.status == 201, await response.text()
                    acknowledged.add(name)
            except aiohttp.ClientError:
                return
            if len(acknowledged) == kill_after:
                process.send_signal(signal.SIGKILL)

    async with api.running() as process, aiohttp.ClientSession(headers=HEADERS) as session:
        await asyncio.gather(*(writer(session) for _ in range(WRITERS)))
        assert await process.wait(timeout_s=10) == -signal.SIGKILL
    return acknowledged, sent


async def test_no_acknowledged_write_is_lost(tmp_path: Path) -> None:
    api = ApiProcess(tmp_path)
    api.prepare()
    random = Random(17)
    acknowledged: set[str] = set()
    sent: set[str] = set()
    for number in range(ROUNDS):
        kill_after = random.randint(1, 60)
        one, other = await write_until_killed(api, number, kill_after)
        assert len(one) >= kill_after
        acknowledged |= one
        sent |= other
    async with (
        api.running(),
        aiohttp.ClientSession(headers=HEADERS) as session,
        session.get(api.url + EXPORTERS, ssl=False) as response,
    ):
        listed = (await response.json())["items"]
    stored = {item["metadata"]["name"] for item in listed}
    assert acknowledged <= stored
    assert stored <= sent
    versions = set()
    for item in listed:
        name = item["metadata"]["name"]
        expected = exporter(name)
        assert item["metadata"]["annotations"] == {"filler": name * 50}
        assert item["spec"]["sources"] == expected["spec"]["sources"]
        assert item["metadata"]["managedFields"]
        versions.add(int(item["metadata"]["resourceVersion"]))
    assert len(versions) == len(listed)
