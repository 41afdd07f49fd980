"""Property: requests are answered alike in whatever pieces their bytes arrive."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from relay.receiver.http.connection_limit import Connections, ServedConnection
from relay.receiver.http.usual_head import UsualHead
from relay.receiver.http.usual_requests import UsualConnection, UsualRequests
from relay.receiver.http.whole_answer import WholeAnswer
from tests.kit.examples import examples
from tests.kit.http.usual_requests import usual

UNUSUAL = b"POST /v1/logs HTTP/1.1\r\nHost: relay\r\nContent-Length: 3\r\nTE: trailers\r\n\r\nabc"
TURNS = 8
"""Of the loop, in which a request is served, or a connection handed over."""

bodies = st.lists(st.binary(max_size=40) | st.builds(bytes, st.integers(0, 3_000)), max_size=6)


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.protocol: object = None

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Go on all the same: no more is lost than a bound."""

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol


class Aiohttp(asyncio.Protocol):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.got = b""

    def data_received(self, data: bytes) -> None:
        self.got += data


class Service:
    """Takes bodies at once, and those of an odd size by a task."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.is_paused = False

    def at_once(self, _head: UsualHead, body: bytes, _remote: str) -> WholeAnswer | None:
        assert not self.is_paused, "the sender reads no answers"
        return None if len(body) % 2 else self._answer(body)

    async def __call__(self, request: web.BaseRequest) -> WholeAnswer:
        body = request.content.read_nowait()
        await asyncio.sleep(0)
        return self._answer(body)

    def _answer(self, body: bytes) -> WholeAnswer:
        self.taken.append(body)
        return WholeAnswer(200, {}, body)


async def feed(pieces: list[bytes], turns: list[int]) -> tuple[list[bytes], bytes, bytes]:
    """Return the bodies that were taken, all answers, and what aiohttp got."""
    service, aiohttp, transport = Service(), Aiohttp(), Transport()

    async def server() -> Callable[[], asyncio.Protocol]:
        return lambda: aiohttp

    connections: Connections[ServedConnection] = Connections(10)
    owner = UsualRequests(
        server,
        service,
        connections,
        is_usual=lambda _method, _path: True,
        idle_s=60.0,
        at_once=service.at_once,
    )
    connection = cast("UsualConnection", owner())
    connection.connection_made(cast("asyncio.Transport", transport))
    transport.protocol = connection
    for number, piece in enumerate(pieces):
        if number % 3 == 1 and isinstance(transport.protocol, UsualConnection):
            connection.pause_writing()
            service.is_paused = True
        cast("Any", transport.protocol).data_received(piece)
        for _ in range(turns[number % len(turns)]):
            await asyncio.sleep(0)
        if service.is_paused:
            service.is_paused = False
            cast("Any", transport.protocol).resume_writing()
    for _ in range(TURNS * (len(pieces) + 1)):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    return service.taken, b"".join(transport.written), aiohttp.got


def timeless_loop() -> asyncio.AbstractEventLoop:
    """Return a loop in which nothing is late."""
    loop = asyncio.new_event_loop()
    cast("Any", loop).time = lambda: 1.0
    return loop


@examples(300)
@given(
    bodies,
    st.sampled_from([b"", UNUSUAL, UNUSUAL + usual(b"x")]),
    st.lists(st.integers(0, 20_000), max_size=12),
    st.lists(st.integers(0, 6), min_size=1, max_size=4),
    st.booleans(),
)
@example([bytes(500)], b"", [0], [0], True)
@example([bytes(501)], b"", [7], [0], True)
@example([b"ab", b"cd"], b"", [], [1], True)
def test_pieces_make_no_difference(
    sent: list[bytes], rest: bytes, cuts: list[int], turns: list[int], is_cut_at_bodies: bool
) -> None:
    whole = b""
    places: list[int] = []
    for body in sent:
        whole += usual(body)
        if is_cut_at_bodies:
            begin = len(whole) - len(body)
            places += [begin, len(whole), *(begin + cut % (len(body) + 1) for cut in cuts)]
    whole += rest
    if not is_cut_at_bodies:
        places = [cut % (len(whole) + 1) for cut in cuts]
    places = sorted({*places, 0, len(whole)})
    pieces = [whole[a:b] for a, b in itertools.pairwise(places)]
    with asyncio.Runner(loop_factory=timeless_loop) as runner:
        taken, answers, given_up = runner.run(feed(pieces, turns))
    # A head in pieces is aiohttp's, with all that follows.
    assert b"".join(map(usual, taken)) + given_up == whole
    if is_cut_at_bodies or not cuts:
        assert (taken, given_up) == (sent, rest)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == len(taken)
    ends = [answer.partition(b"\r\n\r\n")[2] for answer in answers.split(b"HTTP/1.1 200 OK\r\n")]
    assert ends[1:] == taken
