"""A success that comes before the kernel of the endpoint has all of the request is none."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine

import pytest
import uvloop

from relay.sink.http.client import Transport
from relay.sink.http.interface import Destination, HttpRequest
from relay.sink.http.response import HttpFailure
from tests.kit.http.hostile_server import HostileServer


async def take_and_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that all was taken as soon as the head is there, and reset the connection."""
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_reset_behind_a_success_does_not_hide_what_was_not_read(
    run: Callable[[Coroutine[None, None, None]], None],
) -> None:
    """The body is handed to the socket at once, and much of it stays on this side."""

    async def send() -> None:
        async with HostileServer(take_and_reset) as server, Transport(allow_private=True) as client:
            for _ in range(20):
                answer = await client.post(
                    HttpRequest(Destination(server.url, {}), bytes(1_000_000), 5.0)
                )
                assert isinstance(answer, HttpFailure), answer
                assert answer.kind in ("unread_request", "disconnected")

    run(send())
