"""An answer that is known in whole, sent as one write.

Services return it for nearly every request. Nothing of aiohttp is needed for it, whose server may
not be in memory (:mod:`relay.receiver.http.usual_requests`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from http import HTTPStatus

SERVER_HEADER = {"Server": "relay"}
"""Instead of aiohttp's own, which tells strangers the versions of aiohttp and Python."""
TEXT_TYPE = "text/plain; charset=utf-8"
_DATE = "%a, %d %b %Y %H:%M:%S GMT"
"""HTTP-date, in English: the relay sets no locale."""
LARGE_BYTES = 64 * 1024
"""A body from this size on is not copied behind its head: that of ``/metrics`` may have 20 MB."""
_CLOSES = b"Connection: close\r\n"
_UNTYPED = "application/octet-stream"


class WholeAnswer:
    """Status, header fields and body; encoded as aiohttp encodes its own."""

    __slots__ = ("_encoded", "_fields", "_second", "body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.status = status
        self.body = body
        self.headers = dict(headers)
        if status != HTTPStatus.NO_CONTENT:
            self.headers.setdefault("Content-Type", _UNTYPED)
        self._fields = b""
        """Status line and fields, without those of a moment or a connection."""
        self._encoded = b""
        self._second = -1
        """The second for which the answer is encoded."""

    @classmethod
    def of_text(cls, status: int, text: str, headers: Mapping[str, str]) -> WholeAnswer:
        """Return an answer with a text."""
        return cls(status, {**headers, "Content-Type": TEXT_TYPE}, text.encode())

    def encode(self) -> bytes:
        """Encode the answer for a connection that stays open."""
        second = int(time.time())
        if second != self._second:
            self._encoded = self._encode(second, b"")
            self._second = second
        return self._encoded

    def encode_last(self) -> bytes:
        """Encode the answer for a connection that closes behind it."""
        return self._encode(int(time.time()), _CLOSES)

    def write(self, transport: asyncio.WriteTransport, *, closes: bool) -> None:
        """Write the answer for a connection that stays open, or ``closes`` behind it."""
        if len(self.body) < LARGE_BYTES:
            transport.write(self.encode_last() if closes else self.encode())
            return
        transport.write(self._head(int(time.time()), _CLOSES if closes else b""))
        transport.write(self.body)

    def _encode(self, second: int, connection: bytes) -> bytes:
        return self._head(second, connection) + self.body

    def _head(self, second: int, connection: bytes) -> bytes:
        if not self._fields:
            status = HTTPStatus(self.status)
            lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
            lines += [f"{name}: {value}" for name, value in self.headers.items()]
            if status != HTTPStatus.NO_CONTENT:
                lines.append(f"Content-Length: {len(self.body)}")
            self._fields = "\r\n".join([*lines, ""]).encode()
        date = b"Date: %b\r\n" % time.strftime(_DATE, time.gmtime(second)).encode("ascii")
        return b"%b%b%b\r\n" % (self._fields, date, connection)

    def __repr__(self) -> str:
        return f"<WholeAnswer {self.status}, {len(self.body)} bytes>"
