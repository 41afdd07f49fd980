"""Senders that read none of their answers cost neither memory nor descriptors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from relay.config.settings.settings import ListenAddress
from relay.receiver.http import listener as listeners
from relay.receiver.http.listener import Listener, UsualService
from relay.receiver.http.whole_answer import WholeAnswer
from tests.own_time import pass_time, patience

REQUEST = b"POST / HTTP/1.1\r\nHost: relay\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
COUNT = 300
BUFFER_BYTES = 8_192


class Service:
    """Answers on connections whose buffers are small; notes how much waits in them."""

    answer = WholeAnswer(204, {"X": "x" * 8_000})

    def __init__(self) -> None:
        self.transports: list[asyncio.Transport] = []
        self.served = self.most = 0

    async def __call__(self, request: web.BaseRequest) -> WholeAnswer:
        transport = request.transport
        assert transport is not None
        if transport not in self.transports:
            self.transports.append(transport)
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self.served += 1
        self.most = max(self.most, transport.get_write_buffer_size())
        return self.answer

    async def rests(self) -> None:
        """Wait until nothing more is served."""
        before = 0
        while not self.served or self.served != before:
            before = self.served
            await pass_time(0.2)


@asynccontextmanager
async def unread(
    service: Service, *, usual: bool
) -> AsyncIterator[tuple[Listener, asyncio.StreamReader]]:
    """A listener, and a connection with more requests than its sender reads answers."""
    told = UsualService(lambda _method, _path: True) if usual else None
    listener = Listener(service, ListenAddress("127.0.0.1", 0), setting="x", usual=told)
    await listener.start()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    client.connect(("127.0.0.1", listener.address.port))
    reader, writer = await asyncio.open_connection(sock=client, limit=1)
    writer.write((REQUEST if usual else CHUNKED) * COUNT)
    await service.rests()
    try:
        yield listener, reader
    finally:
        writer.close()
        await listener.stop()


@pytest.mark.parametrize("usual", [True, False])
async def test_answers_wait_until_earlier_ones_are_read(usual: bool) -> None:
    service = Service()
    async with unread(service, usual=usual) as (_, reader):
        assert service.served < COUNT
        assert service.most < 200_000
        async with patience(10):
            await reader.readexactly(COUNT * len(service.answer.encode()))
        assert service.served == COUNT


@pytest.mark.parametrize("usual", [True, False])
async def test_a_connection_that_makes_room_is_closed_with_unread_answers(
    usual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "connections_max", lambda _role: 3)
    service = Service()
    async with unread(service, usual=usual) as (listener, _):
        (transport,) = service.transports
        assert transport.get_write_buffer_size()
        others = [
            await asyncio.open_connection("127.0.0.1", listener.address.port) for _ in range(2)
        ]
        await pass_time(0.1)
        assert listener.statistics().connections.evicted == 1
        assert not transport.get_write_buffer_size()
        assert transport.get_extra_info("socket").fileno() < 0
        for _, writer in others:
            writer.close()


async def test_an_idle_connection_is_closed_with_unread_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listeners, "IDLE_TIMEOUT_S", 1.5)
    service = Service()
    async with unread(service, usual=True) as (listener, _):
        async with patience(10):
            while listener.statistics().connections.open:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.05)
        assert service.transports[0].get_extra_info("socket").fileno() < 0
