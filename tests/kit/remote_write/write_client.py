"""A sender of remote write for tests: series that count, in bodies of the official shape."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import aiohttp

from tests.kit.remote_write.raw import HEADERS, join, snappy, text_series


def request_body(
    name: str, *, series: int, value: float, timestamp_ms: int, labels: dict[str, str] | None = None
) -> bytes:
    """A snappy WriteRequest with one sample for each of ``series`` series of one metric."""
    pairs = {"__name__": name, "instance": "h:1", "job": "api", **(labels or {})}
    return snappy(
        join(
            text_series({"n": str(number), **pairs}, (value, timestamp_ms))
            for number in range(series)
        )
    )


class WriteClient:
    """Sends to one URL, one request at a time; ``sent`` counts samples that were answered 2xx."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None
        self._timestamp_ms = int(time.time() * 1000)
        self.sent = 0

    async def send(
        self,
        name: str = "requests_total",
        *,
        series: int = 100,
        labels: dict[str, str] | None = None,
    ) -> int:
        """Send one sample for each series, each request 10 ms later; returns the status."""
        assert self._session is not None
        self._timestamp_ms += 10  # thousands of requests stay within ingest.maxFuture
        body = request_body(
            name,
            series=series,
            value=float(self.sent + 1),
            timestamp_ms=self._timestamp_ms,
            labels=labels,
        )
        async with self._session.post(self._url, data=body, headers=HEADERS) as response:
            await response.read()
            if response.status // 100 == 2:
                self.sent += series
            return response.status

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()
