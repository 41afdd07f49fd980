"""An informer of client-go on the relay's API: it lists, watches, and goes on after a cut."""

from __future__ import annotations

import json
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from bench import newest
from tests.kit.apiserver.running import ADMIN, EXPORTERS, ApiProcess, exporter
from tests.kit.processes import eventually, started, whole_lines

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.newest]

CHANGES = 500
OBJECTS = 600
"""More than client-go asks for in a page."""


async def change(api: ApiProcess, first: int, last: int) -> None:
    """Write a label again and again."""
    headers = {
        "Authorization": f"Bearer {ADMIN}",
        "Content-Type": "application/merge-patch+json",
    }
    async with aiohttp.ClientSession(headers=headers) as session:
        for count in range(first, last):
            body = json.dumps({"metadata": {"labels": {"count": str(count)}}})
            async with session.patch(
                f"{api.url}{EXPORTERS}/acme", data=body, ssl=False
            ) as response:
                assert response.status == 200, await response.text()


async def create(api: ApiProcess, *names: str) -> None:
    """Create Exporters."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for name in names:
            body = exporter(name)
            async with session.post(api.url + EXPORTERS, json=body, ssl=False) as response:
                assert response.status == 201


async def delete(api: ApiProcess, name: str) -> None:
    """Delete an Exporter."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.delete(f"{api.url}{EXPORTERS}/{name}", ssl=False) as response,
    ):
        assert response.status == 200


async def test_every_change_is_seen_in_order(tmp_path: Path) -> None:
    api = ApiProcess(tmp_path)
    api.prepare()
    seen = tmp_path / "informer.log"
    group, version = "telemetry.datumapis.com", "v1alpha1"
    command = [str(newest.binary("informer")), str(api.kubeconfig), group, version, "exporters"]

    def counts() -> list[int]:
        lines = [json.loads(line) for line in whole_lines(seen) if line[:1] == "{"]
        return [int(line["label"]) for line in lines if line.get("label")]

    async with AsyncExitStack() as informers:
        async with api.running():
            await create(api, "acme", "other")
            informer = await informers.enter_async_context(started(command, log=seen))
            await eventually(
                "the informer has listed", lambda: "synced" in informer.text(), timeout_s=30
            )
            await change(api, 0, CHANGES)
            await eventually("half is seen", lambda: len(counts()) >= CHANGES, timeout_s=30)
        async with api.running():
            await change(api, CHANGES, 2 * CHANGES)
            await eventually("all is seen", lambda: len(counts()) >= 2 * CHANGES, timeout_s=60)
    assert counts() == list(range(2 * CHANGES))
    types = [json.loads(line)["type"] for line in whole_lines(seen) if line[:1] == "{"]
    assert types.count("add") == 2  # it went on where it was, and listed nothing anew


@pytest.mark.parametrize("streaming", ["true", "false"])
async def test_a_stale_version_is_listed_anew(tmp_path: Path, streaming: str) -> None:
    api = ApiProcess(tmp_path)
    api.prepare()
    seen = tmp_path / "informer.log"
    # With it an informer lists by a watch, without in pages.
    command = ["env", f"KUBE_FEATURE_WatchListClient={streaming}", str(newest.binary("informer"))]
    command += [str(api.kubeconfig), "telemetry.datumapis.com", "v1alpha1", "exporters"]

    def known() -> dict[str, str]:
        found: dict[str, str] = {}
        for line in whole_lines(seen):
            event = json.loads(line) if line[:1] == "{" else {}
            if event.get("type") in ("add", "update"):
                found[event["name"]] = event["label"]
            elif event.get("type") == "delete":
                del found[event["name"]]
        return found

    async with AsyncExitStack() as informers:
        async with api.running():
            await create(api, "acme", *(f"e{number}" for number in range(OBJECTS)))
            informer = await informers.enter_async_context(started(command, log=seen))
            await eventually(
                "the informer has listed", lambda: len(known()) == OBJECTS + 1, timeout_s=30
            )
            informer.send_signal(signal.SIGSTOP)
        async with api.running():
            await change(api, 0, 3)
            await delete(api, "e0")
        async with api.running():  # events of before are not known any more
            await create(api, "late")
            informer.send_signal(signal.SIGCONT)
            await eventually("it sees what is there", lambda: "late" in known(), timeout_s=60)
            assert known()["acme"] == "2"
            assert "e0" not in known()
            assert len(known()) == OBJECTS + 1
