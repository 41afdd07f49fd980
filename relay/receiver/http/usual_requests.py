"""Serve usual requests without aiohttp, and give all others to it.

* Usual is a GET, or a whole, small POST with a Content-Length, whose head
  :mod:`relay.receiver.http.usual_head` takes, where the listener's service says so. Nearly all
  requests of agents, scrapers and probes are; aiohttp spends more on one than the relay does.
* At the first other request, or malformed one, and at a body that does not arrive at once, the
  connection becomes aiohttp's for good, which gets every byte from that request's first on. So
  slow, large and strange requests have the limits, times and answers that they have there.
* aiohttp is imported for the first such connection, in a thread.
* Senders repeat their heads: all but the length is recognised by its bytes, and parsed once. The
  one that came before on a connection is compared in place.
* A request that has to wait for nothing is answered at once, without a task. Others get one, and so
  does the next request of a connection with several in its buffer: each has a turn of the loop.

docs/adr/0027 has the reasons, and says when this is to be dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, cast

from multidict import MultiDict, MultiDictProxy

from relay.receiver.http.connection_limit import Connections, ServedConnection, cut
from relay.receiver.http.usual_head import UsualHead, parse_head
from relay.receiver.http.whole_answer import SERVER_HEADER, WholeAnswer

if TYPE_CHECKING:
    from aiohttp import web

    from relay.receiver.http.aiohttp_server import Service

BODY_BYTES_MAX: Final = 256 * 1024
"""Largest usual body, bytes: twice that of 2,000 samples with a platform's labels in an order that
repeats nothing. Of a larger one aiohttp's part of the cost is small."""
HEAD_BYTES_MAX: Final = 4096
HEADS_MAX: Final = 1_000
"""Heads that are recognised; at the limit all are forgotten."""
ARRIVAL_S: Final = 0.05
"""Time for the rest of a body, s: agents write head and body at once."""

LENGTH_DIGITS_MAX: Final = 6
"""Digits of a usual body's length."""

_END: Final = b"\r\n\r\n"
_ZERO: Final = 0x30
_NINE: Final = 0x39
BUFFER_BYTES_MAX: Final = HEAD_BYTES_MAX + len(_END) + BODY_BYTES_MAX
"""Reading pauses beyond it: so many bytes have a whole request, or one that is not usual."""
_LENGTHS: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
_NO_QUERY: Final = MultiDictProxy(MultiDict[str]())
_FAILED: Final = WholeAnswer.of_text(
    503, "unexpected error, see the log of the relay\n", {**SERVER_HEADER, "Retry-After": "1"}
)
"""503, as senders give up data for most others."""
_log = logging.getLogger("relay.receiver")

AtOnce = Callable[[UsualHead, bytes, str], WholeAnswer | None]
"""Serves a head and a body of an address without waiting; None: nothing was done, it has to."""


class WholeRequest:
    """A usual request, what its service reads of aiohttp's; its own content, which has arrived."""

    __slots__ = (
        "_body",
        "closes",
        "content_length",
        "headers",
        "method",
        "path",
        "remote",
        "transport",
    )

    query_string: Final = ""
    query: Final = _NO_QUERY

    def __init__(
        self, head: UsualHead, body: bytes, remote: str, transport: asyncio.Transport
    ) -> None:
        self.method = head.method
        self.path = head.path
        self.headers = head.headers
        self.closes = head.closes
        self.content_length = len(body)
        self.remote = remote
        self.transport = transport
        self._body = body

    @property
    def content(self) -> WholeRequest:
        """Its body's reader."""
        return self

    def is_eof(self) -> bool:
        """Return True: nothing more will come."""
        return True

    def read_nowait(self) -> bytes:
        """Return the body, once."""
        body, self._body = self._body, b""
        return body

    def __repr__(self) -> str:
        return f"<WholeRequest {self.path} of {self.content_length} bytes>"


class UsualRequests:
    """The connections of a listener that have had usual requests only; makes a new one when called.

    ``server`` returns what makes aiohttp's; ``is_usual`` is asked for method and path; ``idle_s``
    is how long a connection may be without a request. ``at_once`` is asked before ``service``;
    ``at_cut`` gets head and address of a request whose connection ended before its body was there.
    """

    def __init__(
        self,
        server: Callable[[], Awaitable[Callable[[], asyncio.Protocol]]],
        service: Service,
        connections: Connections[ServedConnection],
        *,
        is_usual: Callable[[str, str], bool],
        idle_s: float,
        at_once: AtOnce | None = None,
        at_cut: Callable[[UsualHead, str], None] | None = None,
    ) -> None:
        self.server = server
        self.service = service
        self.at_once, self.at_cut = at_once, at_cut
        self.connections = connections
        self.idle_s = idle_s
        self.loop = asyncio.get_running_loop()
        self.open: set[UsualConnection] = set()
        self._is_usual = is_usual
        self._heads: dict[bytes, UsualHead] = {}

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return cast("asyncio.Protocol", UsualConnection(self))

    def head_of(self, text: bytes) -> UsualHead | None:
        """Return a head, a POST's with its length as 0; None if it is not usual."""
        head = self._heads.get(text)
        if head is None:
            head = parse_head(text)
            if head is not None and not self._is_usual(head.method, head.path):
                return None
            if head is not None:
                if len(self._heads) >= HEADS_MAX:
                    self._heads.clear()
                self._heads[text] = head
        return head

    async def give_up_partial(self) -> None:
        """Give connections in the middle of a request to aiohttp."""
        tasks = [connection.give_up_partial() for connection in self.open]
        given = [task for task in tasks if task is not None]
        if given:
            await asyncio.wait(given)

    async def stop(self, timeout_s: float) -> None:
        """Close idle connections, and the others after their answer or ``timeout_s``."""
        tasks = [connection.task for connection in self.open if connection.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        for connection in list(self.open):
            connection.force_close()

    def __repr__(self) -> str:
        return f"<UsualRequests {len(self.open)} connections, {len(self._heads)} heads>"


class UsualConnection:
    """One connection, while its requests are usual; one request at a time.

    It has what :class:`asyncio.Protocol` has, which a compiled class cannot extend.
    """

    __slots__ = (
        "_arrival_timer",
        "_before",
        "_body_at",
        "_buffer",
        "_head",
        "_idle_since",
        "_idle_timer",
        "_is_next_due",
        "_is_writable",
        "_owner",
        "_partial_since",
        "_remote",
        "_size",
        "_transport",
        "task",
    )

    def __init__(self, owner: UsualRequests) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._remote = ""
        self._buffer = b""
        self._head: UsualHead | None = None
        self._before: UsualHead | None = None
        """Of the POST that came before."""
        self._body_at = self._size = 0
        self._partial_since = 0.0
        """The loop's clock when a part of a body had arrived, s; 0: none is missing."""
        self._arrival_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._is_writable = True
        self._is_next_due = False
        """True if the loop will serve the next request of the buffer in its next turn."""
        self.task: asyncio.Task[None] | None = None
        """Of the request that is being served, or of giving the connection up."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or another one out for it."""
        owner = self._owner
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        name = transport.get_extra_info("peername")
        self._remote = name[0] if isinstance(name, tuple) else ""
        owner.open.add(self)
        self._idle_since = owner.loop.time()
        self._idle_timer = owner.loop.call_later(owner.idle_s, self._look_idle)
        victim = owner.connections.opened(self, self._remote)
        if victim is self:
            self._transport.abort()
        elif victim is not None:
            cut(victim)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; a request that is being served is finished all the same."""
        head = self._head
        self._owner.connections.closed(self)
        self._end()
        if head is not None and self._owner.at_cut is not None:
            self._owner.at_cut(head, self._remote)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        buffer, at = self._buffer, self._body_at
        size = len(buffer) + len(data)
        if self._partial_since and self._is_writable and size == at + self._size:
            # Most senders write a body behind its head: joined to that, it would be copied twice.
            self._buffer = b""
            self._take(data if len(buffer) == at else buffer[at:] + data)
            return
        self._buffer = buffer + data if buffer else data
        if self.task is None and self._is_writable and not self._is_next_due:
            self._next()
        if len(self._buffer) > BUFFER_BYTES_MAX and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """Do nothing: the transport closes itself."""

    def pause_writing(self) -> None:
        """Serve nothing more until the sender reads its answers."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Continue after a pause of the transport."""
        self._is_writable = True
        self._continue()

    # For its owner.

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport of its answers; None once it is closed, or given up."""
        return self._transport

    def force_close(self) -> None:
        """End the request that is being served, and close once all that was written is read."""
        if self.task is not None:
            self.task.cancel()
        if self._transport is not None:
            self._transport.close()

    def give_up_partial(self) -> asyncio.Task[None] | None:
        """Give the connection to aiohttp if a part of a request has arrived."""
        if self._buffer and self.task is None:
            self._give_up()
            return self.task
        return None

    def _next(self) -> None:
        """Serve the next request if it is there."""
        buffer = self._buffer
        if self._head is None:
            self._head = self._repeated_head(buffer)
        if self._head is None:
            head_end = buffer.find(_END)
            if not 0 <= head_end <= HEAD_BYTES_MAX:
                self._give_up()
                return
            head = self._read_head(head_end)
            if head is None or self._size > BODY_BYTES_MAX:
                self._give_up()
                return
            self._head = head
            self._body_at = head_end + len(_END)
        body_end = self._body_at + self._size
        if len(buffer) < body_end:
            if not self._partial_since:
                self._partial_since = self._owner.loop.time()
                if self._arrival_timer is None:  # else it is that of an earlier request
                    self._await_arrival(ARRIVAL_S)
            return
        self._buffer = buffer[body_end:]
        self._take(buffer[self._body_at : body_end])

    def _take(self, body: bytes) -> None:
        """Serve the request of the head that was read last; its bytes have left the buffer."""
        self._partial_since = 0.0
        head, self._head = cast("UsualHead", self._head), None
        if not self._serve_at_once(head, body):
            assert self._transport is not None
            request = WholeRequest(head, body, self._remote, self._transport)
            self._owner.connections.begin(self)
            self.task = self._owner.loop.create_task(self._serve(request))

    def _serve_at_once(self, head: UsualHead, body: bytes) -> bool:
        """Serve and answer a request that need not wait; return False if it has to."""
        owner, transport = self._owner, self._transport
        if owner.at_once is None or transport is None:
            return False
        try:
            answer = owner.at_once(head, body, self._remote)
            if answer is None:
                return False
            _send(answer, transport, closes=head.closes)
        except Exception:
            _fail(transport)
        owner.connections.served(self)
        self._idle_since = owner.loop.time()
        if self._buffer and not self._is_next_due:
            self._is_next_due = True
            owner.loop.call_soon(self._continue)
        return True

    def _repeated_head(self, buffer: bytes) -> UsualHead | None:
        """Return the head of the POST before where it comes again, and note where its body is."""
        head = self._before
        if head is None or not buffer.startswith(head.front):
            return None
        begin = at = len(head.front)
        most = min(begin + LENGTH_DIGITS_MAX, len(buffer))
        size = 0
        while at < most and _ZERO <= (digit := buffer[at]) <= _NINE:
            size = size * 10 + digit - _ZERO
            at += 1
        body_at = at + len(head.back)
        if at == begin or size > BODY_BYTES_MAX or body_at - len(_END) > HEAD_BYTES_MAX:
            return None
        if not buffer.startswith(head.back, at):
            return None
        self._size, self._body_at = size, body_at
        return head

    def _read_head(self, head_end: int) -> UsualHead | None:
        """Return the head in front of ``head_end`` and note its length; None if it is not usual."""
        buffer = self._buffer
        if buffer.startswith(b"GET "):
            self._size = 0
            return self._owner.head_of(buffer[:head_end])
        at = buffer.find(_LENGTHS[0], 0, head_end)
        if at < 0:
            at = buffer.find(_LENGTHS[1], 0, head_end)
        begin = at + len(_LENGTHS[0])
        end = buffer.find(b"\r", begin)
        digits = buffer[begin:end]
        if at < 0 or not digits.isdigit() or len(digits) > LENGTH_DIGITS_MAX:
            return None
        self._size = int(digits)
        head = self._owner.head_of(buffer[:begin] + b"0" + buffer[end:head_end])
        if head is not None and not head.front:
            head.front, head.back = buffer[:begin], buffer[end : head_end + len(_END)]
        self._before = head
        return head

    async def _serve(self, request: WholeRequest) -> None:
        """Serve and answer a request."""
        owner = self._owner
        try:
            # It has all that a service asks of its usual requests.
            answer = await owner.service(cast("web.BaseRequest", request))
            assert isinstance(answer, WholeAnswer), "others are for requests that are not usual"
            _send(answer, request.transport, closes=request.closes)
        except Exception:
            _fail(request.transport)
        finally:
            self.task = None
            owner.connections.end(self)
        self._idle_since = owner.loop.time()
        self._continue()

    def _continue(self) -> None:
        """Go on with what has arrived meanwhile."""
        self._is_next_due = False
        transport = self._transport
        if transport is None or transport.is_closing() or self.task is not None:
            return
        if self._buffer and self._is_writable:
            self._next()
        if len(self._buffer) <= BUFFER_BYTES_MAX and self._transport is not None:
            resume_reading(transport)

    def _give_up(self) -> None:
        """Give the connection to aiohttp, from the first byte of the present request on."""
        self._partial_since = 0.0
        self.task = self._owner.loop.create_task(self._hand_over())

    async def _hand_over(self) -> None:
        """Wait for aiohttp's server, then give it the connection."""
        owner = self._owner
        try:
            server = await owner.server()
        except Exception:
            _log.exception("a connection was not served because of an unexpected error")
            self.force_close()
            return
        self.task = None
        transport, buffer = self._transport, self._buffer
        if transport is None or transport.is_closing():
            return
        self._end()
        owner.connections.closed(self)
        handler = server()
        resume_reading(transport)
        transport.set_protocol(handler)
        handler.connection_made(transport)
        if not self._is_writable:
            handler.pause_writing()
        handler.data_received(buffer)

    def _await_arrival(self, left_s: float) -> None:
        self._arrival_timer = self._owner.loop.call_later(left_s, self._look_arrival)

    def _look_arrival(self) -> None:
        """Give the connection up where a body is late."""
        self._arrival_timer = None
        if not self._partial_since:
            return
        left_s = self._partial_since + ARRIVAL_S - self._owner.loop.time()
        if left_s > 0:
            self._await_arrival(left_s)
        else:
            self._give_up()

    def _look_idle(self) -> None:
        """Close the connection where it was idle for long."""
        owner = self._owner
        left_s = self._idle_since + owner.idle_s - owner.loop.time()
        if self.task is None and left_s <= 0:
            cut(self)
        else:
            self._idle_timer = owner.loop.call_later(max(left_s, 1.0), self._look_idle)

    def _end(self) -> None:
        """Let go of everything."""
        self._owner.open.discard(self)
        self._transport = None
        self._buffer = b""
        for timer in (self._arrival_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        self._arrival_timer = self._idle_timer = None

    def __repr__(self) -> str:
        return f"<UsualConnection of {self._remote}, {len(self._buffer)} bytes>"


def _send(answer: WholeAnswer, transport: asyncio.Transport, *, closes: bool) -> None:
    if transport.is_closing():
        return  # nobody reads the answer
    answer.write(transport, closes=closes)
    if closes:
        transport.close()


def _fail(transport: asyncio.Transport) -> None:
    """Log the present exception, and answer that the request may be sent again."""
    _log.exception("a request failed because of an unexpected error")
    _send(_FAILED, transport, closes=True)


def resume_reading(transport: asyncio.Transport) -> None:
    """Read on, if reading was paused."""
    if not transport.is_reading():
        transport.resume_reading()
