"""One HTTP/1.1 connection to an endpoint, and the pool that keeps it: aiohttp's, bounded.

aiohttp resolves, connects, keeps connections and parses answers; its client session is left out.
That builds a request, a response, a task and a dozen header maps for each POST, which took two
thirds of what a batch of 500 points costs a sink (``python -m bench.micro.sink_cost``). Rules:

* A request is one head, made before, and one body, handed to the socket together.
* A connection goes back to the pool only after a whole answer to a whole request. Whatever else
  ends an exchange closes it. One that has anything to read before it is used is closed, too: that
  would be taken for the next request's answer.
* An answer without a body that is, byte for byte, one that was read before means what that meant:
  it is not taken apart again.
* An endpoint may send :data:`FRAMING_BYTES_MAX` and :data:`HEADS_MAX` for one request that is no
  body, then its connection is cut.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import struct
import sys
import termios
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD

RESPONSE_BYTES_MAX = 4 * 1024 * 1024
"""OTLP 1.11, "OTLP/HTTP Response": clients should accept no more; above it is not retryable."""

FRAMING_BYTES_MAX = 512 * 1024
"""What an endpoint may send for one request that is no body: heads, chunk sizes and extensions, and
what is received but not taken apart yet. The parser's time grows with the square of an
extension."""

HEADS_MAX = 16
"""Heads of one answer: the final one, and interim ones before it."""

WRITE_AT_ONCE_BYTES_MAX = 1024 * 1024
"""Larger bodies go to the socket piece by piece, so that the loop can serve others between."""

PIECE_BYTES = 256 * 1024

KNOWN_ANSWERS_MAX = 256
KNOWN_ANSWER_BYTES_MAX = 1024
"""Answers that are remembered; an endpoint's differ by the second, or not at all."""

HTTP2_SETTINGS = b"\x04\x00\x00\x00\x00\x00"
"""Type, flags and stream of the frame with which a server begins (RFC 9113 3.4), behind its
length."""

_READ_BYTES = 64 * 1024
_INT = struct.Struct("i")
_NO_TIMEOUT = aiohttp.ClientTimeout()  # whoever asks has one for all of the request


class TooLargeAnswerError(Exception):
    """The endpoint's answer has a longer body than is read; ``status`` is what it said."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


class Http2AnswerError(Exception):
    """The endpoint answered a request of HTTP/1.1 with HTTP/2, as gRPC servers do."""


class UnreadRequestError(Exception):
    """The endpoint said that it took the request before it had all of it; ``status`` is what it
    said."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


class Connector(aiohttp.TCPConnector):
    """Makes connections of :class:`BoundedHandler`, and keeps them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # One factory of handlers is as good as another; mypy compares the classes' exact types.
        factory: Any = functools.partial(BoundedHandler, loop=self._loop, known={})
        self._factory = factory

    async def exchange(
        self, peer: aiohttp.ClientRequest, head: bytes, body: bytes, *, timeout_s: float
    ) -> tuple[RawResponseMessage, bytes]:
        """Send a request to where ``peer`` leads, over an idle connection or a new one; return its
        whole answer.

        ``head`` is complete, the empty line included. Raises what aiohttp raises,
        TooLargeAnswerError, UnreadRequestError, and TimeoutError where all of it takes longer than
        ``timeout_s``.
        """
        deadline = self._loop.time() + timeout_s
        key = peer.connection_key
        while True:
            connection = await self._get(key, [])  # does not wait
            if connection is None:
                # Only here the task itself has to be interrupted, which costs more than a timer.
                async with asyncio.timeout_at(deadline):
                    connection = await self.connect(peer, [], _NO_TIMEOUT)
            handler = connection.protocol
            assert isinstance(handler, BoundedHandler)
            if not handler.should_close:
                break
            connection.close()
        try:
            answer = await handler.exchange(head, body, deadline)
        except BaseException:
            handler.drop()
            connection.close()
            raise
        if handler.sent:
            connection.release()
            return answer
        handler.drop()  # answered before all of it was read
        connection.close()
        if 200 <= answer[0].code < 300:
            raise UnreadRequestError(answer[0].code)
        return answer


class BoundedHandler(ResponseHandler):
    """A connection that is cut when its endpoint sends heads instead of an answer.

    HTTP allows any number of interim answers (1xx) before the final one (RFC 9110 15.2), and
    aiohttp reads them all: an endpoint that sends nothing else would cost a processor for the whole
    timeout. ``known`` are answers that any connection has read, and what they are.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, known: dict[bytes, RawResponseMessage]
    ) -> None:
        super().__init__(loop)
        self._known = known
        self._begins = False
        """Whether the next bytes are the first of an answer."""
        self._heads = 0
        self._received_bytes = 0
        self._writer: asyncio.Task[None] | None = None

    async def exchange(
        self, head: bytes, body: bytes, deadline: float
    ) -> tuple[RawResponseMessage, bytes]:
        """Send a request and read its answer until ``deadline`` (the loop's clock, s); the
        connection has no other business meanwhile."""
        self._heads = 0
        self._received_bytes = 0
        self._payload = None
        self._parser = None  # one is made for an answer that is not known
        self._begins = True
        transport = self.transport
        if transport is None:
            raise aiohttp.ServerDisconnectedError
        timer = self._loop.call_at(deadline, self._expire)
        try:
            if len(body) <= WRITE_AT_ONCE_BYTES_MAX:
                transport.writelines((head, body))
            else:
                transport.write(head)
                self._writer = self._loop.create_task(self._write(body))
            return await self._answer()
        finally:
            timer.cancel()
            if self._writer is not None:
                # An answer to half a request is an answer; the rest need not be sent.
                self._writer.cancel()

    @property
    def sent(self) -> bool:
        """Whether the endpoint's kernel has all of the request: what it has acknowledged by now,
        and its answer acknowledges whatever arrived before it was sent."""
        writer, self._writer = self._writer, None
        if writer is not None and (not writer.done() or writer.cancelled()):
            return False
        if self.transport is None:
            return True
        return not (self.transport.get_write_buffer_size() or _unacknowledged(self.transport))

    def drop(self) -> None:
        """Close at once where something is still to be sent: an endpoint that never reads would
        keep the socket and the body for ever."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Called for whatever arrives, body or not."""
        if self._begins and data:
            self._begins = False
            self._begin_answer(data)
            return
        self._received_bytes += len(data)
        body_bytes = self._payload.total_bytes if self._payload is not None else 0
        if self._received_bytes - body_bytes <= FRAMING_BYTES_MAX:
            super().data_received(data)
        else:
            self._cut("more framing than an answer needs")

    def _begin_answer(self, data: bytes) -> None:
        """The first bytes of an answer, often all of them."""
        message = self._known.get(data)
        if message is not None:
            self.feed_data((message, EMPTY_PAYLOAD), 0)
            return
        if data[3:9] == HTTP2_SETTINGS:
            self._end(Http2AnswerError())
            return
        self.set_response_params(
            read_until_eof=True, auto_decompress=False, read_bufsize=_READ_BYTES
        )
        self.data_received(data)
        # Exactly one head, with nothing behind it, after which the connection is as before.
        if (
            len(data) <= KNOWN_ANSWER_BYTES_MAX
            and data.find(b"\r\n\r\n") == len(data) - 4
            and len(self._buffer) == 1
            and not self._should_close
            and not self._upgraded
        ):
            message, content = self._buffer[0][0]
            if message.code >= 200 and content.is_eof() and not content.total_bytes:
                if len(self._known) >= KNOWN_ANSWERS_MAX:
                    self._known.clear()
                self._known[data] = message

    def feed_data(self, *message: Any) -> None:
        """Called once for each head."""
        self._heads += 1
        if self._heads <= HEADS_MAX:
            super().feed_data(*message)
        elif self._heads == HEADS_MAX + 1:
            self._cut("only interim answers")

    async def _answer(self) -> tuple[RawResponseMessage, bytes]:
        while True:
            message, content = await self.read()
            if message.code < 100:  # no interim answer, so nothing need follow
                raise HttpProcessingError(message=f"status {message.code:03}")
            # RFC 9110 15.2: an interim answer is followed by another; we never ask to switch.
            if message.code >= 200 or message.code == 101:
                break
        chunks: list[bytes] = []
        size = 0
        while chunk := await content.readany():
            chunks.append(chunk)
            size += len(chunk)
            if size > RESPONSE_BYTES_MAX:
                raise TooLargeAnswerError(message.code)
        return message, b"".join(chunks)

    async def _write(self, body: bytes) -> None:
        """Hand a large body over at the pace at which it leaves."""
        view = memoryview(body)
        for start in range(0, len(view), PIECE_BYTES):
            transport = self.transport
            if transport is None or transport.is_closing():
                return  # whoever waits for the answer is told why
            transport.write(view[start : start + PIECE_BYTES])
            await asyncio.sleep(0)
            try:
                await self._drain_helper()
            except OSError:
                return  # likewise

    def _expire(self) -> None:
        self._end(TimeoutError())

    def _cut(self, why: str) -> None:
        self._end(aiohttp.ClientPayloadError(why))

    def _end(self, error: Exception) -> None:
        """Close, and tell whoever waits for a head or for more of a body."""
        payload = self._payload
        self.drop()
        self.close()
        self.set_exception(error)
        if payload is not None:
            payload.set_exception(error)


def _unacknowledged(transport: asyncio.BaseTransport) -> int:
    """Bytes that the endpoint's kernel has not acknowledged; 0 where the system does not tell."""
    connection = transport.get_extra_info("socket")
    if connection is None or not sys.platform.startswith("linux"):
        return 0
    try:
        left = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(_INT.size))
    except (OSError, ValueError):
        return 0  # it is closed, and nothing can be told any more
    return int(_INT.unpack(left)[0])
