"""TLS handshakes that never end take nobody's place; those that do lose nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest
import uvloop
from aiohttp import web

from relay.apiserver.access.certificates import CertificateFiles, ensure_certificates
from relay.config.settings.settings import ListenAddress, ServerTls
from relay.receiver.http import handshakes, listener
from relay.receiver.http.listener import Listener
from relay.receiver.http.tls import server_context
from tests.kit.processes import eventually
from tests.own_time import within

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    uvloop.new_event_loop,
    asyncio.new_event_loop,
]
CONNECTIONS = 40
HANDSHAKES = 10  # a part of them


@pytest.fixture(params=LOOPS, ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a test on a loop of each kind: the relay's is uvloop's."""

    def run_on(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(within(30, test))

    return run_on


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=await request.read())


@asynccontextmanager
async def listening(files: CertificateFiles) -> AsyncIterator[Listener]:
    context = server_context(ServerTls(files.certificate, files.key))
    with patch.object(listener, "connections_max", lambda _role: CONNECTIONS):
        made = Listener(echo, ListenAddress("127.0.0.1", 0), setting="x", tls=context)
        await made.start()
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def client(files: CertificateFiles) -> AsyncIterator[Callable[[str], Any]]:
    context = ssl.create_default_context(cafile=str(files.ca))
    connector = aiohttp.TCPConnector(ssl=context, limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def send(url: str) -> bytes:
            async with session.post(url, data=b"hello") as response:
                assert response.status == 200
                return await response.read()

        yield send


def test_requests_are_answered(tmp_path: Path, run: Callable[..., None]) -> None:
    files = ensure_certificates(tmp_path, [])

    async def test() -> None:
        async with listening(files) as server, client(files) as send:
            url = f"https://{server.address}/"
            for _ in range(5):
                found = await asyncio.gather(*(send(url) for _ in range(HANDSHAKES - 3)))
                assert found == [b"hello"] * (HANDSHAKES - 3)

    run(test())


def test_silent_connections_take_nobodys_place(tmp_path: Path, run: Callable[..., None]) -> None:
    files = ensure_certificates(tmp_path, [])

    async def test() -> None:
        async with listening(files) as server, client(files) as send:
            url = f"https://{server.address}/"
            silent = []
            for index in range(5 * HANDSHAKES):
                found = await asyncio.open_connection(server.address.host, server.address.port)
                if index % 2:
                    found[1].write(b"\x16\x03\x01\x02\x00\x01")  # a hello that stops there
                silent.append(found)
                if index % HANDSHAKES == 0:
                    assert await send(url) == b"hello"
            assert server.statistics().handshakes <= HANDSHAKES
            cut = silent[: 3 * HANDSHAKES]
            for reader, writer in cut:
                with_end = await asyncio.gather(reader.read(), return_exceptions=True)
                assert with_end[0] == b"" or isinstance(with_end[0], ConnectionError)
                writer.close()
            assert await send(url) == b"hello"
            for _, writer in silent:
                writer.close()

    run(test())


def test_a_handshake_has_a_time(tmp_path: Path, run: Callable[..., None]) -> None:
    files = ensure_certificates(tmp_path, [])

    async def test() -> None:
        with patch.object(handshakes, "HANDSHAKE_TIMEOUT_S", 0.2):
            async with listening(files) as server:
                where = (server.address.host, server.address.port)
                reader, writer = await asyncio.open_connection(*where)
                (ended,) = await asyncio.gather(reader.read(), return_exceptions=True)
                assert ended == b"" or isinstance(ended, ConnectionError)
                assert server.statistics().handshakes == 0
                writer.close()

    run(test())


def test_what_is_no_tls_costs_nothing(tmp_path: Path, run: Callable[..., None]) -> None:
    files = ensure_certificates(tmp_path, [])

    async def test() -> None:
        async with listening(files) as server, client(files) as send:
            for content in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\xff\xff" * 9):
                found = await asyncio.open_connection(server.address.host, server.address.port)
                found[1].write(content)
                await asyncio.gather(found[0].read(), return_exceptions=True)
                found[1].close()
            assert await send(f"https://{server.address}/") == b"hello"
            assert server.statistics().handshakes == 0

    run(test())


def test_a_request_in_the_last_bytes_of_the_handshake(
    tmp_path: Path, run: Callable[..., None]
) -> None:
    """A client may send its first request with the end of its handshake: nothing is lost."""
    files = ensure_certificates(tmp_path, [])
    context = ssl.create_default_context(cafile=str(files.ca))

    def ask(where: ListenAddress) -> bytes:
        with socket.create_connection((where.host, where.port)) as plain:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65536))
            tls.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
            plain.sendall(outgoing.read())  # with what ends the handshake
            found = b""
            while not found.endswith(b"hello"):
                incoming.write(plain.recv(65536))
                try:
                    found += tls.read()
                except ssl.SSLWantReadError:
                    continue
            return found

    async def test() -> None:
        async with listening(files) as server:
            for _ in range(20):
                answer = await asyncio.to_thread(ask, server.address)
                assert answer.startswith(b"HTTP/1.1 200")

    run(test())


def test_stopping_waits_for_no_handshake(tmp_path: Path, run: Callable[..., None]) -> None:
    files = ensure_certificates(tmp_path, [])

    async def test() -> None:
        async with listening(files) as server:
            found = await asyncio.open_connection(server.address.host, server.address.port)
            await eventually(
                "it has begun", lambda: server.statistics().handshakes == 1, timeout_s=5
            )
        await asyncio.gather(found[0].read(), return_exceptions=True)
        found[1].close()

    run(test())


def test_a_connection_has_one_handshake(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, [])
    context = server_context(ServerTls(files.certificate, files.key))
    assert context.options & ssl.OP_NO_RENEGOTIATION
