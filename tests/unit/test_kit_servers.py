"""Servers of tests close what they have accepted when they end, also a moment before."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from tests.kit.http.closing import settle
from tests.kit.http.hostile_server import HostileServer, never_answer
from tests.kit.http.otlp_server import OtlpServer

Serving = Callable[[], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def of_aiohttp() -> AsyncIterator[int]:
    async with OtlpServer() as server:
        yield int(server.origin.rpartition(":")[2])


@asynccontextmanager
async def raw() -> AsyncIterator[int]:
    async with HostileServer(never_answer) as server:
        yield server.port


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("serving", [of_aiohttp, raw])
async def test_a_connection_just_accepted_is_closed_at_the_end(
    serving: Serving, turns: int
) -> None:
    with socket.socket() as client:
        async with serving() as port:
            client.connect(("127.0.0.1", port))
            for _ in range(turns):
                await asyncio.sleep(0)
        await settle()
        client.settimeout(0.2)
        assert is_over(client)


def is_over(client: socket.socket) -> bool:
    """Whether the other side has closed the connection, or reset it."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
