"""A flood of connections to the API costs senders nothing, nor the other way round."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import yaml

from tests.kit.apiserver.running import ADMIN, AUTHORITY, EXPORTERS, tokens
from tests.kit.processes import Process, free_port, relay
from tests.kit.remote_write.raw import snappy
from tests.own_time import crowding

pytestmark = [pytest.mark.slow]

NOFILE = 256
FLOOD = 400
PROTOBUF = {"Content-Type": "application/x-protobuf"}


@dataclass(frozen=True)
class Addresses:
    """Where a relay with few descriptors listens."""

    process: Process
    ingest: str
    admin: str
    api: str
    local_api: str
    ca: Path

    @property
    def ports(self) -> dict[str, int]:
        """Ports by the listener's name."""
        found = {name: getattr(self, name) for name in ("ingest", "admin", "api", "local_api")}
        return {name: int(url.split(":")[2].split("/")[0]) for name, url in found.items()}


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Addresses]:
    (folder / "tokens.yaml").write_text(yaml.safe_dump(tokens()))
    port, local = free_port(), free_port()
    api = {
        "path": "api.db",
        "listen": f"127.0.0.1:{port}",
        "httpListen": f"127.0.0.1:{local}",
        "authentication": {"type": "tokens", "file": "tokens.yaml"},
    }
    config = folder / "relay.yaml"
    config.write_text(yaml.safe_dump({"api": api}))
    async with relay(folder, "--config", str(config), nofile=NOFILE) as (process, url, admin):
        where = f"https://127.0.0.1:{port}", f"http://127.0.0.1:{local}"
        yield Addresses(process, url, admin, *where, folder / AUTHORITY)


async def all_answer(found: Addresses) -> None:
    """Check that every listener answers at once, on a connection of its own."""
    context = ssl.create_default_context(cafile=str(found.ca))
    headers = {"Authorization": f"Bearer {ADMIN}"}
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=5 * crowding())
    ) as session:
        for url in (found.api, found.local_api):
            async with session.get(f"{url}{EXPORTERS}", headers=headers, ssl=context) as answer:
                assert answer.status == 200
        async with session.post(found.ingest, data=snappy(b""), headers=PROTOBUF) as answer:
            assert answer.status == 204
        async with session.get(f"{found.admin}/metrics") as answer:
            assert answer.status == 200


@pytest.mark.parametrize("target", ["api", "local_api", "ingest", "admin"])
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nA: "])
async def test_a_flood_of_one_listener_costs_the_others_nothing(
    tmp_path: Path, target: str, said: bytes
) -> None:
    async with running(tmp_path) as found, AsyncExitStack() as stack:
        for _ in range(FLOOD):
            _, writer = await asyncio.open_connection("127.0.0.1", found.ports[target])
            writer.write(said)
            stack.callback(writer.close)
        for _ in range(3):
            await all_answer(found)
        text = found.process.text()
        assert "Too many open files" not in text
        assert "cannot be accepted" not in text
        assert "Traceback" not in text
