"""Usual requests are served without aiohttp; every other one is, with its connection, aiohttp's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from relay.receiver.http import listener as listeners
from relay.receiver.http.listener import Listener
from relay.receiver.http.usual_head import parse_head
from relay.receiver.http.usual_requests import (
    BODY_BYTES_MAX,
    BUFFER_BYTES_MAX,
    HEADS_MAX,
    UsualRequests,
    WholeRequest,
)
from relay.receiver.http.whole_answer import WholeAnswer
from tests.kit.http.usual_requests import HEAD, Connected, answer, connected, most_buffered, usual
from tests.kit.processes import eventually
from tests.own_time import pass_time, patience

POST = b"POST /v1/logs HTTP/1.1\r\nHost: relay\r\n%b\r\n\r\n"


class Requests:
    """A service that says how a request came."""

    def __init__(self) -> None:
        self.whole: list[bool] = []
        self.begun = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()

    async def __call__(self, request: web.BaseRequest) -> WholeAnswer:
        self.whole.append(isinstance(request, WholeRequest))
        self.begun.set()
        content: Any = request.content
        body = content.read_nowait() if content.is_eof() else await content.read()
        await self.hold.wait()
        return WholeAnswer.of_text(200, f"{request.path} {len(body)}", {"Server": "relay"})


@asynccontextmanager
async def served(service: Requests) -> AsyncIterator[Connected]:
    async with connected(service) as made:
        try:
            yield made
        finally:
            service.hold.set()


async def test_usual_requests_are_served_in_order_however_they_arrive() -> None:
    service = Requests()
    async with served(service) as (_, reader, writer):
        writer.write(usual(b"abc") + usual(b"") + HEAD % 4)
        for size in (3, 0):
            assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs %d" % size)
        writer.write(b"wxyz")
        assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs 4")
    assert service.whole == [True] * 3


@pytest.mark.parametrize(
    ("request_bytes", "size"),
    [
        (POST % b"Transfer-Encoding: chunked" + b"1\r\nx\r\n0\r\n\r\n", 1),
        (POST.replace(b"logs", b"l%%6Fgs") % b"Content-Length: 1" + b"x", 1),
        (POST.replace(b"logs", b"logs?x") % b"Content-Length: 1" + b"x", 1),
        (b"GET /v1/logs?x HTTP/1.1\r\nHost: r\r\n\r\n", 0),
        (b"GET /v1/logs HTTP/1.1\r\nHost: r\r\nContent-Length: 1\r\n\r\nx", 1),
        (usual(bytes(BODY_BYTES_MAX + 1)), BODY_BYTES_MAX + 1),
    ],
)
async def test_an_unusual_request_makes_the_connection_aiohttps(
    request_bytes: bytes, size: int
) -> None:
    service = Requests()
    async with served(service) as (listener, reader, writer):
        writer.write(usual(b"abc") + request_bytes)
        assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs 3")
        assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs %d" % size)
        assert listener.statistics().connections.open <= 1
    assert service.whole == [True, False]


@pytest.mark.parametrize("cut", [10, len(HEAD % 3) + 1])
async def test_a_request_in_late_pieces_is_aiohttps(cut: int) -> None:
    service = Requests()
    async with served(service) as (_, reader, writer):
        request = usual(b"abc")
        writer.write(request[:cut])
        await pass_time(0.1)
        writer.write(request[cut:] + usual(b"x"))
        assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs 3")
        assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs 1")
    assert service.whole == [False, False]


async def test_stopping_waits_for_an_answer_and_closes_the_idle() -> None:
    service = Requests()
    async with served(service) as (listener, reader, writer):
        service.hold.clear()
        writer.write(usual(b"abc"))
        await service.begun.wait()
        asyncio.get_running_loop().call_later(0.02, service.hold.set)
        await listener.stop()
        assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs 3")
        assert not await reader.read()
        assert listener.statistics().connections.open == 0


class Buffered(Requests):
    """A service that notes how much waits behind the request that it serves."""

    def __init__(self) -> None:
        super().__init__()
        self.listener: Listener | None = None
        self.most = 0

    async def __call__(self, request: web.BaseRequest) -> WholeAnswer:
        assert self.listener is not None
        self.most = max(self.most, most_buffered(self.listener))
        return await super().__call__(request)


async def test_requests_that_wait_for_others_take_a_bounded_memory() -> None:
    service, count = Buffered(), 4_000
    async with served(service) as (listener, reader, writer):
        service.listener = listener
        writer.write(usual(bytes(1_000)) * count)
        for _ in range(count):
            await answer(reader)
        writer.write(POST % b"Transfer-Encoding: chunked" + b"1\r\nx\r\n0\r\n\r\n")
        assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs 1")
    assert service.whole == [True] * count + [False]
    assert service.most < BUFFER_BYTES_MAX + (256 << 10)


async def test_a_connection_whose_reading_is_paused_is_read_on_by_aiohttp() -> None:
    service = Requests()
    async with served(service) as (_, reader, writer):
        service.hold.clear()
        chunked = POST % b"Transfer-Encoding: chunked"
        pieces = b"10000\r\n%b\r\n" % bytes(1 << 16) * 32
        writer.write(usual(b"abc") + chunked + pieces + b"0\r\n\r\n")
        await service.begun.wait()
        await pass_time(0.02)
        service.hold.set()
        assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs 3")
        assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs %d" % (32 << 16))
    assert service.whole == [True, False]


async def test_a_sender_that_reads_no_answer_is_served_no_more() -> None:
    service = Requests()
    async with served(service) as (listener, reader, writer):
        writer.write(usual(b"abc"))
        assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs 3")
        assert listener.usual is not None
        (connection,) = listener.usual.open
        connection.pause_writing()
        writer.write(usual(b"x") * 3)
        await pass_time(0.02)
        assert len(service.whole) == 1
        connection.resume_writing()
        for _ in range(3):
            assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs 1")


async def test_a_connection_without_requests_is_closed_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.receiver.http.listener.IDLE_TIMEOUT_S", 0.02)
    async with served(Requests()) as (listener, reader, _):
        async with patience(5):
            assert not await reader.read()
        assert listener.statistics().connections.open == 0


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Length:",
        b"content-length: 0",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Connection: Upgrade",
        b"Proxy-Connection: close",
        b"Upgrade: h2c",
        b"Host: again",
        b"X-Twice: 1\r\nx-twice: 2",
        b"No colon",
        b"Space : x",
        b" folded",
        b"Control: \x01",
        b"Line: a\nb",
        b"Latin: \xe9",
        b"X-Utf8: \xc3\xa9",
        b"Sec-WebSocket-Key1: x",
        b"\r\n".join(b"X-%d: y" % number for number in range(200)),
    ],
)
async def test_heads_with_a_field_that_is_not_usual(field: bytes) -> None:
    plain = b"POST /v1/logs HTTP/1.1\r\nHost: relay\r\nContent-Length: 0"
    assert parse_head(plain) is not None
    assert parse_head(plain + b"\r\n" + field) is None


@pytest.mark.parametrize(
    "line",
    [
        b"PUT /v1/logs HTTP/1.1",
        b"POST /v1/logs HTTP/1.0",
        b"POST //host/v1/logs HTTP/1.1",
        b"POST /v1/../logs HTTP/1.1",
        b"POST http://relay/v1/logs HTTP/1.1",
        b"POST /v1/logs  HTTP/1.1",
        b"POST /v1/l%6Fgs HTTP/1.1",
        b"POST /v1/logs HTTP/1.1\r\nX: GET / HTTP/1.1\r\n",
        b"",
    ],
)
async def test_request_lines_that_are_not_usual(line: bytes) -> None:
    text = line + b"\r\nHost: relay\r\nContent-Length: 0"
    assert parse_head(text) is None


async def test_a_head_without_a_host_is_not_usual() -> None:
    text = b"POST /v1/logs HTTP/1.1\r\nContent-Length: 0"
    assert parse_head(text) is None


async def test_a_bounded_number_of_heads_is_remembered() -> None:
    requests = UsualRequests(
        None,  # type: ignore[arg-type]
        Requests(),
        None,  # type: ignore[arg-type]
        is_usual=lambda method, _path: method == "POST",
        idle_s=1,
    )
    for number in range(HEADS_MAX + 1):
        text = b"POST /v1/logs HTTP/1.1\r\nHost: %d\r\nContent-Length: 0" % number
        head = requests.head_of(text)
        assert head is not None
        assert head.headers == {"Host": str(number), "Content-Length": "0"}
    assert requests.head_of(b"GET / HTTP/1.1\r\nHost: r") is None
    assert repr(requests) == "<UsualRequests 0 connections, 1 heads>"


class SlowImport:
    """The import of aiohttp's server, which lasts until it is told to end."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = threading.Event()
        self._usual = listeners._import_server

    def __call__(self) -> Any:
        self.begun += 1
        assert self.may_end.wait(60)
        return self._usual()

    async def begins(self) -> None:
        """Wait until it has begun, and what was sent has arrived."""
        await eventually("the import begins", lambda: self.begun > 0, timeout_s=5)
        await pass_time(0.05)


@pytest.fixture
def slow_import(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowImport]:
    """Let the import of aiohttp's server take its time."""
    made = SlowImport()
    monkeypatch.setattr(listeners, "_import_server", made)
    yield made
    made.may_end.set()


async def test_what_arrives_while_aiohttp_is_imported_reaches_it(slow_import: SlowImport) -> None:
    service = Requests()
    async with served(service) as (listener, reader, writer):
        again = await asyncio.open_connection("127.0.0.1", listener.address.port)
        chunked = POST % b"Transfer-Encoding: chunked"
        for one in (writer, again[1]):
            one.write(chunked + b"2\r\na")
        await slow_import.begins()
        for one in (writer, again[1]):
            one.write(b"b\r\n0\r\n\r\n" + usual(b"x"))
        await pass_time(0.05)
        slow_import.may_end.set()
        for one in (reader, again[0]):
            assert await answer(one) == (b"HTTP/1.1 200 OK", b"/v1/logs 2")
            assert await answer(one) == (b"HTTP/1.1 200 OK", b"/v1/logs 1")
        again[1].close()
    assert service.whole == [False] * 4
    assert slow_import.begun == 1


async def test_a_sender_may_leave_while_aiohttp_is_imported(slow_import: SlowImport) -> None:
    service = Requests()
    async with served(service) as (listener, _, writer):
        writer.write(POST % b"Transfer-Encoding: chunked")
        await slow_import.begins()
        writer.transport.abort()
        await pass_time(0.05)
        slow_import.may_end.set()
        await eventually(
            "it is closed", lambda: listener.statistics().connections.open == 0, timeout_s=5
        )
        await listener.stop()
    assert service.whole == []
    assert slow_import.begun == 1


async def test_a_listener_may_stop_while_aiohttp_is_imported(slow_import: SlowImport) -> None:
    service = Requests()
    async with served(service) as (listener, reader, writer):
        writer.write(POST % b"Transfer-Encoding: chunked" + b"1\r\nx\r\n0\r\n\r\n")
        await slow_import.begins()
        asyncio.get_running_loop().call_later(0.05, slow_import.may_end.set)
        await listener.stop()
        assert await answer(reader) == (b"HTTP/1.1 200 OK", b"/v1/logs 1")
        assert not await reader.read()
        assert listener.statistics().connections.open == 0
    assert slow_import.begun == 1


async def test_a_connection_closes_behind_the_answer_where_its_request_says_so() -> None:
    service = Requests()
    async with served(service) as (listener, reader, writer):
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n" + usual(b"x"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert b"Connection: close" in head.split(b"\r\n")
        assert body == b"/metrics 0"
        assert listener.statistics().connections.open == 0
    assert service.whole == [True]
