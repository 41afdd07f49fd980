"""The answer to nearly every request: 204 and nothing to say, as one write.

aiohttp makes a response of its own for each request, headers and a writer included; beside a body
of 2,000 samples that is a noticeable part of what the request costs.
"""

from __future__ import annotations

import time
from email.utils import formatdate

from aiohttp import ClientConnectionResetError, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter

_HEAD = "HTTP/1.1 204 No Content\r\n{headers}Date: {date}\r\n\r\n"


class NoContent(web.StreamResponse):
    """204 with ``headers``, for all requests for which :func:`suits` holds; keeps nothing of them.

    Raises ClientConnectionResetError where the connection is gone, as aiohttp's own do.
    """

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(status=204, headers=headers)
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = b""
        self._second = -1

    @staticmethod
    def can_answer(request: web.BaseRequest) -> bool:
        """Whether the connection stays open without a word about it."""
        return (
            request.version == HttpVersion11
            and request.keep_alive
            and hdrs.UPGRADE not in request.headers
        )

    @property
    def keep_alive(self) -> bool:
        """Always; see :meth:`suits`."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send all of it."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("cannot answer: the sender has closed the connection")
        second = int(time.time())
        if second != self._second:
            date = formatdate(second, usegmt=True)
            self._head = _HEAD.format(headers=self._lines, date=date).encode("ascii")
            self._second = second
        transport.write(self._head)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing follows the head."""
        assert not data
