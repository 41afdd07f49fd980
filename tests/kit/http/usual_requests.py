"""Usual requests to a listener: written by hand, and their answers read so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.config.settings.settings import ListenAddress
from relay.receiver.http.aiohttp_server import Service
from relay.receiver.http.listener import Listener, UsualService
from relay.receiver.http.usual_requests import AtOnce

HEAD = b"POST /v1/logs HTTP/1.1\r\nHost: relay\r\nContent-Length: %d\r\n\r\n"

Connected = tuple[Listener, asyncio.StreamReader, asyncio.StreamWriter]


def usual(body: bytes) -> bytes:
    """Return a usual request."""
    return HEAD % len(body) + body


@asynccontextmanager
async def connected(service: Service, at_once: AtOnce | None = None) -> AsyncIterator[Connected]:
    """Yield a listener that takes every usual request, and a connection to it."""
    listener = Listener(
        service,
        ListenAddress("127.0.0.1", 0),
        setting="x",
        usual=UsualService(lambda _method, _path: True, at_once),
    )
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.address.port)
    try:
        yield listener, reader, writer
    finally:
        writer.close()
        await listener.stop()


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read an answer; return its first line and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    (size,) = (int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    return head.split(b"\r\n")[0], await reader.readexactly(size)


def most_buffered(listener: Listener) -> int:
    """Return the bytes that wait on the connection with the most of them."""
    assert listener.usual is not None
    return max((len(one._buffer) for one in listener.usual.open), default=0)
