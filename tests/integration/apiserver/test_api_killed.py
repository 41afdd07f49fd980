"""kill -9 while objects are written: every acknowledged one is there, none half."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.kit.apiserver.killed import Written, listed
from tests.kit.apiserver.running import ApiProcess
from tests.kit.apiserver.whole_relay import configure
from tests.kit.processes import eventually, free_port, relay

pytestmark = [pytest.mark.slow]

ROUNDS = 20
ROUNDS_OF_A_RELAY = 5


async def test_no_acknowledged_write_is_lost(tmp_path: Path) -> None:
    api = ApiProcess(tmp_path)
    api.prepare()
    random = Random(17)
    written = Written()
    for number in range(ROUNDS):
        async with api.running() as process:
            await written.write_until_killed(api.url, process, number, random.randint(1, 60))
    async with api.running():
        written.check(await listed(api.url))


async def test_a_whole_relay_loses_none(tmp_path: Path) -> None:
    """Statuses and Events are written meanwhile, and go on where they were."""
    port = free_port()
    api: dict[str, Any] = {"listen": f"127.0.0.1:{port}"}
    api["authentication"] = {"type": "tokens", "file": "tokens.yaml"}
    config = configure(tmp_path, api=api)
    url = f"https://127.0.0.1:{port}"
    random = Random(18)
    written = Written()
    for number in range(ROUNDS_OF_A_RELAY):
        async with relay(tmp_path, "--config", str(config)) as (process, _, _):
            await written.write_until_killed(url, process, number, random.randint(1, 60))
    async with relay(tmp_path, "--config", str(config)) as (process, _, _):

        async def all_run() -> bool:
            found = await listed(url)
            written.check(found)
            return all(runs(one) for one in found)

        await eventually("every Exporter runs", all_run, timeout_s=60)
        uids = {one["metadata"]["uid"] for one in await listed(url)}
        events = await listed(url, "/api/v1/namespaces/default/events")
        assert events
        for event in events:  # each of an object that is there: none has outlived a lost one
            assert event["involvedObject"]["uid"] in uids
            assert event["count"] >= 1
        assert await process.stop() == 0


def runs(one: dict[str, Any]) -> bool:
    """Return whether the stored conditions say that the present version runs."""
    generation = one["metadata"]["generation"]
    return ("Programmed", "True", generation) in [
        (each["type"], each["status"], each["observedGeneration"])
        for each in one.get("status", {}).get("conditions", ())
    ]
