"""A relay with an API whose settings are good and that cannot start, and one with tenancy."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import aiohttp
import pytest
import yaml

from tests.kit.apiserver.running import EXPORTERS, exporter, tokens
from tests.kit.processes import eventually, free_port, get_json, get_metrics, relay, started
from tests.own_time import patience

TENANCY = {"label": "project"}
RUN = (sys.executable, "-m", "relay", "run")


def configure(folder: Path, port: int, **more: object) -> Path:
    api = {
        "path": "api.db",
        "listen": f"127.0.0.1:{free_port()}",
        "httpListen": f"127.0.0.1:{port}",
        "authentication": {"type": "tokens", "file": "tokens.yaml"},
    }
    file = folder / "relay.yaml"
    file.write_text(yaml.safe_dump({"api": api, **more}))
    return file


async def refusal(folder: Path, config: Path) -> str:
    """What a relay says that does not start."""
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--admin-listen", f"127.0.0.1:{free_port()}")
    command = (*RUN, "--config", str(config), *listen)
    async with started(command, log=folder / "relay.log") as process:
        assert await process.wait() == 1
        return process.text()


async def test_faults_of_users_name_their_place(tmp_path: Path) -> None:
    (tmp_path / "tokens.yaml").write_text("- {token: s3cret, user: me, role: king}\n")
    said = await refusal(tmp_path, configure(tmp_path, free_port()))
    assert "[0].token" in said
    assert "[0].role" in said
    assert "s3cret" not in said
    assert "Traceback" not in said


async def test_no_exporter_at_all_is_a_good_start(tmp_path: Path) -> None:
    (tmp_path / "tokens.yaml").write_text(yaml.safe_dump(tokens()))
    config = configure(tmp_path, free_port())
    async with relay(tmp_path, "--config", str(config)) as (process, _, admin):
        assert (await get_json(f"{admin}/status"))["exporters"] == []
        assert "no exporter can run yet" in process.text()
        assert "WARNING" not in process.text()
        assert await process.stop() == 0


async def read_to_the_end(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as response:
        assert response.status == 200
        return await response.read()


async def test_a_token_counts_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text(yaml.safe_dump(tokens("acme")))
    port = free_port()
    config = configure(tmp_path, port, tenancy=TENANCY)
    url = f"http://127.0.0.1:{port}/projects/initech/api/v1/namespaces/default"
    new = {"token": "token-of-initech", "user": "ben", "role": "viewer", "projects": ["initech"]}
    async with (
        relay(tmp_path, "--config", str(config)) as (process, _, admin),
        aiohttp.ClientSession(headers={"Authorization": "Bearer token-of-initech"}) as session,
    ):

        async def answers(code: int) -> bool:
            async with session.get(url) as response:
                return response.status == code

        async def faults() -> float:
            return (await get_metrics(f"{admin}/metrics"))["relay_api_token_faults"]

        assert await answers(401)
        file.write_text(yaml.safe_dump([*tokens("acme"), new]))
        await eventually("the new token counts", lambda: answers(200), timeout_s=10)
        watching = asyncio.create_task(
            read_to_the_end(session, f"{url.rpartition('/')[0]}?watch=1")
        )
        file.write_text("- {token: s3cret, user: me}\n")

        async def is_told() -> bool:
            return await faults() > 0

        await eventually("the fault is told", is_told, timeout_s=10)
        assert await answers(200)
        file.write_text(yaml.safe_dump(tokens("acme")))
        await eventually("the token is gone", lambda: answers(401), timeout_s=10)
        assert await faults() == 0
        async with patience(10):
            (ended,) = await asyncio.gather(watching, return_exceptions=True)
        assert isinstance(ended, aiohttp.ClientError), "the watch is cut"
        assert "s3cret" not in process.text()


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokens.yaml").write_text(yaml.safe_dump(tokens()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = await refusal(tmp_path, configure(tmp_path, taken.getsockname()[1]))
    assert "api.httpListen" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("project", ["acme", "initech"])
async def test_each_project_has_a_path(tmp_path: Path, project: str) -> None:
    (tmp_path / "tokens.yaml").write_text(yaml.safe_dump(tokens("acme", "initech")))
    port = free_port()
    config = configure(tmp_path, port, tenancy=TENANCY)
    url = f"http://127.0.0.1:{port}/projects/{project}/api/v1/namespaces"
    headers = {"Authorization": "Bearer token-of-the-admin"}
    async with relay(tmp_path, "--config", str(config)) as (process, _, admin):
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.get(url) as response:
                (one,) = (await response.json())["items"]
                assert one["metadata"]["name"] == "default"
            async with session.get(url.replace(project, "other")) as response:
                assert response.status == 403
            await runs_in(session, url.removesuffix("/api/v1/namespaces"), admin, project)
        assert await process.stop() == 0


async def runs_in(session: aiohttp.ClientSession, root: str, admin: str, project: str) -> None:
    """An Exporter that is created runs in its project, and its status says so."""
    async with session.post(f"{root}{EXPORTERS}", json=exporter("one")) as response:
        assert response.status == 201

    async def is_programmed() -> bool:
        async with session.get(f"{root}{EXPORTERS}/one") as response:
            conditions = (await response.json()).get("status", {}).get("conditions", [])
        return ("Programmed", "True") in {(one["type"], one["status"]) for one in conditions}

    await eventually("it is programmed", is_programmed, timeout_s=20)
    (running,) = (await get_json(f"{admin}/status"))["exporters"]
    assert running["name"] == f"{project}/default/one"
