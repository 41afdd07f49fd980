"""A request is served alike, whether the relay recognises it as a usual one or aiohttp reads it."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from aiohttp import HttpVersion11, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.config.settings.settings import ListenAddress
from relay.receiver.http.listener import Listener, UsualService
from relay.receiver.http.usual_head import parse_head
from relay.receiver.http.usual_requests import WholeRequest
from relay.receiver.http.whole_answer import WholeAnswer
from tests.own_time import patience

BODY: Final = b"12345"
LAST: Final = b"POST /last HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

LINES: Final = st.sampled_from(
    [b"POST /v1/logs HTTP/1.1"] * 8
    + [b"GET /v1/logs HTTP/1.1"] * 4
    + [
        b"POST /a:b/%2e HTTP/1.1",
        b"POST /a//b HTTP/1.1",
        b"POST /a/../b HTTP/1.1",
        b"POST /a/b/ HTTP/1.1",
        b"POST http://r/v1/logs HTTP/1.1",
        b"POST /v1/logs HTTP/1.0",
        b"POST  /v1/logs HTTP/1.1",
        b"PATCH /v1/logs HTTP/1.1",
    ]
)
LENGTHS: Final = st.sampled_from(
    [b"Content-Length: 5"] * 8
    + [
        b"content-length: 5",
        b"CONTENT-LENGTH: 5",
        b"Content-Length:5",
        b"Content-Length:  5",
        b"Content-Length: 5 ",
        b"Content-Length: 0005",
        b"Content-Length: +5",
        b"Content-Length: -5",
        b"Content-Length: 5, 5",
        b"Content-Length: 0x5",
        b"Content-Length: 5_0",
        b"Content-Length:",
        b"Content-Length: ",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 5\r\n 5",
        b"Content-Length : 5",
        b"Content-Length: 5\n",
    ]
)
NAMES: Final = (
    b"Host X X-Content-Length Content-Type Connection Proxy-Connection Expect Te Trailer Upgrade "
    b"Authorization Keep-Alive Cookie Sec-WebSocket-Key1 X_Y X/Y"
).split()
VALUES: Final = [
    b"",
    b"x",
    b" a\tb ",
    b"5",
    b"ontent-Length: 5",
    b"close",
    b"Keep-Alive",
    b"chunked",
    b"a\r\n b",
    b"a\nb",
    b"a\rb",
    b"a\0b",
    b"\xe9",
    b"\xc3\xa9",
]
FIELDS: Final = st.lists(
    st.builds(
        b"%b%b%b".__mod__,
        st.tuples(
            st.sampled_from(NAMES), st.sampled_from([b": ", b":", b" : "]), st.sampled_from(VALUES)
        ),
    ),
    max_size=3,
)
HOST: Final = st.sampled_from([[b"Host: r"]] * 8 + [[], [b"Host:"]])


class Echo:
    """Answers with all that a service is told of a request."""

    def __init__(self) -> None:
        self.whole = 0

    async def __call__(self, request: web.BaseRequest) -> WholeAnswer:
        self.whole += isinstance(request, WholeRequest)
        content: Any = request.content
        body = content.read_nowait() if content.is_eof() else await content.read()
        fields = sorted(
            (name.lower(), value)
            for name, value in request.headers.items()
            if name.lower() != "content-length"
        )
        seen = (request.method, request.path, request.content_length, fields, request.remote, body)
        return WholeAnswer.of_text(200, repr(seen), {"Server": "relay"})


def takes(_method: str, _path: str) -> bool:
    """Every head that is read as a usual one."""
    return True


async def exchange(listener: Listener, request: bytes) -> list[bytes]:
    """Return the answers to a request and to :data:`LAST`, with their fields in order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.address.port)
    try:
        writer.write(request + LAST)
        async with patience(10):
            answers = await reader.read()
    finally:
        writer.close()
    answers = re.sub(rb"\r\nDate: [^\r]*", b"", answers)
    return sorted(answers.split(b"\r\n"))


def test_requests_are_served_as_aiohttp_serves_them() -> None:
    with asyncio.Runner() as runner:
        services = Echo(), Echo()
        address = ListenAddress("127.0.0.1", 0)

        async def start() -> list[Listener]:
            made = [
                Listener(
                    service, address, setting="x", usual=None if number else UsualService(takes)
                )
                for number, service in enumerate(services)
            ]
            for one in made:
                await one.start()
            return made

        listeners = runner.run(start())

        @settings(max_examples=150, deadline=None)
        @given(LINES, HOST, FIELDS, LENGTHS, FIELDS)
        def compare(
            line: bytes, host: list[bytes], before: list[bytes], length: bytes, behind: list[bytes]
        ) -> None:
            head = b"\r\n".join([line, *host, *before, length, *behind])
            request = head + b"\r\n\r\n" + BODY
            usual, aiohttps = (runner.run(exchange(one, request)) for one in listeners)
            assert usual == aiohttps

        try:
            compare()
        finally:
            for one in listeners:
                runner.run(one.stop())
    assert services[0].whole > 0
    assert services[1].whole == 0


ANY_FIELDS: Final = st.lists(
    st.binary(max_size=12)
    | st.builds(b"%b: %b".__mod__, st.tuples(st.binary(min_size=1, max_size=4), st.just(b"x")))
    | st.builds(b"X: %b".__mod__, st.binary(max_size=8)),
    max_size=2,
)


@settings(max_examples=1_500, deadline=None)
@given(LINES, HOST, FIELDS, ANY_FIELDS, st.sampled_from([b"Content-Length: 0", b"A: b"]))
@example(b"GET / HTTP/1.1", [b"Host: r"], [], [b"Connection: CLOSE"], b"A: b")
@example(b"GET /-._:/x HTTP/1.1", [b"Host: [::1]:80"], [], [b"!#$%&'*+-.^_`|~: ~"], b"A: b")
@example(b"POST / HTTP/1.1", [b"Host: r"], [], [b"X: a b"], b"Content-Length: 0")
def test_a_head_that_is_taken_is_the_same_to_aiohttps_parser(
    line: bytes, host: list[bytes], some: list[bytes], others: list[bytes], length: bytes
) -> None:
    text = b"\r\n".join([line, *host, *some, *others, length])
    head = parse_head(text)
    if head is None:
        return
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 1 << 16, auto_decompress=False)
        messages, is_upgraded, tail = parser.feed_data(text + b"\r\n\r\n")
    finally:
        loop.close()
    ((message, _),) = messages
    assert (is_upgraded, message.upgrade, message.chunked, tail) == (False, False, False, b"")
    assert message.version == HttpVersion11
    assert (message.method, message.url.path) == (head.method, head.path)
    assert not message.url.query_string
    assert list(message.headers.items()) == list(head.headers.items())
    assert message.should_close == head.closes
