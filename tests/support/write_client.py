"""A sender of remote write for tests: series that count, in bodies of the official shape."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

import aiohttp
import cramjam

from tests.support import prompb


def request_body(
    name: str, *, series: int, value: float, timestamp_ms: int, labels: dict[str, str] | None = None
) -> bytes:
    """A snappy WriteRequest with one sample for each of ``series`` series of one metric."""
    request: Any = prompb.WriteRequest()
    for number in range(series):
        entry = request.timeseries.add()
        pairs = {"__name__": name, "instance": "h:1", "job": "api", "n": str(number)}
        for key, text in sorted({**pairs, **(labels or {})}.items()):
            entry.labels.add(name=key, value=text)
        entry.samples.add(value=value, timestamp=timestamp_ms)
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


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
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
        async with self._session.post(self._url, data=body, headers=headers) as response:
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
