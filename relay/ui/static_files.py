"""Scripts, styles and images of the pages, served under names with their digest.

A browser keeps them for good: a changed file has another address. They are read and compressed
once, at the start.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

PREFIX: Final = "/ui/static/"
_FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_DIGEST_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class _Asset:
    media_type: str
    plain: bytes
    packed: bytes
    """Compressed by gzip."""


class StaticFiles:
    """The files below ``static``; blocks while it reads them."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self._assets: dict[str, _Asset] = {}
        for path in sorted(_FOLDER.rglob("*")):
            media_type = _TYPES.get(path.suffix)
            if media_type is None or not path.is_file():
                continue
            content = path.read_bytes()
            name = path.relative_to(_FOLDER).as_posix()
            digest = hashlib.sha256(content).hexdigest()[:_DIGEST_CHARS]
            address = f"{PREFIX}{digest}/{name}"
            self._addresses[name] = address
            self._assets[address] = _Asset(media_type, content, gzip.compress(content, 9, mtime=0))

    def __repr__(self) -> str:
        return f"<StaticFiles: {len(self._assets)}>"

    def address(self, name: str) -> str:
        """Return the address of a file, for templates; KeyError for none."""
        return self._addresses[name]

    def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer with a file, or 404."""
        found = self._assets.get(request.path)
        if found is None or request.method not in ("GET", "HEAD"):
            return web.Response(status=404, text="no such file\n")
        packed = "gzip" in request.headers.get("Accept-Encoding", "")
        response = web.Response(body=found.packed if packed else found.plain)
        response.headers["Content-Type"] = found.media_type
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["Vary"] = "Accept-Encoding"
        if packed:
            response.headers["Content-Encoding"] = "gzip"
        return response
