"""Read the heads of usual requests, by a grammar that is far stricter than HTTP's.

What is taken here has one meaning to every parser: the fields are tokens and printable ASCII, none
comes twice, there is one Host, and none says how a message is framed or what its connection becomes
but the Content-Length of a POST. All other heads are aiohttp's, which decides whether they are
valid; ``tests/property/test_usual_requests_as_aiohttp.py`` holds each taken head to its parser.
"""

from __future__ import annotations

import re
from typing import Any, Final

from multidict import CIMultiDict, CIMultiDictProxy

FIELDS_MAX: Final = 64
_LINE: Final = re.compile(rb"(GET|POST) (/[A-Za-z0-9_:.\-/]*) HTTP/1\.1")
_FIELD: Final = re.compile(
    rb"([A-Za-z0-9!#$%&'*+\-.^_`|~]+): ?([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)"
)
_HOST: Final = re.compile(r"[A-Za-z0-9_.\-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")
_FORBIDDEN: Final = frozenset(
    {
        "expect",
        "proxy-connection",
        "sec-websocket-key1",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class UsualHead:
    """A head without its length; ``closes``: the connection closes behind the answer.

    ``facts`` is what its service keeps of it; ``front`` and ``back`` are the bytes of a POST around
    the digits of its length, once one has come.
    """

    __slots__ = ("back", "closes", "facts", "front", "headers", "method", "path")

    def __init__(
        self, method: str, path: str, headers: CIMultiDictProxy[str], *, closes: bool
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.closes = closes
        self.facts: Any = None
        self.front = self.back = b""

    def __repr__(self) -> str:
        return f"<UsualHead {self.method} {self.path}>"


def parse_head(text: bytes) -> UsualHead | None:
    """Return a usual head, in which a POST's length is written as 0; None if it is another."""
    first, *lines = text.split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None or len(lines) > FIELDS_MAX or b"//" in line[2] or b"/." in line[2]:
        return None
    headers: CIMultiDict[str] = CIMultiDict()
    for one in lines:
        field = _FIELD.fullmatch(one)
        if field is None:
            return None
        name = field[1].decode("ascii")
        if name in headers or name.lower() in _FORBIDDEN:
            return None
        headers[name] = field[2].decode("ascii")
    method = line[1].decode("ascii")
    if headers.get("Content-Length") != ("0" if method == "POST" else None):
        return None
    if _HOST.fullmatch(headers.get("Host", "")) is None:
        return None
    connection = headers.get("Connection", "keep-alive").lower()
    if connection not in ("keep-alive", "close"):
        return None
    path = line[2].decode("ascii")
    return UsualHead(method, path, CIMultiDictProxy(headers), closes=connection == "close")
