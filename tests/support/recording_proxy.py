"""A proxy between a sender and the relay that keeps every body and answer that passes."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import cramjam
import zstandard
from aiohttp import web

from tests.support import prompb

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


class RecordingProxy:
    """Forwards to ``target``; ``passed`` holds everything in order of completion."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.passed: list[Passed] = []
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    def samples_taken(self) -> int:
        """Float samples in the requests that the relay answered 2xx."""
        return sum(
            len(series.samples)
            for passed in self.passed
            if passed.status // 100 == 2
            for series in passed.message().timeseries
        )

    async def _handle(self, request: web.Request) -> web.Response:
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

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/api/v1/write"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await self._session.close()
