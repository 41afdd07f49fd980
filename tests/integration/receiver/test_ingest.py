"""The ingest listener on loopback: what it reads, what it refuses to read, and what it counts."""

from __future__ import annotations

import asyncio
import logging
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from email.utils import parsedate_to_datetime

import aiohttp
import pytest
import zstandard

from relay.config.settings.settings import Ingest, ListenAddress
from relay.pipeline.contract import IngestRequest, IngestResult
from relay.receiver.http import listener
from relay.receiver.remote_write import IngestServer
from relay.runtime.errors import ConfigError, OverloadedError
from tests.kit.ingest_server import (
    LOOPBACK,
    MESSAGE,
    NOW,
    PROMETHEUS,
    VMAGENT,
    Taker,
    eventually,
    running,
)
from tests.kit.remote_write.raw import snappy, zstd
from tests.own_time import patience


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def _head(length: int, *, path: str = "/api/v1/write") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: relay\r\nContent-Length: {length}\r\n\r\n".encode()


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the next answer of a bare connection."""
    async with patience(5):
        head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split()[1])


async def _until_refused(address: ListenAddress) -> None:
    """Wait until nobody listens there any more."""
    async with patience(5):
        while True:
            try:
                _, writer = await asyncio.open_connection(address.host, address.port)
            except ConnectionError:
                return
            writer.close()
            await writer.wait_closed()


async def test_hands_on_what_came_and_what_it_means() -> None:
    async with running() as relay:
        assert (await relay.send(snappy(MESSAGE), headers=PROMETHEUS)).status == 204
        headers = {**VMAGENT, "Content-Encoding": "zstd"}
        assert (await relay.send(zstd(MESSAGE), headers=headers)).status == 204
        assert relay.taker.calls == [
            IngestRequest(None, NOW, MESSAGE, snappy(MESSAGE), "snappy", "remote_write_v1"),
            IngestRequest(None, NOW, MESSAGE, zstd(MESSAGE), "zstd", "remote_write_v1"),
        ]
        figures = relay.server.statistics()
    assert figures.requests == {204: 2}
    assert figures.compressed_bytes == len(snappy(MESSAGE)) + len(zstd(MESSAGE))
    assert figures.decoded_bytes == 2 * len(MESSAGE)
    assert figures.in_flight == 0
    assert not any(figures.refused.values())


async def test_success_has_no_body_and_keeps_the_connection() -> None:
    async with running() as relay, relay.connect() as (reader, writer):
        for _ in range(3):
            writer.write(_head(len(snappy(MESSAGE))) + snappy(MESSAGE))
            async with patience(5):
                head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 204 ")
            assert b"content-type" not in head.lower()


@pytest.mark.parametrize(
    ("version", "header", "stays", "said"),
    [
        ("1.1", b"", True, b""),
        ("1.1", b"Connection: close\r\n", False, b"Connection: close\r\n"),
        ("1.0", b"", False, b""),
        ("1.0", b"Connection: keep-alive\r\n", True, b"Connection: keep-alive\r\n"),
    ],
)
async def test_success_says_what_becomes_of_the_connection(
    version: str, header: bytes, stays: bool, said: bytes
) -> None:
    body = snappy(MESSAGE)
    head = f"POST /api/v1/write HTTP/{version}\r\nHost: relay\r\nContent-Length: {len(body)}\r\n"
    async with running() as relay, patience(5):
        reader, writer = await asyncio.open_connection(
            relay.server.address.host, relay.server.address.port
        )
        for _ in range(2 if stays else 1):
            writer.write(head.encode() + header + b"\r\n" + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            status, *lines = answer.split(b"\r\n")
            assert status == f"HTTP/{version} 204 No Content".encode()
            date = parsedate_to_datetime(lines[1].removeprefix(b"Date: ").decode())
            assert abs(time.time() - date.timestamp()) < 5
            assert lines == [b"Server: relay", lines[1], *said.split(b"\r\n"), b""][: len(lines)]
        if not stays:
            assert await reader.read() == b""
        writer.close()


async def test_a_sender_that_asks_first_is_told_to_go_on() -> None:
    body = snappy(MESSAGE)
    asking = b"\r\nExpect: 100-continue\r\n\r\n"
    async with running() as relay, patience(5):
        reader, writer = await asyncio.open_connection(
            relay.server.address.host, relay.server.address.port
        )
        writer.write(_head(len(body)).replace(b"\r\n\r\n", asking))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert not relay.taker.calls
        writer.write(body)
        assert await _status(reader) == 204
        assert len(relay.taker.calls) == 1
        # One that would be refused is not asked to send its body.
        writer.write(_head(len(body), path="/nowhere").replace(b"\r\n\r\n", asking))
        assert await _status(reader) == 404
        writer.close()


async def test_other_expectations_are_ignored() -> None:
    async with running() as relay:
        answer = await relay.send(snappy(MESSAGE), headers={"Expect": "nothing-good"})
        assert answer.status == 204
        assert relay.server.statistics().requests == {204: 1}


async def test_chunked_bodies() -> None:
    body = snappy(MESSAGE)
    async with running() as relay:
        reply = await relay.send(_chunks(body[:3], body[3:]))
        assert reply.status == 204
        assert relay.taker.calls[0].body == MESSAGE


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
async def test_compressed_size_is_bounded(declared: bool) -> None:
    async with running(Ingest(body_bytes_max=1000)) as relay:
        for size, status in ((1000, 400), (1001, 413)):
            body = b"\xff" * size
            reply = await relay.send(body if declared else _chunks(body[:700], body[700:]))
            assert reply.status == status
        figures = relay.server.statistics()
    assert figures.refused["body_too_large"] == 1
    # What was refused by its declared size was not even read.
    assert figures.compressed_bytes == 1000


async def test_a_bomb_costs_no_more_than_the_limit() -> None:
    compressor = zstandard.ZstdCompressor(level=1).compressobj()  # leaves the size out
    zeros = b"\x00" * (1 << 20)
    bomb = b"".join([*(compressor.compress(zeros) for _ in range(256)), compressor.flush()])
    assert len(bomb) < 100_000
    async with running(Ingest(decoded_bytes_max=1 << 20)) as relay:
        tracemalloc.start()
        try:
            reply = await relay.send(bomb, headers={"Content-Encoding": "zstd"})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert reply.status == 400
        assert not relay.taker.calls
        assert relay.server.statistics().refused["decoded_too_large"] == 1
    assert peak < 4 << 20


async def test_a_body_that_dribbles_in_is_given_up() -> None:
    """503, not 408: Prometheus drops on 4xx, and a slow network may be faster next time."""
    settings = Ingest(read_timeout_s=0.05)
    async with running(settings) as relay, relay.connect() as (reader, writer):
        writer.write(_head(1000) + b"\x00")
        assert await _status(reader) == 503
        figures = relay.server.statistics()
    assert figures.refused["read_timeout"] == 1
    assert figures.in_flight == 0


async def test_too_many_at_once_are_told_to_come_back() -> None:
    async with running(Ingest(concurrent_requests_max=2)) as relay, AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(relay.connect()) for _ in range(2)]
        for _, writer in slow:
            writer.write(_head(len(snappy(MESSAGE))))
        await eventually(lambda: relay.server.statistics().in_flight == 2)

        reply = await relay.send(headers=PROMETHEUS)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        figures = relay.server.statistics()
        assert (figures.refused["concurrency"], figures.compressed_bytes) == (1, 0)
        # What needs no place is answered all the same.
        assert (await relay.send(path="/nowhere")).status == 404
        assert (await relay.send(b"", path="/api/v1/write?get_vm_proto_version=1")).status == 200

        for reader, writer in slow:
            writer.write(snappy(MESSAGE))
            assert await _status(reader) == 204
        assert (await relay.send()).status == 204
        assert relay.server.statistics().in_flight == 0


async def test_no_sender_takes_every_place() -> None:
    async with running(Ingest(concurrent_requests_max=16)) as relay, AsyncExitStack() as stack:
        for count in range(1, 15):  # 14 places, and 2 that stay free: 14 = 7 x 2
            _, writer = await stack.enter_async_context(relay.connect())
            writer.write(_head(100))
            await eventually(lambda count=count: relay.server.statistics().in_flight == count)
        reply = await relay.send(headers=PROMETHEUS)
        assert reply.status == 503
        assert reply.body == b"too many requests at once from this address"
        # Another address finds a place.
        other = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        protobuf = {"Content-Type": "application/x-protobuf"}
        async with (
            aiohttp.ClientSession(connector=other, headers=protobuf) as session,
            session.post(relay.url(), data=snappy(MESSAGE)) as answer,
        ):
            assert answer.status == 204


async def test_bodies_that_are_being_read_have_a_limit_together() -> None:
    async with running(bodies_bytes_max=1000) as relay, AsyncExitStack() as stack:
        _, writer = await stack.enter_async_context(relay.connect())
        writer.write(_head(2000) + bytes(900))
        await eventually(lambda: relay.server._bodies_bytes == 900)
        reply = await relay.send(bytes(101))
        assert (reply.status, reply.body) == (503, b"too many bodies at once")
        assert relay.server._bodies_bytes == 900
        assert relay.server.statistics().refused["overloaded"] == 1
        assert (await relay.send()).status == 204
    assert relay.server._bodies_bytes == 0


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent connections must not take the descriptors that sinks need: the oldest go."""
    monkeypatch.setattr(listener, "connections_max", lambda _role: 8)
    async with running(Ingest()) as relay, AsyncExitStack() as stack:
        silent = []
        for _ in range(20):
            reader, writer = await stack.enter_async_context(relay.connect())
            writer.write(b"POST /api")
            silent.append(reader)
            assert (await relay.send()).status == 204
        for reader in silent[:10]:
            assert await reader.read() == b""
        assert not silent[-1].at_eof()


async def test_a_request_that_is_read_keeps_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "connections_max", lambda _role: 8)
    async with running(Ingest()) as relay, AsyncExitStack() as stack:
        busy, writer = await stack.enter_async_context(relay.connect())
        writer.write(_head(4) + b"\x00")
        await eventually(lambda: relay.server.statistics().in_flight == 1)
        for _ in range(20):
            await stack.enter_async_context(relay.connect())
        assert (await relay.send()).status == 204
        writer.write(b"\x00\x00\x00")
        assert (await busy.readline()).startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize("protocol", [b"h2c", b"TLS/1.0", b"websocket, h2c"])
async def test_an_upgrade_that_is_not_taken_is_said_to_end_the_connection(
    protocol: bytes,
) -> None:
    """What stands right behind it is not read: its sender must not wait for an answer."""
    async with running() as relay, relay.connect() as (reader, writer):
        upgrade = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
        first = _head(1).replace(b"\r\n\r\n", b"\r\n" + upgrade + b"\r\n") + b"\x00"
        writer.write(first + _head(1) + b"\x00")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 204 ")
        assert b"connection: close" in answer.lower()
        assert answer.count(b"HTTP/1.1") == 1
        assert len(relay.taker.calls) == 1


async def test_a_sender_that_goes_away_is_counted() -> None:
    async with running() as relay, relay.connect() as (_, writer):
        writer.write(_head(1000) + b"\x00")
        await eventually(lambda: relay.server.statistics().in_flight == 1)
        writer.transport.abort()
        await eventually(lambda: relay.server.statistics().in_flight == 0)
        assert relay.server.statistics().refused["incomplete_body"] == 1
        assert not relay.taker.calls


@pytest.mark.parametrize("path", ["/api/v1/write", "/v1/logs"])
async def test_a_sender_that_goes_away_at_once_is_counted(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as relay:
        async with relay.connect() as (_, writer):
            writer.write(_head(1000, path=path) + b"\x00")
            writer.transport.abort()  # before the body is late
        await eventually(lambda: relay.server.statistics().refused["incomplete_body"] == 1)
        assert relay.server.statistics().in_flight == 0
    assert "the body is incomplete" in caplog.text


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01 not HTTP at all\r\n\r\n",
        b"POST /api/v1/write HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /api/v1/write HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    ],
    ids=["tls", "length", "header"],
)
async def test_what_is_no_http_is_counted_and_not_logged(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "relay")
    async with running() as relay, relay.connect() as (reader, writer):
        writer.write(request_bytes)
        assert await _status(reader) == 400
        figures = relay.server.statistics()
    assert figures.refused["malformed_http"] == 1
    assert figures.requests == {400: 1}
    assert not caplog.records


async def test_broken_chunks_end_with_the_read_timeout() -> None:
    """aiohttp does not tell the reader of a body that its framing broke; the clock has to."""
    head = b"POST /api/v1/write HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    settings = Ingest(read_timeout_s=0.05)
    async with running(settings) as relay, relay.connect() as (reader, writer):
        writer.write(head + b"3\r\nabc\r\n")
        await eventually(lambda: relay.server.statistics().in_flight == 1)
        writer.write(b"nonsense\r\n")
        assert await _status(reader) == 503
        assert relay.server.statistics().in_flight == 0
        assert not relay.taker.calls


async def test_a_bug_is_logged_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with running(taker=Taker(ZeroDivisionError("seven"))) as relay:
        reply = await relay.send(headers=PROMETHEUS)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        assert b"seven" not in reply.body
        assert relay.server.statistics().refused["internal"] == 1

        relay.taker.outcome = IngestResult(1)
        assert (await relay.send(headers=PROMETHEUS)).status == 204
    (record,) = caplog.records
    assert record.exc_info
    assert record.name == "relay.receiver"


async def test_refusals_are_logged_once_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    async with running(taker=Taker(OverloadedError("queue full"))) as relay:
        for _ in range(3):
            assert (await relay.send(headers=PROMETHEUS)).status == 503
            assert (await relay.send(b"corrupt", path="/insert/7/prometheus")).status == 400
    overloaded, corrupt = caplog.records
    assert overloaded.getMessage() == "refused a request: queue full"
    assert overloaded.__dict__["sender"] == "127.0.0.1"
    assert overloaded.__dict__["agent"] == PROMETHEUS["User-Agent"]
    assert (overloaded.__dict__["reason"], corrupt.__dict__["reason"]) == (
        "overloaded",
        "undecodable",
    )
    assert (corrupt.__dict__["status"], corrupt.__dict__["path"]) == (400, "/insert/7/prometheus")
    assert {record.levelname for record in caplog.records} == {"WARNING"}


async def test_stopping_lets_bodies_arrive_and_takes_no_other() -> None:
    async with running() as relay, AsyncExitStack() as stack:
        (reader, writer), (idle_reader, idle_writer) = [
            await stack.enter_async_context(relay.connect()) for _ in range(2)
        ]
        whole = _head(len(snappy(MESSAGE))) + snappy(MESSAGE)
        idle_writer.write(whole)
        assert await _status(idle_reader) == 204
        writer.write(whole[:-1])
        await eventually(lambda: relay.server.statistics().in_flight == 1)

        stopping = asyncio.create_task(relay.server.stop())
        await _until_refused(relay.server.address)
        idle_writer.write(whole)
        assert await _status(idle_reader) == 503
        writer.write(whole[-1:])
        assert await _status(reader) == 204
        await stopping
        assert await reader.read() == b""
        assert len(relay.taker.calls) == 2
        assert relay.server.statistics().refused["stopping"] == 1


async def test_stopping_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as relay, relay.connect() as (reader, writer):
        writer.write(_head(1000) + b"\x00")
        await eventually(lambda: relay.server.statistics().in_flight == 1)
        async with patience(5):
            await relay.server.stop(timeout_s=0.01)
            assert await reader.read() == b""
        assert relay.server.statistics().in_flight == 0
        assert not relay.taker.calls
    assert [record.getMessage() for record in caplog.records] == [
        "cut off 1 requests that did not arrive"
    ]


async def test_an_address_in_use_is_a_fault_of_the_settings() -> None:
    async with running() as relay:
        second = IngestServer(relay.server.address, Ingest())
        with pytest.raises(ConfigError, match=r"listen: cannot listen on 127\.0\.0\.1:\d+: "):
            await second.start(relay.taker)


async def test_stopping_needs_no_start() -> None:
    """A start that failed elsewhere stops everything, and stopping twice is no error."""
    server = IngestServer(LOOPBACK, Ingest())
    await server.stop()
    await server.stop()
    async with running() as relay:
        second = IngestServer(relay.server.address, Ingest())
        with pytest.raises(ConfigError):
            await second.start(relay.taker)
        await second.stop()
        await relay.server.stop()


async def test_repr_says_where_and_how_much() -> None:
    async with running() as relay:
        await relay.send()
        assert "1 answered" in repr(relay.server)
        assert f":{relay.server.address.port}" in repr(relay.server)
