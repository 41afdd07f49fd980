"""The client's connections on both loops: early success is none, and each is told that it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine

import pytest
import trustme
import uvloop

from relay.sink.http.client import Transport
from relay.sink.http.connector import ConnectStep
from relay.sink.http.interface import Destination, HttpRequest
from relay.sink.http.response import HttpFailure
from relay.sink.http.tls import TlsMaterial
from tests.kit.http.hostile_server import HostileServer, never_answer
from tests.own_time import patience

TURNS = 14
"""Of the loop from a connected socket to a request that was sent, with TLS."""


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


def cancel_in(turns: int, task: asyncio.Task[object]) -> None:
    """Cancel a task so many turns of the loop from now."""
    if turns:
        asyncio.get_running_loop().call_soon(cancel_in, turns - 1, task)
    else:
        task.cancel()


async def cancel_post(url: str, material: TlsMaterial | None, turns: int) -> None:
    """Cancel a request so long after its socket is connected, and close its client."""
    posts: list[asyncio.Task[object]] = []

    def trace(step: ConnectStep) -> None:
        if step == "connection":
            cancel_in(turns, posts[0])

    client = Transport(allow_private=True, trace=trace)
    to = Destination(url, {}, tls=client.context(material) if material else None)
    posts.append(asyncio.create_task(client.post(HttpRequest(to, b"body", 5.0))))
    with contextlib.suppress(asyncio.CancelledError):
        await posts[0]
    assert posts[0].cancelled()
    async with patience(5):
        await client.close()


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_connection_whose_request_was_cancelled_is_not_waited_for(
    run: Callable[[Coroutine[None, None, None]], None], is_tls: bool
) -> None:
    """Whenever that was: the relay cancels requests as it stops, and its last step waits."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    material = TlsMaterial(ca=authority.cert_pem.bytes().decode()) if is_tls else None

    async def send() -> None:
        async with HostileServer(never_answer, context if is_tls else None) as server:
            url = server.url.replace("http:", "https:") if is_tls else server.url
            for turns in range(TURNS):
                await cancel_post(url, material, turns)

    run(send())
