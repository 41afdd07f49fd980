"""Simulate an agent: remote write over HTTP like Prometheus (snappy) or vmagent (zstd).

Metadata is sent in separate messages. Samples count as sent once the relay has acknowledged them. A
request in progress at the end is finished and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import cramjam
import zstandard

from relay.cli.demo.platform import Scraper
from relay.codec.compression import SenderEncoding

METADATA_REQUESTS = 50
"""Requests between two metadata messages; the first message is metadata."""

REQUEST_TIMEOUT_S = 10.0
_RETRY_AFTER_S_MAX = 5.0

_HEADERS: dict[SenderEncoding, dict[str, str]] = {
    "snappy": {"X-Prometheus-Remote-Write-Version": "0.1.0"},
    "zstd": {"X-VictoriaMetrics-Remote-Write-Version": "1"},
}


@dataclass(frozen=True, slots=True)
class AgentStatistics:
    """Acknowledged ``samples`` and ``requests``, metadata's included.

    ``refused_samples`` were answered other than with 503; ``last_refusal`` is that answer, or "".
    """

    encoding: SenderEncoding
    requests: int
    samples: int
    refused_samples: int
    last_refusal: str


@dataclass(frozen=True, slots=True)
class Posting:
    """One request; ``data`` is encoded as ``headers`` say."""

    url: str
    data: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PostResult:
    """The final answer to a request: ``refusal`` is "" where it was accepted."""

    body: bytes = b""
    refusal: str = ""


async def post(
    session: aiohttp.ClientSession, posting: Posting, stop: asyncio.Event
) -> PostResult | None:
    """Send until accepted or refused for good; None if ``stop`` ends a retry wait."""
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    while True:
        try:
            async with session.post(
                posting.url, data=posting.data, headers=posting.headers, timeout=timeout
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            # It is unknown whether the relay has the data; the ledger will show it.
            return PostResult(refusal=f"no answer: {type(error).__name__} {error}".rstrip())
        if response.ok:
            return PostResult(body)
        if response.status != HTTPStatus.SERVICE_UNAVAILABLE:
            return PostResult(refusal=f"HTTP {response.status}: {body.decode(errors='replace')}")
        await wait_for(stop, _retry_after_s(response))
        if stop.is_set():
            return None


class Agent:
    """Send a scraper's requests, one every ``interval_s``, one at a time."""

    def __init__(
        self,
        scraper: Scraper,
        session: aiohttp.ClientSession,
        url: str,
        encoding: SenderEncoding,
        *,
        interval_s: float,
        clock: Callable[[], float] = time.time,
        tick: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up; ``clock`` is wall time, ``tick`` measures the interval; both in s."""
        self._scraper = scraper
        self._session = session
        self._url = url
        self._encoding: SenderEncoding = encoding
        self._interval_s = interval_s
        self._clock = clock
        self._tick = tick
        self._requests = 0
        self._samples = 0
        self._refused_samples = 0
        self._last_refusal = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop``. A late agent sends at once, but does not catch up."""
        due = self._tick()
        sent = 0
        while not stop.is_set():
            if sent % METADATA_REQUESTS == 0:
                await self._send(self._scraper.metadata(), 0, stop)
            request = self._scraper.next_request(int(self._clock() * 1000))
            await self._send(request.body, request.samples, stop)
            sent += 1
            due = max(due + self._interval_s, self._tick())
            await wait_for(stop, due - self._tick())

    def statistics(self) -> AgentStatistics:
        """Return a snapshot."""
        return AgentStatistics(
            self._encoding, self._requests, self._samples, self._refused_samples, self._last_refusal
        )

    async def _send(self, body: bytes, samples: int, stop: asyncio.Event) -> None:
        """Send one body until it is accepted, refused for good, or ``stop`` ends a retry wait."""
        headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": self._encoding,
            "User-Agent": "relay-demo",
            **_HEADERS[self._encoding],
        }
        posting = Posting(self._url, _compress(body, self._encoding), headers)
        answer = await post(self._session, posting, stop)
        if answer is None:
            return
        if answer.refusal:
            self._refused_samples += samples
            self._last_refusal = answer.refusal
            return
        self._requests += 1
        self._samples += samples

    def __repr__(self) -> str:
        return f"<Agent {self._encoding} sent {self._samples} samples>"


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event or the given time; yield to the event loop at least once."""
    with contextlib.suppress(TimeoutError):  # the timeout is the normal end
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()


def _compress(body: bytes, encoding: SenderEncoding) -> bytes:
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=1).compress(body)
    return bytes(cramjam.snappy.compress_raw(body))


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), _RETRY_AFTER_S_MAX) if text.isdigit() else 1.0
