"""One HTTP/1.1 connection to an endpoint, with at most one request under way.

Rules:

* A request is one head, made before, and one body, handed to the socket together.
* A connection is used again only after a whole answer to a whole request. Whatever else ends an
  exchange closes it, and so does anything that arrives while no request is under way: it would be
  taken for the next request's answer.
* A timer is made once a deadline, not once a request: most are answered long before theirs.
* An answer without a body that is, byte for byte, one that was read before means what that meant:
  it is not parsed again.
"""

from __future__ import annotations

import asyncio
import fcntl
import ssl
import struct
import sys
import termios
from typing import Protocol, cast

from relay.sink.http.answer_parser import DISCONNECTED, AnswerParser
from relay.sink.http.response import HttpFailure, HttpResponse, RequestFailedError

WRITE_AT_ONCE_BYTES_MAX = 1024 * 1024
"""Larger bodies go to the socket piece by piece, so that the loop can serve others between."""

PIECE_BYTES = 256 * 1024

KNOWN_ANSWERS_MAX = 256
KNOWN_ANSWER_BYTES_MAX = 1024
"""Answers that are remembered; an endpoint's differ by the second, or not at all."""

HTTP2_SETTINGS = b"\x04\x00\x00\x00\x00\x00"
"""Type, flags and stream of the frame with which a server begins (RFC 9113 3.4), behind its
length."""

_HTTP2_ANSWER = HttpFailure(
    "invalid_http",
    "the answer is HTTP/2; is this a gRPC port (4317)? OTLP/HTTP is usually 4318",
)
_INT = struct.Struct("i")


class ConnectionOwner(Protocol):
    """Learns of every connection's beginning and end."""

    def opened(self, connection: Connection) -> None:
        """Note that a connection has been made."""

    def lost(self, connection: Connection) -> None:
        """Note that a connection has ended."""


class Connection(asyncio.Protocol):
    """One connection; ``known`` are the answers that any connection has read, by their bytes."""

    __slots__ = (
        "_answer",
        "_deadline",
        "_handed_over",
        "_known",
        "_loop",
        "_owner",
        "_parser",
        "_resumed",
        "_reusable",
        "_timer",
        "_timer_at",
        "_transport",
        "_writer",
        "_writing_paused",
        "sent",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        known: dict[bytes, HttpResponse],
        owner: ConnectionOwner,
    ) -> None:
        self._loop = loop
        self._known = known
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[HttpResponse] | None = None
        """Of the request under way."""
        self._deadline = 0.0
        """Of the request that began last (the loop's clock, s)."""
        self._timer: asyncio.TimerHandle | None = None
        """Fires at the deadline of this request, or of an earlier one; outlives the answer."""
        self._timer_at = 0.0
        self._parser: AnswerParser | None = None
        self._reusable = True
        self._handed_over = True
        """True if the transport has all of the request."""
        self.sent = True
        """True if the endpoint's kernel had acknowledged all of the request when its answer ended.

        An answer acknowledges the data that arrived before it.
        """
        self._writer: asyncio.Task[None] | None = None
        self._writing_paused = False
        self._resumed: asyncio.Future[None] | None = None

    @property
    def reusable(self) -> bool:
        """True if a request may be sent now."""
        return self._reusable and self._transport is not None and not self._transport.is_closing()

    def begin(self, head: bytes, body: bytes, deadline: float) -> asyncio.Future[HttpResponse]:
        """Send a request; return a future of its answer.

        ``head`` is complete, the empty line included. Raises RequestFailedError; the future raises
        it or, at ``deadline`` (the loop's clock, s), TimeoutError. The caller calls :meth:`end` in
        every case, and closes the connection on every error and where it is not ``reusable``.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise RequestFailedError(DISCONNECTED)
        assert self._answer is None, "one request at a time"
        answer: asyncio.Future[HttpResponse] = self._loop.create_future()
        self._answer = answer
        self._deadline = deadline
        if self._timer is None or deadline < self._timer_at:
            self._arm(deadline)
        if len(body) <= WRITE_AT_ONCE_BYTES_MAX:
            transport.writelines((head, body))
            self._handed_over = True
        else:
            self._handed_over = False
            transport.write(head)
            self._writer = self._loop.create_task(self._write(transport, body))
        return answer

    def end(self) -> None:
        """Let go of the request under way, if there is one."""
        self._answer = None
        if self._parser is not None:
            self._parser.close()
            self._parser = None
        writer, self._writer = self._writer, None
        if writer is not None:
            # An answer to half a request is an answer; the rest need not be sent.
            writer.cancel()

    def close(self) -> None:
        """Close an idle connection politely."""
        self._reusable = False
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once: an endpoint that never reads would keep socket and body for ever."""
        self._reusable = False
        if self._transport is not None:
            self._transport.abort()

    def give_up(self) -> None:
        """Close at once, and end now: the attempt to connect has failed.

        Where a task is cancelled just when the connection stands, uvloop closes the transport and
        never calls :meth:`connection_lost`.
        """
        self.abort()
        self.connection_lost(None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once, when the connection stands (with TLS: after the handshake)."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Called for whatever arrives."""
        answer = self._answer
        if answer is None or answer.done():
            # Nothing was asked, or the answer is complete.
            self._reusable = False
            if answer is None:
                self.abort()
            return
        parser = self._parser
        if parser is not None:
            self._parse(parser, data, answer)
            return
        known = self._known.get(data)
        if known is not None:
            self._finish(answer, known)
        elif data[3:9] == HTTP2_SETTINGS:
            self._fail(RequestFailedError(_HTTP2_ANSWER))
        else:
            parser = self._parser = AnswerParser()
            response = self._parse(parser, data, answer)
            # Exactly one head, with nothing behind it, after which the connection is as before.
            if (
                response is not None
                and self._reusable
                and not response.body
                and len(data) <= KNOWN_ANSWER_BYTES_MAX
                and data.find(b"\r\n\r\n") == len(data) - 4
            ):
                if len(self._known) >= KNOWN_ANSWERS_MAX:
                    self._known.clear()
                self._known[bytes(data)] = response

    def eof_received(self) -> bool:
        """Called when the endpoint sends no more; the transport then closes itself."""
        self._reusable = False
        answer, parser = self._answer, self._parser
        if answer is not None and not answer.done():
            if parser is not None and parser.end():
                assert parser.response is not None
                self._finish(answer, parser.response)
            else:
                answer.set_exception(RequestFailedError(DISCONNECTED))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once, at the end."""
        self._transport = None
        self._reusable = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.resume_writing()
        if isinstance(exc, ssl.SSLError):
            # TLS 1.3: a refused client certificate shows only after the handshake.
            self._fail(RequestFailedError(HttpFailure("tls_failed", tls_reason(exc))))
        else:
            self._fail(RequestFailedError(DISCONNECTED))
        self._owner.lost(self)

    def pause_writing(self) -> None:
        """Called when the socket takes no more for now."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Called when it does again."""
        self._writing_paused = False
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.done():
            resumed.set_result(None)

    def _parse(
        self, parser: AnswerParser, data: bytes, answer: asyncio.Future[HttpResponse]
    ) -> HttpResponse | None:
        """Give the parser its next bytes; return the answer where they complete it."""
        try:
            complete = parser.feed(data)
        except RequestFailedError as error:
            self._fail(error)
            return None
        if not complete:
            return None
        self._reusable = parser.reusable
        response = parser.response
        assert response is not None
        self._finish(answer, response)
        return response

    def _finish(self, answer: asyncio.Future[HttpResponse], response: HttpResponse) -> None:
        """End the request under way with its answer; the transport still is what it was."""
        transport = self._transport
        assert transport is not None
        self.sent = self._handed_over and not (
            transport.get_write_buffer_size() or _unacknowledged(transport)
        )
        answer.set_result(response)

    async def _write(self, transport: asyncio.Transport, body: bytes) -> None:
        """Hand a large body over at the pace at which it leaves."""
        view = memoryview(body)
        for start in range(0, len(view), PIECE_BYTES):
            if transport.is_closing():
                return  # the answer's future says why
            transport.write(view[start : start + PIECE_BYTES])
            self._handed_over = start + PIECE_BYTES >= len(view)
            await asyncio.sleep(0)
            if self._writing_paused:
                self._resumed = self._loop.create_future()
                await self._resumed

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._look_deadline)

    def _look_deadline(self) -> None:
        """End the request under way if its time is over; the timer may be of an earlier one."""
        self._timer = None
        if self._answer is None or self._answer.done():
            return
        if self._deadline > self._timer_at:
            self._arm(self._deadline)
        else:
            self._fail(TimeoutError())

    def _fail(self, error: Exception) -> None:
        """Close, and end the request under way with an error."""
        self.abort()
        answer = self._answer
        if answer is not None and not answer.done():
            answer.set_exception(error)


def tls_reason(error: Exception) -> str:
    """Say in one line why TLS failed, without addresses."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS failed: {error.verify_message}"
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return f"TLS failed: {(reason or 'handshake').replace('_', ' ').lower()}"


def _unacknowledged(transport: asyncio.BaseTransport) -> int:
    """Return the bytes that the endpoint's kernel has not acknowledged; 0 if it is not known."""
    connection = transport.get_extra_info("socket")
    if connection is None or not sys.platform.startswith("linux"):
        return 0
    try:
        left = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(_INT.size))
    except (OSError, ValueError):
        return 0  # it is closed, and nothing can be told any more
    return int(_INT.unpack(left)[0])
