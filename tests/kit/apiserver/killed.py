"""Kill a server while objects are written, and look at what is there then."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.kit.apiserver.running import ADMIN, EXPORTERS, exporter
from tests.kit.processes import Process

WRITES = 1000
WRITERS = 16
HEADERS = {"Authorization": f"Bearer {ADMIN}"}


@dataclass(slots=True)
class Written:
    """Names of the Exporters that were acknowledged, and of those that were sent."""

    acknowledged: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)

    async def write_until_killed(
        self, url: str, process: Process, number: int, kill_after: int
    ) -> None:
        """Create up to 1,000 Exporters, and kill the server after so many."""
        names = iter([f"r{number}-{index}" for index in range(WRITES)])
        done: set[str] = set()

        async def writer(session: aiohttp.ClientSession) -> None:
            for name in names:
                self.sent.add(name)
                body = exporter(name, annotations={"filler": name * 50})
                try:
                    async with session.post(url + EXPORTERS, json=body, ssl=False) as response:
                        assert response.status == 201, await response.text()
                        done.add(name)
                except aiohttp.ClientError:
                    return
                if len(done) == kill_after:
                    process.send_signal(signal.SIGKILL)

        async with aiohttp.ClientSession(headers=HEADERS) as session:
            await asyncio.gather(*(writer(session) for _ in range(WRITERS)))
        assert await process.wait(timeout_s=10) == -signal.SIGKILL
        assert len(done) >= kill_after
        self.acknowledged |= done

    def check(self, listed: list[dict[str, Any]]) -> None:
        """Fail unless every acknowledged Exporter is there, and each that is there is whole."""
        stored = {item["metadata"]["name"] for item in listed}
        assert self.acknowledged <= stored
        assert stored <= self.sent
        versions = set()
        for item in listed:
            name = item["metadata"]["name"]
            expected = exporter(name)
            assert item["metadata"]["annotations"] == {"filler": name * 50}
            assert item["spec"]["sources"] == expected["spec"]["sources"]
            assert item["metadata"]["managedFields"]
            versions.add(int(item["metadata"]["resourceVersion"]))
        assert len(versions) == len(listed)


async def listed(url: str, path: str = EXPORTERS) -> list[dict[str, Any]]:
    """Return the objects at a path."""
    async with (
        aiohttp.ClientSession(headers=HEADERS) as session,
        session.get(url + path, ssl=False) as response,
    ):
        assert response.status == 200, await response.text()
        items: list[dict[str, Any]] = (await response.json())["items"]
        return items
