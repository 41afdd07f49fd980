"""A proxy between a sender and the relay that keeps every body and answer that passes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import aiohttp
import cramjam
import zstandard
from aiohttp import web

from tests.kit.http.loopback_server import LoopbackServer
from tests.kit.remote_write import prompb

_HOP_HEADERS = {"host", "content-length", "connection", "accept-encoding", "transfer-encoding"}


@dataclass(frozen=True)
class Passed:
    """One request that passed: its headers and body as sent, and the relay's status."""

    headers: dict[str, str]
    body: bytes
    status: int

    def message(self) -> Any:
        """The WriteRequest, decoded by classes built from the reference's field table."""
        if self.body[:4] == b"\x28\xb5\x2f\xfd":
            decoded = zstandard.ZstdDecompressor().decompressobj().decompress(self.body)
        else:
            decoded = bytes(cramjam.snappy.decompress_raw(self.body))
        return prompb.WriteRequest.FromString(decoded)

    @cached_property
    def samples(self) -> int:
        """Its float samples, counted once: tests that poll ask again and again."""
        return sum(len(series.samples) for series in self.message().timeseries)


class RecordingProxy(LoopbackServer):
    """Forwards to ``target``; ``passed`` holds everything in order of completion."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = target
        self.passed: list[Passed] = []
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """Where senders write to."""
        return f"{self.origin}/api/v1/write"

    def samples_taken(self) -> int:
        """Float samples in the requests that the relay answered 2xx."""
        return sum(passed.samples for passed in self.passed if passed.status // 100 == 2)

    async def handle(self, request: web.Request) -> web.Response:
        """Pass a request on, and its answer back."""
        assert self._session is not None
        body = await request.read()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_HEADERS}
        try:
            async with self._session.post(
                self._target, data=body, headers=headers, skip_auto_headers=["User-Agent"]
            ) as response:
                text = await response.read()
                status = response.status
        except aiohttp.ClientConnectionError:
            text, status = b"nobody there", 503
        self.passed.append(Passed(dict(request.headers), body, status))
        return web.Response(status=status, body=text)

    async def open(self) -> None:
        """Listen."""
        self._session = aiohttp.ClientSession(auto_decompress=False)
        await super().open()

    async def close(self) -> None:
        """Close every connection."""
        await super().close()
        assert self._session is not None
        await self._session.close()
