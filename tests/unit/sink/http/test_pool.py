"""Which idle connection a request gets, and when one is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.sink.http import pool as pool_module
from relay.sink.http.connection import Connection
from relay.sink.http.pool import ConnectionPool
from relay.sink.http.request_head import Origin
from tests.kit.http.hostile_server import HostileServer
from tests.own_time import patience

HERE = Origin("here.test", 80, None, "here.test", False)
THERE = HERE._replace(host="there.test")


class Server:
    """Keeps every connection open, and knows which are."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.changed = asyncio.Condition()
        self.open = 0
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        await self._count(1)
        await reader.read()
        await self._count(-1)

    async def _count(self, more: int) -> None:
        async with self.changed:
            self.open += more
            self.changed.notify_all()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        async with HostileServer(self) as server:
            self.port = server.port
            yield self

    async def until_open(self, count: int) -> None:
        async with patience(5), self.changed:
            await self.changed.wait_for(lambda: self.open == count)


async def connect(pool: ConnectionPool, port: int) -> Connection:
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(lambda: Connection(loop, {}, pool), "127.0.0.1", port)
    return made


async def test_the_latest_comes_first_and_only_for_its_origin() -> None:
    pool = ConnectionPool(asyncio.get_running_loop())
    async with Server().running() as server:
        first, second, other = [await connect(pool, server.port) for _ in range(3)]
        pool.put(HERE, first)
        pool.put(THERE, other)
        pool.put(HERE, second)
        assert repr(pool) == "<ConnectionPool 3 open, 3 idle>"
        assert [pool.take(HERE) for _ in range(3)] == [second, first, None]
        assert pool.take(THERE) is other
        await pool.close()
        await server.until_open(0)


async def test_idle_connections_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "KEEPALIVE_S", 0.05)
    pool = ConnectionPool(asyncio.get_running_loop())
    async with Server().running() as server:
        for _ in range(3):
            pool.put(HERE, await connect(pool, server.port))
        used = pool.take(HERE)
        assert used is not None
        await server.until_open(1)
        assert pool.take(HERE) is None
        pool.put(HERE, used)
        await server.until_open(0)
        await pool.close()


@pytest.mark.parametrize("what", ["end", "bytes"])
async def test_a_connection_that_ends_or_speaks_while_idle_is_forgotten(what: str) -> None:
    pool = ConnectionPool(asyncio.get_running_loop())
    async with Server().running() as server:
        pool.put(HERE, await connect(pool, server.port))
        await server.until_open(1)
        if what == "end":
            server.writers[0].write_eof()
        else:
            server.writers[0].write(b"HTTP/1.1 200 OK\r\n\r\n")
        await server.until_open(0)
        assert repr(pool) == "<ConnectionPool 0 open, 0 idle>"
        assert pool.take(HERE) is None
        await pool.close()


async def test_a_closed_pool_keeps_nothing() -> None:
    pool = ConnectionPool(asyncio.get_running_loop())
    async with Server().running() as server:
        busy = await connect(pool, server.port)
        await pool.close()
        assert not busy.reusable
        pool.put(HERE, busy)
        assert pool.take(HERE) is None
        late = await connect(pool, server.port)
        assert not late.reusable
        await pool.close()
        await server.until_open(0)
