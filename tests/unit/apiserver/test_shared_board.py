"""The relay that serves the API among those that read it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from relay.apiserver import other_relays
from relay.apiserver.other_relays import OtherRelays, SharedBoard
from relay.apiserver.store.database import ObjectDatabase
from relay.config.exporter.load_result import ObjectKey
from relay.config.settings.ingest_security import Admin
from relay.control.replicas.peer_access import PeerAccess
from relay.control.replicas.presence import GROUP_LABEL
from relay.control.status.board import StatusBoard
from tests.kit.apiserver.judged import FullDisk
from tests.kit.apiserver.running import RELAY, LocalApi, local_api
from tests.kit.processes import eventually
from tests.kit.sink.running_sinks import ToldSinks

LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
KEY = ObjectKey("api", "", "Exporter", "", "default", "web")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_relays, "LOOK_S", 0.01)
    monkeypatch.setattr(other_relays, "RESTART_S", 0.01)


def lease(name: str, holder: str, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
    }


def presence(relay: str) -> dict[str, Any]:
    return lease(f"group-{relay}", f"{relay}_1", **{GROUP_LABEL: "group"})


@asynccontextmanager
async def following(api: LocalApi) -> AsyncIterator[OtherRelays]:
    """Take part for the duration of the block."""
    relays = OtherRelays(
        api.server.objects, lambda: api.server.service.changer, PeerAccess(Admin()), "own", "mark"
    )
    task = asyncio.create_task(relays.run())
    try:
        yield relays
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def holder(api: LocalApi) -> str:
    _, found = await api.user(RELAY).ask("GET", f"{LEASES}/group")
    return str(found.get("spec", {}).get("holderIdentity", ""))


async def test_it_leads_the_relays_that_read_the_api(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api, following(api) as relays:
        user = api.user(RELAY)

        async def is_held() -> bool:
            return await holder(api) == "own_mark"

        await user.ask("POST", LEASES, lease("other", "somebody"))
        await asyncio.sleep(0.05)
        assert (await user.ask("GET", f"{LEASES}/group"))[0] == 404  # nobody is led
        assert (relays.members(), relays.settled) == ((), True)

        await user.ask("POST", LEASES, lease("group", "second_1"))
        await user.ask("POST", LEASES, presence("second"))
        await eventually("it holds the Lease of the leader", is_held, timeout_s=5)
        assert [one.name for one in relays.members()] == ["second"]
        _, found = await user.ask("GET", f"{LEASES}/group")
        found["spec"]["holderIdentity"] = "second_1"
        await user.ask("PUT", f"{LEASES}/group", found)
        await eventually("it takes the Lease back", is_held, timeout_s=5)
        _, found = await user.ask("GET", f"{LEASES}/group")
        assert found["spec"]["leaseTransitions"] == 2


async def test_nothing_is_told_before_the_others_could_report(tmp_path: Path) -> None:
    sinks = ToldSinks()
    board = StatusBoard(sinks, lambda: sinks.loaded)
    async with local_api(tmp_path) as api:
        await api.user(RELAY).ask("POST", LEASES, presence("second"))
        async with following(api) as relays:
            relays.look()
            shared = SharedBoard(board, relays)
            told: list[Any] = []
            shared.subscribe(told.append)
            assert not relays.settled
            assert shared.settled(KEY) is None
            assert shared.status(KEY) is None
            # Its Lease has no address of a report: it is not waited for without end.
            await eventually("it has had its chance", lambda: relays.settled, timeout_s=5)
            await eventually("all objects are judged anew", lambda: bool(told), timeout_s=5)


async def test_a_disk_without_room_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "relay.api")
    disk = FullDisk()
    monkeypatch.setattr(ObjectDatabase, "write", disk.as_method())
    async with local_api(tmp_path) as api:
        await api.user(RELAY).ask("POST", LEASES, presence("second"))
        disk.is_full = True
        async with following(api):
            await eventually("it fails", lambda: disk.refused > 2, timeout_s=5)
            told = [one.getMessage() for one in caplog.records]
            assert len([one for one in told if "Leases of other relays" in one]) == 1, told
            disk.is_full = False

            async def is_held() -> bool:
                return await holder(api) == "own_mark"

            await eventually("it goes on", is_held, timeout_s=5)
