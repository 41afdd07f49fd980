"""Requests to HTTP clients of any make, and servers that answer by a script."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from relay.sink.http.client import Transport
from relay.sink.http.interface import Destination, HttpClient, HttpRequest
from relay.sink.http.response import HttpFailure, HttpResponse

MakeClient = Callable[..., HttpClient]
"""With the options of :class:`Transport`."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nX: 1\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def reuses(client: HttpClient) -> bool:
    """Whether a client keeps connections, which the interface leaves to it."""
    return isinstance(client, Transport)


def post(
    url: str,
    body: bytes = b"",
    *,
    timeout_s: float = 5.0,
    headers: dict[str, str] | None = None,
    **more: object,
) -> HttpRequest:
    """A request."""
    return HttpRequest(Destination(url, headers or {}, **more), body, timeout_s)  # type: ignore[arg-type]


async def fails(client: HttpClient, request: HttpRequest, *kinds: str) -> HttpFailure:
    """Send a request that must fail, in one of some ways."""
    answer = await client.post(request)
    assert isinstance(answer, HttpFailure), answer
    assert answer.kind in kinds, answer
    assert "127.0.0.1" not in answer.message
    return answer


async def succeeds(client: HttpClient, request: HttpRequest) -> HttpResponse:
    """Send a request that must be answered."""
    answer = await client.post(request)
    assert isinstance(answer, HttpResponse), answer
    return answer


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One request's head and body. Raises IncompleteReadError at the connection's end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


class Script:
    """Answers requests with ``answers`` in turn, over however many connections; then with the last.

    An empty answer closes the connection, and so do ``close_after`` answers over one (0: never).
    ``pieces`` splits each into writes.
    """

    def __init__(
        self,
        *answers: bytes,
        pieces: Callable[[bytes], Iterable[bytes]] = lambda data: [data],
        close_after: int = 0,
    ) -> None:
        self.left = list(answers)
        self.pieces = pieces
        self.close_after = close_after
        self.requests: list[tuple[bytes, bytes]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served = 0
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                self.requests.append(await read_request(reader))
                answer = self.left.pop(0) if len(self.left) > 1 else self.left[0]
                if not answer:
                    return
                for piece in self.pieces(answer):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                served += 1
                if served == self.close_after:
                    return


def one_by_one(data: bytes) -> Iterable[bytes]:
    """Each byte alone."""
    return (data[at : at + 1] for at in range(len(data)))
