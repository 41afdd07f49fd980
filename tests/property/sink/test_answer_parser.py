"""Whatever bytes an endpoint sends: an answer or a failure, the same however they are split."""

from __future__ import annotations

import asyncio
import itertools
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.sink.http.answer_parser import FIELDS_MAX, FRAMING_BYTES_MAX, AnswerParser
from relay.sink.http.client import Transport
from relay.sink.http.interface import Destination, HttpRequest
from relay.sink.http.response import (
    RESPONSE_BYTES_MAX,
    HttpFailure,
    HttpResponse,
    RequestFailedError,
)
from tests.kit.http.hostile_server import HostileServer
from tests.own_time import own_time, slowness

FRAGMENTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 413 \r\n",
        b"HTTP/1.1 000 \r\n",
        b"HTTP/2 200\r\n",
        b"Content-Length: 0\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 99999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"X: " + b"y" * 300 + b"\r\n",
        b"\r\n",
        b"\n",
        b"5\r\nabcde\r\n",
        b"fffffff\r\n",
        b"0\r\n\r\n",
        b"0;a=b\r\nT: 1\r\n\r\n",
        b"abcde",
        b"\x00\xff",
        b" ",
        b":",
    ]
)
ANSWERS = st.lists(FRAGMENTS | st.binary(max_size=40), max_size=12).map(b"".join)
CUTS = st.lists(st.integers(0, 600), max_size=8)


def read(pieces: list[bytes]) -> HttpResponse | HttpFailure | None:
    """What a parser makes of some pieces, and then the end; None where they are no whole answer."""
    parser = AnswerParser()
    try:
        for piece in pieces:
            if piece and parser.feed(piece):
                break
        else:
            parser.end()
    except RequestFailedError as error:
        return error.failure
    finally:
        parser.close()
    return parser.response


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """The same bytes in pieces."""
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@given(data=ANSWERS, cuts=CUTS)
@settings(max_examples=200)
def test_an_answer_is_the_same_however_it_is_split(data: bytes, cuts: list[int]) -> None:
    whole = read([data])
    found = read(split(data, cuts))
    assert found == whole
    assert read([data[at : at + 1] for at in range(len(data))]) == whole
    if isinstance(whole, HttpResponse):
        assert whole.status == 101 or 200 <= whole.status <= 999
        assert len(whole.body) <= len(data)
        assert all(name == name.lower() for name in whole.headers)


@given(
    status=st.sampled_from([200, 400, 503]),
    fields=st.dictionaries(
        st.from_regex(r"x-[a-z0-9]{1,8}", fullmatch=True),
        st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True),
        max_size=5,
    ),
    chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=4),
    framing=st.sampled_from(["length", "chunked", "end"]),
    interim=st.integers(0, 3),
    surplus=st.binary(max_size=20),
    cuts=CUTS,
)
def test_what_was_written_is_read(
    status: int,
    fields: dict[str, str],
    chunks: list[bytes],
    framing: str,
    interim: int,
    surplus: bytes,
    cuts: list[int],
) -> None:
    body = b"".join(chunks)
    head = b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" * interim + b"HTTP/1.1 %d X\r\n" % status
    expected = dict(fields)
    for name, value in fields.items():
        head += f"{name.upper()}: {value}\r\n".encode()
    if framing == "length":
        head += b"Content-Length: %d\r\n" % len(body)
        expected["content-length"] = str(len(body))
        sent = body
    elif framing == "chunked":
        head += b"Transfer-Encoding: chunked\r\n"
        expected["transfer-encoding"] = "chunked"
        sent = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
    else:
        sent, surplus = body, b""
    assert read(split(head + b"\r\n" + sent + surplus, cuts)) == HttpResponse(
        status, expected, body
    )


@given(data=st.binary(min_size=1, max_size=40).filter(lambda data: data.strip(b"\r\n") != b""))
def test_a_connection_with_surplus_bytes_is_not_used_again(data: bytes) -> None:
    parser = AnswerParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + data)
    assert not parser.reusable
    parser.close()


def test_limits_hold() -> None:
    """Each ends an answer soon after it is passed, at a price in proportion to its bytes."""
    ok = b"HTTP/1.1 200 OK\r\n"
    chunked = ok + b"Transfer-Encoding: chunked\r\n\r\n"
    many_fields = ok + b"".join(b"X: %d\r\n" % number for number in range(FIELDS_MAX + 2))
    cases = {
        "fields": ([many_fields], "invalid_http"),
        "heads": ([b"HTTP/1.1 100 C\r\n\r\n" * 10_000], "disconnected"),
        "one field": ([ok + b"X: ", *[b"y" * 100] * 20_000], "invalid_http"),
        "extension": ([chunked + b"1;", *[b"y" * 1000] * 2000], "disconnected"),
        "tiny chunks": ([chunked, *[b"1\r\ny\r\n" * 1000] * 200], "disconnected"),
        "body": ([ok + b"\r\n", *[bytes(65536)] * 100], "response_too_large"),
    }
    for name, (pieces, kind) in cases.items():
        begun = time.process_time()
        found = read(pieces)
        assert isinstance(found, HttpFailure), name
        assert found.kind == kind, name
        assert time.process_time() - begun < 2.0 * slowness(), name
    assert FRAMING_BYTES_MAX < RESPONSE_BYTES_MAX


@given(
    answers=st.lists(ANSWERS, min_size=1, max_size=3),
    cuts=CUTS,
    ends=st.sampled_from(["close", "keep", "reset"]),
)
@settings(max_examples=25)
def test_any_bytes_over_a_connection_end_in_time(
    answers: list[bytes], cuts: list[int], ends: str
) -> None:
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            for piece in split(left.pop(0) if left else b"", cuts):
                writer.write(piece)
                await asyncio.sleep(0)
            if ends == "keep":
                continue
            if ends == "reset":
                writer.transport.abort()
            return

    async def run() -> None:
        async with HostileServer(serve) as server, Transport(allow_private=True) as client:
            for _ in range(len(answers) + 1):
                begun = own_time()
                request = HttpRequest(Destination(server.url, {}), b"abc", 0.05)
                found = await client.post(request)
                assert isinstance(found, HttpResponse | HttpFailure)
                assert own_time() - begun < 2.0
            assert client.statistics().in_flight == 0

    asyncio.run(run())
