"""Clients that do not read, or do not send: what they hold is bounded, in bytes and time."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

from relay.apiserver.access.limits import ApiLimits
from relay.apiserver.http import bodies, reads, watches
from tests.kit.apiserver.running import (
    ADMIN,
    AUTHORITY,
    EXPORTERS,
    SECRETS,
    LocalApi,
    exporter,
    local_api,
    secret,
)
from tests.kit.processes import eventually

OBJECTS = 40
"""Ten megabytes together: more than the kernel holds for a client."""
MORE_THAN_SOCKETS_HOLD = 64_000_000
"""Bytes of requests that only reach a server which reads them."""
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Clients:
    """Connections of clients that stop reading."""

    def __init__(self, api: LocalApi, folder: Path) -> None:
        self._where = api.server.addresses[0]
        self._tls = ssl.create_default_context(cafile=str(folder / AUTHORITY))
        self.open: list[Stream] = []

    async def ask(self, text: str, body: bytes = b"") -> Stream:
        """Send a request, with some of its body; read nothing."""
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the kernel reads little
        plain.setblocking(False)
        where = (self._where.host, self._where.port)
        await asyncio.get_running_loop().sock_connect(plain, where)
        found = await asyncio.open_connection(
            sock=plain, ssl=self._tls, server_hostname="localhost", limit=1024
        )
        self.open.append(found)
        head = f"{text} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n"
        found[1].write(head.encode() + body)
        return found


@asynccontextmanager
async def with_large_objects(
    folder: Path, limits: ApiLimits | None = None
) -> AsyncIterator[tuple[LocalApi, Clients]]:
    async with local_api(folder, limits=limits) as api:
        admin = api.user(ADMIN)
        for index in range(OBJECTS):
            large = exporter(f"e{index}", annotations={"a": "x" * 250_000})
            assert (await admin.ask("POST", EXPORTERS, large))[0] == 201
        clients = Clients(api, folder)
        try:
            yield api, clients
        finally:
            for _, writer in clients.open:
                writer.transport.abort()


async def test_a_watch_that_is_not_read_is_cut(tmp_path: Path) -> None:
    with patch.object(watches, "WRITE_TIMEOUT_S", 0.2):
        async with with_large_objects(tmp_path) as (api, clients):
            await clients.ask(f"GET {EXPORTERS}?watch=1", b"\r\n")
            figures = api.server.service.statistics
            await eventually("it is open", lambda: figures().watches == 1, timeout_s=5)
            await eventually("it is cut", lambda: figures().watches == 0, timeout_s=5)


async def test_watches_that_are_not_read_hold_few_bytes(tmp_path: Path) -> None:
    """Beyond the project's share a watch ends; a watch of a client that reads goes on."""
    limits = ApiLimits(bytes_per_project_max=1_000_000)
    async with with_large_objects(tmp_path, limits) as (api, clients):
        usage = api.server.service._usage
        for _ in range(20):
            await clients.ask(f"GET {EXPORTERS}?watch=1", b"\r\n")
        figures = api.server.service.statistics
        await eventually("some are cut", lambda: 0 < figures().watches < 5, timeout_s=5)
        assert sum(usage._bytes.values()) <= 1_000_000
        admin = api.user(ADMIN)
        async with admin.watch(SECRETS) as events:
            assert (await admin.ask("POST", SECRETS, secret()))[0] == 201
            assert (await anext(events))["type"] == "ADDED"


async def test_a_list_that_is_not_read_is_cut(tmp_path: Path) -> None:
    with patch.object(reads, "WRITE_TIMEOUT_S", 0.2):
        async with with_large_objects(tmp_path) as (api, clients):
            await clients.ask(f"GET {EXPORTERS}", b"\r\n")
            figures = api.server.service.statistics
            await eventually("it is on", lambda: figures().requests == 1, timeout_s=5)
            await eventually("it is cut", lambda: figures().requests == 0, timeout_s=5)


async def test_lists_that_are_not_read_hold_few_bytes(tmp_path: Path) -> None:
    limits = ApiLimits(bytes_per_project_max=12_000_000)
    async with with_large_objects(tmp_path, limits) as (api, clients):
        figures = api.server.service.statistics
        await clients.ask(f"GET {EXPORTERS}", b"\r\n")
        await eventually("it is on", lambda: figures().requests == 1, timeout_s=5)
        admin = api.user(ADMIN)
        code, status = await admin.ask("GET", EXPORTERS)
        assert (code, status["reason"]) == (429, "TooManyRequests")
        code, page = await admin.ask("GET", f"{EXPORTERS}?limit=1")
        assert (code, len(page["items"])) == (200, 1)


async def test_a_body_that_does_not_come_has_a_time(tmp_path: Path) -> None:
    with patch.object(bodies, "BODY_TIMEOUT_S", 0.2):
        async with with_large_objects(tmp_path) as (_, clients):
            head = b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            reader, _ = await clients.ask(f"POST {EXPORTERS}", head)
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")


async def test_heads_are_bounded(tmp_path: Path) -> None:
    async with with_large_objects(tmp_path) as (api, clients):
        for more in (b"A: " + b"x" * 9000, b"\r\n".join(b"A%d: x" % n for n in range(200))):
            reader, _ = await clients.ask(f"GET {EXPORTERS}", more + b"\r\n\r\n")
            assert (await reader.readline()).endswith(b" 400 Bad Request\r\n")
        reader, _ = await clients.ask(f"GET {EXPORTERS}?labelSelector={'x' * 9000}", b"\r\n")
        assert (await reader.readline()).endswith(b" 400 Bad Request\r\n")
        assert (await api.user(ADMIN).ask("GET", f"{EXPORTERS}/e0"))[0] == 200


async def test_a_flood_of_requests_in_one_connection_is_read_as_it_is_answered(
    tmp_path: Path,
) -> None:
    async with with_large_objects(tmp_path) as (api, clients):
        head = f"Host: x\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
        one = f"GET {EXPORTERS} HTTP/1.1\r\n{head}".encode()
        _, writer = await clients.ask(f"GET {EXPORTERS}", b"\r\n")
        many, sent, stalled = one * 1000, 0, False
        while not stalled and sent < MORE_THAN_SOCKETS_HOLD:
            writer.write(many)
            try:
                async with asyncio.timeout(0.2):
                    await writer.drain()
            except TimeoutError:
                stalled = True
            sent += len(many)
        assert stalled, f"all of {sent} bytes were read"
        assert (await api.user(ADMIN).ask("GET", f"{EXPORTERS}/e0"))[0] == 200


async def test_a_cursor_that_is_nested(tmp_path: Path) -> None:
    async with local_api(tmp_path) as api:
        cursor = base64.urlsafe_b64encode(b"[" * 4000).decode()
        code, status = await api.user(ADMIN).ask("GET", f"{EXPORTERS}?continue={cursor}")
        assert (code, status["reason"]) == (400, "BadRequest")
        cursor = base64.urlsafe_b64encode(
            json.dumps({"v": 10**400, "after": ["", "", ""]}).encode()
        ).decode()
        assert (await api.user(ADMIN).ask("GET", f"{EXPORTERS}?continue={cursor}"))[0] == 410
