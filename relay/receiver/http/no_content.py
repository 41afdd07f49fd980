"""The answer to nearly every request: 204, or 200 with an empty body, as one write.

aiohttp makes a response of its own for each request, headers and a writer included; beside a body
of 2,000 samples that is a noticeable part of what the request costs.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import ClientConnectionResetError, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter

_HEAD = "HTTP/1.1 {status}\r\n{headers}Date: {date}\r\n\r\n"


class NoContent(web.StreamResponse):
    """An answer without content with ``headers``, for requests of which :func:`can_answer` is true.

    Keeps no reference to them. Raises ClientConnectionResetError if the connection is closed, as
    aiohttp's own responses do.
    """

    def __init__(self, headers: dict[str, str], status: HTTPStatus = HTTPStatus.NO_CONTENT) -> None:
        super().__init__(status=status, headers=headers)
        self._status_line = f"{status.value} {status.phrase}"
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = b""
        self._second = -1

    @staticmethod
    def can_answer(request: web.BaseRequest) -> bool:
        """Return True if the connection stays open without a header field that says so."""
        return (
            request.version == HttpVersion11
            and request.keep_alive
            and hdrs.UPGRADE not in request.headers
        )

    @property
    def keep_alive(self) -> bool:
        """True: :func:`can_answer` requires it."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the whole answer."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("cannot answer: the sender has closed the connection")
        second = int(time.time())
        if second != self._second:
            date = formatdate(second, usegmt=True)
            self._head = _HEAD.format(
                status=self._status_line, headers=self._lines, date=date
            ).encode("ascii")
            self._second = second
        transport.write(self._head)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: the head is the whole answer."""
        assert not data
