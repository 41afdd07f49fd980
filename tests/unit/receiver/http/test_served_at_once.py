"""Usual requests that need not wait: answered at once, in order, each in a turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from relay.receiver.http.connection_limit import Connections
from relay.receiver.http.listener import Listener
from relay.receiver.http.usual_head import UsualHead
from relay.receiver.http.usual_requests import BUFFER_BYTES_MAX
from relay.receiver.http.whole_answer import WholeAnswer
from tests.kit.http.usual_requests import Connected, answer, connected, most_buffered, usual


class Service:
    """Answers bodies at once, and those that begin with "w" by a task."""

    def __init__(self) -> None:
        self.at_once: list[bytes] = []
        self.by_task: list[bytes] = []
        self.order: list[bytes] = []
        self.listener: Listener | None = None
        self.most = 0
        self.fault: Exception | None = None

    def serve(self, head: UsualHead, body: bytes, remote: str) -> WholeAnswer | None:
        assert (head.path, remote) == ("/v1/logs", "127.0.0.1")
        if body.startswith(b"w"):
            return None
        self.at_once.append(body)
        assert self.listener is not None
        self.most = max(self.most, most_buffered(self.listener))
        return self._answer(body)

    async def __call__(self, request: web.BaseRequest) -> WholeAnswer:
        body = request.content.read_nowait()
        await asyncio.sleep(0)
        self.by_task.append(body)
        return self._answer(body)

    def _answer(self, body: bytes) -> WholeAnswer:
        if self.fault is not None:
            raise self.fault
        self.order.append(body)
        return WholeAnswer(200, {"Server": "relay"}, body)


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[Connected]:
    async with connected(service, service.serve) as made:
        service.listener = made[0]
        yield made


async def body_of_answer(reader: asyncio.StreamReader) -> bytes:
    return (await answer(reader))[1]


async def test_requests_that_wait_and_others_keep_their_order() -> None:
    service, bodies = Service(), [b"a", b"wait", b"b", b"", b"w", b"c"]
    async with serving(service) as (_, reader, writer):
        writer.write(b"".join(map(usual, bodies)))
        assert [await body_of_answer(reader) for _ in bodies] == bodies
    assert service.order == bodies
    assert service.at_once == [b"a", b"b", b"", b"c"]
    assert service.by_task == [b"wait", b"w"]


async def test_requests_of_one_connection_let_others_have_turns_of_the_loop() -> None:
    service, count = Service(), 2_000
    async with serving(service) as (listener, reader, writer):
        other_reader, other = await asyncio.open_connection("127.0.0.1", listener.address.port)
        writer.write(usual(b"x") * count)
        assert await body_of_answer(reader) == b"x"
        other.write(usual(b"other"))
        assert await body_of_answer(other_reader) == b"other"
        assert service.order.index(b"other") < count // 2
        for _ in range(count - 1):
            assert await body_of_answer(reader) == b"x"
        other.close()


async def test_what_waits_behind_requests_that_are_served_at_once_is_bounded() -> None:
    service, count = Service(), 4_000
    async with serving(service) as (_, reader, writer):
        writer.write(usual(bytes(1_000)) * count)
        for _ in range(count):
            await body_of_answer(reader)
    assert len(service.at_once) == count
    assert service.most < BUFFER_BYTES_MAX + (256 << 10)


@pytest.mark.parametrize("body", [b"x", b"w"], ids=["at once", "by a task"])
async def test_an_unexpected_error_is_answered_and_ends_the_connection(
    body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service()
    async with serving(service) as (listener, reader, writer):
        writer.write(usual(b"good"))
        assert await body_of_answer(reader) == b"good"
        service.fault = ValueError("a bug")
        writer.write(usual(body) + usual(b"behind it"))
        head, _, text = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\nServer: relay\r\n")
        assert {b"Retry-After: 1", b"Connection: close"} <= {*head.split(b"\r\n")}
        assert text == b"unexpected error, see the log of the relay\n"
        assert listener.statistics().connections.open == 0
    assert service.order == [b"good"]
    assert "a bug" in caplog.text


def test_a_request_that_is_served_at_once_makes_a_connection_the_last_to_close() -> None:
    connections: Connections[str] = Connections(2)
    for name in ("first", "second"):
        assert connections.opened(name, name) is None
    connections.served("first")
    assert connections.opened("third", "third") == "second"
    connections.served("second")
    assert connections.opened("fourth", "fourth") == "first"
