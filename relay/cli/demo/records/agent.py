"""Simulate a collector: OTLP over HTTP with gzip, and the answer read by the official classes.

Records count as sent once the relay has acknowledged them. A request in progress at the end is
finished and counted.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from relay.cli.demo.agent import Posting, post, wait_for
from relay.cli.demo.records.platform import RecordRequest, RecordScraper
from relay.cli.demo.records.tally import NO_RECORDS, Tally
from relay.codec.signal_names import RecordSignal

_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "gzip",
    "User-Agent": "relay-demo",
}


@dataclass(frozen=True, slots=True)
class RecordAgentStatistics:
    """Acknowledged ``records`` and ``requests``.

    ``no_tenant`` were sent without a project, ``rejected`` named by partial successes. ``refused``
    were answered otherwise; ``last_refusal`` is that answer, or "". ``expected`` is the tally of
    what should arrive.
    """

    signal: RecordSignal
    requests: int = 0
    records: int = 0
    no_tenant: int = 0
    rejected: int = 0
    refused: int = 0
    last_refusal: str = ""
    expected: Tally = NO_RECORDS


class RecordAgent:
    """Send requests of one signal, one every ``interval_s``, one at a time."""

    def __init__(
        self,
        scraper: RecordScraper,
        session: aiohttp.ClientSession,
        url: str,
        *,
        interval_s: float,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._scraper = scraper
        self._session = session
        self._url = url
        self._interval_s = interval_s
        self._clock_ns = clock_ns
        self._requests = self._records = self._no_tenant = self._rejected = self._refused = 0
        self._last_refusal = ""
        self._expected = NO_RECORDS

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop``."""
        while not stop.is_set():
            await self._send(self._scraper.next_request(self._clock_ns()), stop)
            await wait_for(stop, self._interval_s)

    def statistics(self) -> RecordAgentStatistics:
        """Return a snapshot."""
        return RecordAgentStatistics(
            self._scraper.signal,
            self._requests,
            self._records,
            self._no_tenant,
            self._rejected,
            self._refused,
            self._last_refusal,
            self._expected,
        )

    async def _send(self, request: RecordRequest, stop: asyncio.Event) -> None:
        data = gzip.compress(request.body, 1)
        answer = await post(self._session, Posting(self._url, data, _HEADERS), stop)
        if answer is None:
            return
        if answer.refusal:
            self._refused += request.records
            self._last_refusal = answer.refusal
            return
        self._requests += 1
        self._records += request.records
        self._no_tenant += request.no_tenant
        self._rejected += _rejected(self._scraper.signal, answer.body)
        self._expected += request.expected

    def __repr__(self) -> str:
        return f"<RecordAgent {self._scraper.signal} sent {self._records} records>"


def _rejected(signal: RecordSignal, body: bytes) -> int:
    if signal == "logs":
        return ExportLogsServiceResponse.FromString(body).partial_success.rejected_log_records
    return ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans
