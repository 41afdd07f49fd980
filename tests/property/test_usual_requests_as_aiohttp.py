"""A request is served alike, whether the relay recognises it as a usual one or aiohttp reads it."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config.settings.settings import ListenAddress
from relay.receiver.http.listener import Listener
from relay.receiver.http.usual_requests import WholeRequest

BODY: Final = b"12345"
LAST: Final = b"POST /last HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

LINES: Final = st.sampled_from(
    [b"POST /v1/logs HTTP/1.1"] * 8
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

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.whole += isinstance(request, WholeRequest)
        content: Any = request.content
        body = content.read_nowait() if content.is_eof() else await content.read()
        fields = sorted(
            (name.lower(), value)
            for name, value in request.headers.items()
            if name.lower() != "content-length"
        )
        seen = (request.method, request.path, request.content_length, fields, request.remote, body)
        return web.Response(text=repr(seen), headers={"Server": "relay"})


async def exchange(listener: Listener, request: bytes) -> list[bytes]:
    """Return the answers to a request and to :data:`LAST`, with their fields in order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.address.port)
    try:
        writer.write(request + LAST)
        async with asyncio.timeout(10):
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
                Listener(service, address, setting="x", serves_usual=not number)
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
