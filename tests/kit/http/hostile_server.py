"""TCP endpoints that misbehave, on 127.0.0.1, and the ways in which they do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from tests.kit.http.closing import settle, stop_accepting

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request and keep silent."""
    while await reader.read(65536):
        pass


async def answer_as_grpc(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as a gRPC server in Go does: its SETTINGS frame, then GOAWAY."""
    settings = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"
    goaway = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(7) + b"\x01"
    writer.write(settings + goaway)
    await writer.drain()


async def answer_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer bytes that are not HTTP."""
    await reader.read(65536)
    writer.write(b"\x00\xffSSH-2.0-nothing\r\n\r\n" * 100)
    await writer.drain()


async def answer_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer 200 and ten gibibytes, as fast as they are read."""
    await reader.read(65536)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n")
    chunk = bytes(65536)
    while not writer.is_closing():
        writer.write(chunk)
        await writer.drain()


async def answer_endless_headers(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer headers that never end."""
    await reader.read(65536)
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X-Padding: " + b"a" * 4000 + b"\r\n")
        await writer.drain()


async def answer_interim_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Promise an answer for ever: 100 Continue, as fast as it is read."""
    await reader.read(65536)
    while not writer.is_closing():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        await writer.drain()


async def answer_status_zero(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with a status that HTTP has not, and keep the connection."""
    await reader.read(65536)
    writer.write(b"HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n")
    await reader.read()


async def answer_endless_chunk_extension(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer a chunk whose extension never ends: no body, but work for the parser."""
    await reader.read(65536)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    while not writer.is_closing():
        writer.write(b"a" * 65536)
        await writer.drain()


async def reset_inside_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Promise a body, send half of it and reset the connection."""
    await reader.read(65536)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + bytes(50))
    await writer.drain()
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def disconnect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request and close."""
    await reader.read(65536)


async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse as soon as the head is there, read no more of the body, and keep the connection."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    await asyncio.Event().wait()


async def take_unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that all was taken as soon as the head is there, and read no more of the body."""
    await reader.readuntil(b"\r\n\r\n")
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await asyncio.Event().wait()


async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request, and a moment later the next one, before it is made."""
    while await reader.readuntil(b"\r\n\r\n"):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        writer.write(answer)
        await asyncio.sleep(0.02)
        writer.write(answer.replace(b"200 OK", b"418 I'm a teapot"))


async def close_after_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request as if there could be more, then close."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer at once, with a body that comes a byte at a time and never ends."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the connection and never read from it."""
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


def redirect_to(url: str) -> Behaviour:
    """A behaviour that redirects elsewhere, keeping method and body."""

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        head = f"HTTP/1.1 308 Permanent Redirect\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()

    return redirect


class HostileServer:
    """A bare TCP endpoint; ``behaviour`` has each connection to itself, then it is closed.

    With a ``context`` its connections have TLS.
    """

    def __init__(self, behaviour: Behaviour, context: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour
        self.connections = 0
        self.port = 0
        self._context = context
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/v1/metrics"

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No coroutine: a connection is known before its task has begun, which may never happen.
        self.connections += 1
        self._tasks[asyncio.create_task(self._serve(reader, writer))] = writer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await self.behaviour(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", 0, ssl=self._context
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        await stop_accepting(self._server)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._tasks.values():
            writer.transport.abort()
        await settle()
        await self._server.wait_closed()
