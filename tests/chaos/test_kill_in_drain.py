"""A relay that is killed while deleted Exporters drain: no object is given what is another's.

Oracle: every sample has a value of its own, and every object a path of its own at the endpoint. A
path may get only values that were sent while its object was there, the object that runs at the end
gets all of its own that were acknowledged, and nothing of the others' is left on disk.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.kit.apiserver.running import EXPORTERS
from tests.kit.apiserver.served_relay import exporter_object
from tests.kit.http.otlp_server import OtlpServer, Received, Reply
from tests.kit.processes import Process, eventually, free_port, get_json, get_metrics, relay
from tests.kit.remote_write.raw import HEADERS
from tests.kit.stored_relay import body_of

pytestmark = [pytest.mark.slow]

ROUNDS = 3
CHECKPOINTED_S = 2.5
"""Longest time until a checkpoint names a new sink; s."""


class Story:
    """One relay after the other, on one directory; ``sent`` has the values by object."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.port = free_port()
        self.sent: dict[str, set[float]] = defaultdict(set)
        self.taken: dict[str, list[float]] = defaultdict(list)
        self.refusing: set[str] = set()
        self.object = ""
        self.objects = self.values = 0
        (folder / "relay.yaml").write_text(
            yaml.safe_dump(
                {
                    "storage": {"path": "data"},
                    "translation": {"firstSightWait": "0s"},
                    "shutdown": {"drainTimeout": "20s"},
                    "api": {
                        "listen": f"127.0.0.1:{free_port()}",
                        "httpListen": f"127.0.0.1:{self.port}",
                        "authentication": {"type": "none"},
                    },
                }
            )
        )

    def answer(self, request: Received) -> Reply:
        """Refuse, or take, what is sent to an object's path."""
        name = request.path.strip("/").partition("/")[0]
        if name in self.refusing:
            return Reply(503)
        self.taken[name] += request.values()
        return Reply()

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request to the API."""
        url = f"http://127.0.0.1:{self.port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body) as response,
        ):
            return response.status, json.loads(await response.read())

    async def create(self, origin: str, admin: str, *, refuses: bool) -> None:
        """Create the Exporter, anew, and wait until it runs."""
        self.objects += 1
        self.object = f"object-{self.objects}"
        if refuses:
            self.refusing.add(self.object)
        body = exporter_object("acme", f"{origin}/{self.object}/v1/metrics")
        code, found = await self.ask("POST", EXPORTERS, body)
        assert code == 201, found

        async def runs() -> bool:
            running = (await get_json(f"{admin}/status"))["exporters"]
            return any(
                sink["endpoint"].startswith(f"{origin}/{self.object}/")
                for one in running
                for sink in one["sinks"]
            )

        await eventually("it runs", runs, timeout_s=20)

    async def send(self, url: str, requests: int) -> None:
        """Send samples; all are acknowledged."""
        async with aiohttp.ClientSession() as session:
            for _ in range(requests):
                count = self.rng.randint(1, 20)
                values = range(self.values, self.values + count)
                self.values += count
                self.sent[self.object].update(map(float, values))
                async with session.post(url, data=body_of(values), headers=HEADERS) as response:
                    assert response.status == 204, await response.text()

    async def delete(self, admin: str) -> None:
        """Delete the Exporter, and wait until its sink does not run any more."""
        code, found = await self.ask("DELETE", f"{EXPORTERS}/acme")
        assert code == 200, found

        async def is_gone() -> bool:
            return not (await get_json(f"{admin}/status"))["exporters"]

        await eventually("it is gone", is_gone, timeout_s=20)

    async def kill(self, process: Process) -> None:
        """End the relay in the middle of whatever it does."""
        await asyncio.sleep(self.rng.uniform(0, 0.5))
        await process.stop(signal.SIGKILL)

    def check(self) -> None:
        """Nobody got what is another's."""
        for name, values in self.taken.items():
            assert self.sent[name].issuperset(values), name


@pytest.mark.parametrize("seed", [1, 2])
async def test_deaths_in_drains(tmp_path: Path, seed: int) -> None:
    story, deleted = Story(tmp_path, seed), 0
    config = ("--config", str(tmp_path / "relay.yaml"))
    async with OtlpServer(story.answer) as server:
        for _ in range(ROUNDS):
            anew = story.rng.random() < 0.5
            async with relay(tmp_path, *config) as (process, url, admin):
                if story.object:
                    await is_balanced(admin)
                    found = await get_metrics(f"{admin}/metrics")
                    deleted += int(found['relay_orphaned_points_total{outcome="deleted"}'])
                    assert found["relay_orphan_points"] == 0
                    if await is_there(story):
                        await story.delete(admin)
                await story.create(server.origin, admin, refuses=True)
                await story.send(url, 20)
                await story.delete(admin)
                if anew:
                    await story.create(server.origin, admin, refuses=story.rng.random() < 0.5)
                    await story.send(url, 10)
                    await asyncio.sleep(CHECKPOINTED_S)
                await is_balanced(admin)
                await story.kill(process)
            story.check()
        async with relay(tmp_path, *config) as (process, url, admin):
            if await is_there(story):
                await story.delete(admin)
            await story.create(server.origin, admin, refuses=False)
            await story.send(url, 10)
            name = story.object
            await eventually(
                "all of its own",
                lambda: set(story.taken[name]) == story.sent[name],
                timeout_s=20,
            )
            await is_balanced(admin)
            assert await process.stop() == 0
    story.check()
    assert deleted > 0, "some were killed with data on disk"


async def is_there(story: Story) -> bool:
    """Return whether the API has the Exporter."""
    return (await story.ask("GET", f"{EXPORTERS}/acme"))[0] == 200


async def is_balanced(admin: str) -> None:
    """Check the ledgers of all sinks, those that drain and orphans."""
    status = await get_json(f"{admin}/status")
    sinks = [sink for one in status["exporters"] for sink in one["sinks"]]
    assert all(one["ledger"]["balanced"] for one in (*sinks, *status["removedSinks"]))
    orphans = status["storage"]["queues"]["orphans"]["ledger"]
    assert orphans["orphaned"] == orphans["deleted"]
