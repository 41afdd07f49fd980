"""What every HTTP client does with a connection: the relay's own client, and aiohttp's session."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

import pytest

from relay.sink.http.interface import HttpClient
from relay.sink.http.response import HttpFailure, HttpResponse
from tests.contract.http_clients import (
    CHUNKED,
    EMPTY,
    OK,
    MakeClient,
    Script,
    fails,
    one_by_one,
    post,
    read_request,
    reuses,
    succeeds,
)
from tests.kit.http.hostile_server import (
    Behaviour,
    HostileServer,
    answer_early,
    answer_endless_chunk_extension,
    answer_endless_headers,
    answer_garbage,
    answer_interim_only,
    answer_status_zero,
    answer_twice,
    answer_without_end,
    close_after_answer,
    drip_body,
    never_answer,
    read_nothing,
    take_unread,
)
from tests.own_time import own_time, pass_time, patience


@pytest.mark.parametrize("pieces", [lambda data: [data], one_by_one], ids=["whole", "bytes"])
@pytest.mark.parametrize(
    ("answer", "status", "body", "closes"),
    [
        (OK, 200, b"ok", False),
        (EMPTY, 200, b"", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"", False),
        (b"HTTP/1.1 429 Slow\r\nContent-Length: 1\r\n\r\n!", 429, b"!", False),
        (b"HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n", 999, b"", False),
        (CHUNKED + b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n", 200, b"abcde", False),
        (CHUNKED + b"1\r\na\r\n0\r\nX-Late: 1\r\n\r\n", 200, b"a", False),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", 200, b"to the end", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
        (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            200,
            b"ok",
            True,
        ),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nX: 1\r\n\r\n" + OK,
            200,
            b"ok",
            False,
        ),
    ],
)
async def test_framing_of_answers(
    client: HttpClient, pieces: Callable, answer: bytes, status: int, body: bytes, closes: bool
) -> None:
    script = Script(answer, pieces=pieces, close_after=1 if b"to the end" in answer else 0)
    async with HostileServer(script) as server:
        for _ in range(2):
            found = await succeeds(client, post(server.url, b"abc"))
            assert (found.status, found.body) == (status, body)
            assert "x-late" not in found.headers
            assert "x" not in found.headers
        assert [got for _, got in script.requests] == [b"abc", b"abc"]
        assert server.connections == (2 if closes or not reuses(client) else 1)


async def test_header_names_are_lower_case_and_the_last_of_several_counts(
    client: HttpClient,
) -> None:
    answer = b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nRETRY-AFTER:  7 \r\nContent-Length: 0\r\n\r\n"
    async with HostileServer(Script(answer)) as server:
        assert (await succeeds(client, post(server.url))).headers["retry-after"] == "7"


async def test_redirects_cookies_and_codings_are_left_alone(client: HttpClient) -> None:
    answer = (
        b"HTTP/1.1 308 There\r\nLocation: /x\r\nSet-Cookie: a=b\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: 3\r\n\r\nabc"
    )
    script = Script(answer)
    async with HostileServer(script) as server:
        for _ in range(2):
            found = await succeeds(client, post(server.url))
            assert (found.status, found.body) == (308, b"abc")
    assert len(script.requests) == 2
    assert all(b"cookie" not in head.lower() for head, _ in script.requests)


async def test_the_request_says_what_was_given(client: HttpClient) -> None:
    script = Script(OK)
    async with HostileServer(script) as server:
        url = f"http://127.0.0.1:{server.port}/a/../b%2Fc?q=%20"
        await succeeds(client, post(url, b"body", headers={"X-Scope-OrgID": "a b"}))
        head, body = script.requests[0]
        lines = head.decode().split("\r\n")
        assert lines[0] == "POST /a/../b%2Fc?q=%20 HTTP/1.1"
        assert f"Host: 127.0.0.1:{server.port}" in lines
        assert "X-Scope-OrgID: a b" in lines
        assert "Content-Length: 4" in lines
        assert body == b"body"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "b\r\nX-C: d"),
        ("X-A", "b\nc"),
        ("X-A\r\nX-B", "c"),
        ("X-A", "b\r\n\r\nPOST / HTTP/1.1"),
    ],
)
async def test_no_header_ends_its_line(client: HttpClient, name: str, value: str) -> None:
    script = Script(OK)
    async with HostileServer(script) as server:
        with pytest.raises(ValueError, match=r".+"):
            await client.post(post(server.url, headers={name: value}))
        await succeeds(client, post(server.url))
    assert len(script.requests) == 1
    assert b"X-C" not in script.requests[0][0]


@pytest.mark.parametrize("url", ["ftp://localhost/", "http://", "http://localhost:99999/", "x"])
async def test_urls_that_cannot_be_requested(client: HttpClient, url: str) -> None:
    await fails(client, post(url), "connect_failed")


def cut(answer: bytes, *, reset: bool = False) -> Behaviour:
    """A behaviour that answers the beginning of an answer and ends the connection."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()
        if reset:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
        CHUNKED + b"5\r\nabc",
        CHUNKED + b"3\r\nabc\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_half_an_answer_is_none(client: HttpClient, answer: bytes, reset: bool) -> None:
    async with HostileServer(cut(answer, reset=reset)) as server:
        await fails(client, post(server.url, b"abc"), "disconnected")
        await fails(client, post(server.url, b"abc"), "disconnected")
        assert server.connections == 2, "nothing is sent twice"


async def test_a_server_that_only_shuts_its_side_down(client: HttpClient) -> None:
    async def half_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write_eof()
        await reader.read()

    async with HostileServer(half_close) as server:
        await fails(client, post(server.url, b"abc"), "disconnected")


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\xffSSH-2.0-nothing\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 20_000 + b"\r\nContent-Length: 0\r\n\r\n",
        # A gRPC server's SETTINGS (RFC 9113 6.5).
        b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00",
        CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n",
        CHUNKED + b"ffffffffffffffffff\r\nabc\r\n",
    ],
)
async def test_what_is_no_http(client: HttpClient, answer: bytes) -> None:
    async with HostileServer(Script(answer)) as server:
        # A body's framing breaks after the head was read: some clients call that a broken stream.
        await fails(client, post(server.url), "invalid_http", "disconnected")


@pytest.mark.parametrize(
    ("behaviour", "kinds", "timeout_s"),
    [
        (never_answer, {"timeout"}, 0.2),
        (drip_body, {"timeout"}, 0.2),
        (read_nothing, {"timeout"}, 0.2),
        (answer_garbage, {"invalid_http"}, 5.0),
        (answer_status_zero, {"invalid_http"}, 5.0),
        (answer_without_end, {"response_too_large"}, 5.0),
        (answer_endless_headers, {"disconnected", "invalid_http", "timeout"}, 1.0),
        (answer_interim_only, {"disconnected", "timeout"}, 0.5),
        (answer_endless_chunk_extension, {"disconnected", "timeout"}, 0.5),
    ],
)
async def test_hostile_servers_end_in_time(
    client: HttpClient, behaviour: Behaviour, kinds: set[str], timeout_s: float
) -> None:
    async with HostileServer(behaviour) as server:
        begun = own_time()
        await fails(client, post(server.url, b"abc", timeout_s=timeout_s), *kinds)
        assert own_time() - begun < timeout_s + 10


async def test_a_slow_answer_is_an_answer(client: HttpClient) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in (OK[:5], OK[5:30], OK[30:]):
            await asyncio.sleep(0.05)
            writer.write(piece)
            await writer.drain()

    async with HostileServer(slow) as server:
        assert (await succeeds(client, post(server.url))).body == b"ok"


@pytest.mark.parametrize("length", [8_000_000, 20_000_000])
async def test_a_refusal_before_all_was_read_counts(client: HttpClient, length: int) -> None:
    async with HostileServer(answer_early) as server:
        for asked in (1, 2):
            assert (await succeeds(client, post(server.url, bytes(length)))).status == 413
            assert server.connections == asked, "half a request makes no place for another"


async def test_a_success_before_all_was_read_does_not(client: HttpClient) -> None:
    async with HostileServer(take_unread) as server:
        await fails(client, post(server.url, bytes(20_000_000)), "unread_request")


async def test_nor_where_the_connection_ends_with_it(client: HttpClient) -> None:
    async def take_and_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(EMPTY)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with HostileServer(take_and_reset) as server:
        for _ in range(3):
            sent = post(server.url, bytes(20_000_000))
            await fails(client, sent, "unread_request", "disconnected", "connect_failed")


async def test_a_large_body_goes_at_the_pace_of_its_reader(client: HttpClient) -> None:
    body = bytes(range(256)) * 4096 * 8
    got = bytearray()

    async def sip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while len(got) < len(body):
            got.extend(await reader.read(1 << 18))
            await asyncio.sleep(0.001)
        writer.write(OK)
        await writer.drain()

    async with HostileServer(sip) as server:
        assert (await succeeds(client, post(server.url, body, timeout_s=20.0))).body == b"ok"
    assert bytes(got) == body


@pytest.mark.parametrize(
    "surplus", [b"x", b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 4", b"\x00"]
)
@pytest.mark.parametrize("answer", [OK, EMPTY, CHUNKED + b"0\r\n\r\n"])
async def test_bytes_behind_an_answer_are_no_answer(
    client: HttpClient, answer: bytes, surplus: bytes
) -> None:
    async with HostileServer(Script(answer, answer + surplus, answer)) as server:
        for turn in range(4):
            found = await client.post(post(server.url, b"abc"))
            if turn == 1 and isinstance(found, HttpFailure) and not reuses(client):
                continue  # aiohttp takes a whole segment apart before it looks at the answer
            assert isinstance(found, HttpResponse), found
            assert found.status == 200
        assert server.connections == (2 if reuses(client) else 4)


async def test_an_answer_that_comes_unasked_is_no_answer(client: HttpClient) -> None:
    async with HostileServer(answer_twice) as server:
        for _ in range(3):
            assert (await succeeds(client, post(server.url))).status == 200
            await pass_time(0.05)  # what else was sent has arrived


async def test_a_connection_closed_while_idle_is_not_used(client: HttpClient) -> None:
    async with HostileServer(close_after_answer) as server:
        for _ in range(3):
            await succeeds(client, post(server.url))
            await pass_time(0.05)  # the end has arrived
        assert server.connections == 3


async def test_a_request_that_meets_the_end_is_sent_once(client: HttpClient) -> None:
    script = Script(OK, b"")
    async with HostileServer(script) as server:
        await succeeds(client, post(server.url, b"1"))
        await fails(client, post(server.url, b"2"), "disconnected")
        assert [body for _, body in script.requests] == [b"1", b"2"]


async def test_a_switch_of_protocols_is_an_answer_and_an_end(client: HttpClient) -> None:
    answer = b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    async with HostileServer(Script(answer, OK, close_after=1)) as server:
        assert (await succeeds(client, post(server.url))).status == 101
        assert (await succeeds(client, post(server.url))).status == 200
        assert server.connections == 2


async def test_many_at_once_get_their_own_answers(client: HttpClient) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                _, body = await read_request(reader)
                await asyncio.sleep(int(body) % 7 / 1000)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with HostileServer(echo) as server:
        for _ in range(3):
            answers = await asyncio.gather(
                *(succeeds(client, post(server.url, b"%d" % number)) for number in range(60))
            )
            assert [int(each.body) for each in answers] == list(range(60))
        assert server.connections <= (60 if reuses(client) else 180)


async def test_a_cancelled_request_ends_its_connection(client: HttpClient) -> None:
    arrived, ended = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if arrived.is_set():
            writer.write(OK)
            return
        arrived.set()
        try:
            assert await reader.read() == b""
        finally:
            ended.set()

    async with HostileServer(wait) as server:
        task = asyncio.create_task(client.post(post(server.url, b"abc", timeout_s=30.0)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with patience(5):
            await ended.wait()
        await succeeds(client, post(server.url))


@pytest.mark.parametrize(("first_s", "second_s"), [(1.0, 1.5), (30.0, 0.3)])
async def test_each_request_of_a_connection_has_its_own_time(
    client: HttpClient, first_s: float, second_s: float
) -> None:
    answered = asyncio.Event()

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if not answered.is_set():
            answered.set()
            writer.write(EMPTY)
        await never_answer(reader, writer)

    async with HostileServer(answer_once) as server:
        await succeeds(client, post(server.url, b"a", timeout_s=first_s))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await fails(client, post(server.url, b"b", timeout_s=second_s), "timeout", "disconnected")
        took_s = loop.time() - begun
    if reuses(client):
        assert second_s - 0.01 <= took_s < 20


async def test_an_idle_connection_outlives_the_time_of_its_request(client: HttpClient) -> None:
    script = Script(EMPTY)
    async with HostileServer(script) as server:
        await succeeds(client, post(server.url, b"a", timeout_s=0.2))
        await asyncio.sleep(0.3)
        await succeeds(client, post(server.url, b"b", timeout_s=5.0))
        if reuses(client):
            assert server.connections == 1


async def test_closing_ends_what_is_under_way(make_client: MakeClient) -> None:
    arrived = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await reader.read()

    client = make_client(allow_private=True)
    async with HostileServer(wait) as server:
        task = asyncio.create_task(client.post(post(server.url, timeout_s=30.0)))
        await arrived.wait()
        await client.close()
        async with patience(5):
            answer = await task
    assert isinstance(answer, HttpFailure)
    assert answer.kind == "disconnected"
