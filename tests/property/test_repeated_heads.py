"""A head that comes again on a connection is read as the first one of another connection is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.receiver.http.connection_limit import Connections, ServedConnection
from relay.receiver.http.usual_head import UsualHead
from relay.receiver.http.usual_requests import UsualRequests
from relay.receiver.http.whole_answer import WholeAnswer

LENGTHS = [b"0", b"3", b"03", b"000003", b"0000003", b"12", b"131073", b"", b"+3", b"3 ", b"x"]
"""Some have no meaning, some too many digits, one is of a body that is too large."""
NAMES = [b"Content-Length", b"content-length"]
HEADS = st.tuples(
    st.sampled_from([b"POST /a HTTP/1.1", b"POST /ab HTTP/1.1", b"GET /a HTTP/1.1"]),
    st.sampled_from([b"", b"\r\nX: 1", b"\r\nX: 12"]),
    st.sampled_from(NAMES),
    st.sampled_from(LENGTHS),
    st.sampled_from([b"", b"\r\nY: 1", b"\r\nY: 12", b"\r\nContent-Length: 3"]),
)
Read = tuple[str, str, dict[str, str], bytes]


class Wire:
    """A transport that nobody reads."""

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def write(self, _data: bytes) -> None:
        pass


def text_of(head: tuple[bytes, ...]) -> bytes:
    line, before, name, length, behind = head
    field = b"" if line.startswith(b"GET") else b"\r\n" + name + b": " + length
    body = b"y" * int(length) if length.isdigit() and field else b""
    return line + b"\r\nHost: relay" + before + field + behind + b"\r\n\r\n" + body[:20]


def requests_of(read: list[Read]) -> UsualRequests:
    def at_once(head: UsualHead, body: bytes, _remote: str) -> WholeAnswer:
        read.append((head.method, head.path, dict(head.headers), body))
        return WholeAnswer(204, {})

    async def never() -> Any:
        await asyncio.Event().wait()

    connections: Connections[ServedConnection] = Connections(1_000)
    return UsualRequests(
        never,
        None,  # type: ignore[arg-type]
        connections,
        is_usual=lambda _method, _path: True,
        idle_s=1,
        at_once=at_once,
    )


async def read_all(texts: Sequence[bytes], *, together: bool) -> list[Read | None]:
    """Return what is read of each text, of one connection or of one each; None: nothing."""
    read: list[Read] = []
    requests, found = requests_of(read), list[Read | None]()
    connection: Any = None
    for text in texts:
        if connection is None or not together or found[-1] is None:
            connection = requests()
            connection.connection_made(Wire())
        connection.data_received(text)
        found.append(read.pop() if read else None)
    for one in [*requests.open]:
        if one.task is not None:
            one.task.cancel()
        one.connection_lost(None)
    return found


@settings(deadline=None)
@given(st.lists(HEADS, min_size=2, max_size=8))
def test_a_head_that_comes_again_is_read_as_a_first_one(heads: list[tuple[bytes, ...]]) -> None:
    texts = [text_of(head) for head in heads]

    async def compare() -> None:
        together = await read_all(texts, together=True)
        assert together == await read_all(texts, together=False)

    asyncio.run(compare())
