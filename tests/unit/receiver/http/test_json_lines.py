"""Answers of JSON lines end with their events, and with a client that goes or does not read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web

from relay.config.settings.settings import ListenAddress
from relay.receiver.http import json_lines
from relay.receiver.http.json_lines import send_lines
from relay.receiver.http.listener import Listener
from relay.runtime.errors import OverloadedError
from tests.kit.processes import eventually

LARGE = "x" * 1_000_000


class Events:
    """Events of which the end is noted."""

    def __init__(self, make: Callable[[], AsyncIterator[dict[str, Any]]]) -> None:
        self._make = make
        self.ended = False

    async def __call__(self) -> AsyncIterator[dict[str, Any]]:
        try:
            async for event in self._make():
                yield event
        finally:
            self.ended = True


async def endless() -> AsyncIterator[dict[str, Any]]:
    while True:
        yield {"event": "point", "text": LARGE}
        await asyncio.sleep(0)


async def silent() -> AsyncIterator[dict[str, Any]]:
    yield {"event": "first"}
    await asyncio.Event().wait()


@asynccontextmanager
async def served(events: Events, **options: Any) -> AsyncIterator[ListenAddress]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await send_lines(request, events(), {"Server": "relay"}, **options)

    listener = Listener(answer, ListenAddress("127.0.0.1", 0), setting="test")
    await listener.start()
    try:
        yield listener.address
    finally:
        await listener.stop()


Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(address: ListenAddress) -> Client:
    reader, writer = await asyncio.open_connection(address.host, address.port, limit=1 << 24)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return reader, writer


async def ended(events: Events) -> None:
    await eventually("the events are closed", lambda: events.ended, timeout_s=8)


async def test_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "WRITE_TIMEOUT_S", 0.2)
    events = Events(endless)
    async with served(events) as address:
        reader, writer = await connected(address)
        await ended(events)
        received = b""
        with suppress(ConnectionResetError):  # or it is cut without its end
            while data := await reader.read(1 << 20):
                received += data
        assert not received.endswith(b"0\r\n\r\n")
        writer.close()


async def test_a_client_that_reads_slowly() -> None:
    events = Events(endless)
    async with served(events, answer_s_max=0.5) as address:
        reader, writer = await connected(address)
        for _ in range(20):
            if events.ended:
                break
            await reader.read(1000)
            await asyncio.sleep(0.1)
        assert events.ended
        writer.close()


async def test_a_client_that_goes() -> None:
    events = Events(silent)
    async with served(events) as address:
        reader, writer = await connected(address)
        await reader.readuntil(b'{"event":"first"}\n')
        writer.close()
        await ended(events)


async def test_a_server_that_closes() -> None:
    events, closing = Events(silent), asyncio.Event()
    async with served(events, closing=closing) as address:
        reader, writer = await connected(address)
        await reader.readuntil(b'{"event":"first"}\n')
        closing.set()
        assert await reader.readuntil(b"0\r\n\r\n")
        assert events.ended
        writer.close()


async def test_failures_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async def overloaded() -> AsyncIterator[dict[str, Any]]:
        yield {"event": "first"}
        raise OverloadedError("too many")

    async def bug() -> AsyncIterator[dict[str, Any]]:
        yield {"event": "first"}
        raise KeyError("secret")

    async with served(Events(overloaded)) as address:
        reader, writer = await connected(address)
        text = await reader.readuntil(b"0\r\n\r\n")
        assert b'{"event":"error","message":"too many"}' in text
        writer.close()
    with caplog.at_level(logging.ERROR, "relay.api"):
        async with served(Events(bug)) as address:
            reader, writer = await connected(address)
            text = await reader.readuntil(b"0\r\n\r\n")
            assert b"a bug in the relay, see its log" in text
            assert b"secret" not in text
            writer.close()
    assert "bug in the relay" in caplog.text
