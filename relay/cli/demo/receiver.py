"""An OTLP/HTTP endpoint that decodes with the official classes, and counts points and records.

It uses none of the relay's own decoding, so that its counts are independent.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import zstandard
from aiohttp import web
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.cli.demo.behaviour import Behaviour, Reply
from relay.cli.demo.records.tally import NO_RECORDS, Tally

BODY_BYTES_MAX = 64 * 1024 * 1024
"""Most bytes of a request, compressed or not: far more than the demo's batches."""

_STOP_AFTER_S = 1.0

_UNDECODABLE = (DecodeError, EOFError, OSError, ValueError, zlib.error, zstandard.ZstdError)
"""Errors that the libraries raise for invalid bytes."""


@dataclass(frozen=True, slots=True)
class ReceiverStatistics:
    """Points ``kept`` and ``rejected`` (by partial success), and requests by outcome.

    Of logs and traces these are records, and ``content`` is the tally of the kept ones.
    """

    kept: int
    rejected: int
    taken_requests: int
    refused_requests: int
    content: Tally = NO_RECORDS


NOTHING_RECEIVED: Final = ReceiverStatistics(0, 0, 0, 0)


class Receiver:
    """One endpoint on a free loopback port, from :meth:`start` to :meth:`stop`.

    ``credentials`` are the headers that a request must have; ``elapsed`` returns the seconds since
    the demo began. ``path`` is the pattern of its URL. The behaviour is that towards metrics; logs
    and traces are all kept.
    """

    path = "/{base:.*}v1/{signal:metrics|logs|traces}"

    def __init__(
        self, behaviour: Behaviour, credentials: Mapping[str, str], elapsed: Callable[[], float]
    ) -> None:
        self._behaviour = behaviour
        self._credentials = dict(credentials)
        self._elapsed = elapsed
        self._port = 0
        self._counts: dict[str, ReceiverStatistics] = {}
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post(self.path, self._handle)
        self._runner = web.AppRunner(
            app, access_log=None, auto_decompress=False, shutdown_timeout=_STOP_AFTER_S
        )

    async def start(self) -> None:
        """Start listening."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close every connection."""
        await self._runner.cleanup()

    @property
    def origin(self) -> str:
        """``http://127.0.0.1:port``; only after :meth:`start`."""
        assert self._port
        return f"http://127.0.0.1:{self._port}"

    def statistics(self, signal: str = "metrics") -> ReceiverStatistics:
        """Return the counts of a signal."""
        return self._counts.get(signal, NOTHING_RECEIVED)

    async def _handle(self, request: web.Request) -> web.Response:
        signal = request.match_info.get("signal", "metrics")
        if any(request.headers.get(name) != value for name, value in self._credentials.items()):
            return self._respond(signal, Reply(status=401, message="wrong credentials"))
        body = await request.read()
        encoding = request.headers.get("Content-Encoding", "")
        content = NO_RECORDS
        try:
            if signal == "metrics":
                reply = self.read(body, encoding)
            else:
                content = NO_RECORDS.with_records(_RECORDS[signal](_decompress(body, encoding)))
                reply = Reply(kept=content.records)
        except _UNDECODABLE as error:
            return self._respond(signal, Reply(status=400, message=f"cannot be decoded: {error}"))
        return self._respond(signal, reply, content)

    def read(self, body: bytes, encoding: str) -> Reply:
        """Decode a body and decide. Raises the libraries' exceptions."""
        message = ExportMetricsServiceRequest.FromString(_decompress(body, encoding))
        metrics = [
            metric
            for resource in message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return self._behaviour(metrics, self._elapsed())

    def _respond(self, signal: str, reply: Reply, content: Tally = NO_RECORDS) -> web.Response:
        """Count and answer, without a suspension point between the two."""
        counts = self.statistics(signal)
        if reply.status != 200:
            refused = counts.refused_requests + 1
            self._counts[signal] = replace(counts, refused_requests=refused)
            retry_after = reply.retry_after_s
            headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
            return web.Response(status=reply.status, text=reply.message, headers=headers)
        self._counts[signal] = replace(
            counts,
            kept=counts.kept + reply.kept,
            rejected=counts.rejected + reply.rejected,
            taken_requests=counts.taken_requests + 1,
            content=counts.content + content,
        )
        return self.success(reply)

    def success(self, reply: Reply) -> web.Response:
        """Return the answer to a request that was taken."""
        response = ExportMetricsServiceResponse()
        if reply.rejected:
            response.partial_success.rejected_data_points = reply.rejected
            response.partial_success.error_message = reply.message
        return web.Response(
            body=response.SerializeToString(), content_type="application/x-protobuf"
        )

    def __repr__(self) -> str:
        return f"<Receiver port {self._port} kept {self.statistics().kept} points>"


def _log_records(body: bytes) -> Iterator[bytes]:
    for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        for scope in resource.scope_logs:
            yield from (one.SerializeToString() for one in scope.log_records)


def _spans(body: bytes) -> Iterator[bytes]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            yield from (one.SerializeToString() for one in scope.spans)


_RECORDS: Final[dict[str, Callable[[bytes], Iterator[bytes]]]] = {
    "logs": _log_records,
    "traces": _spans,
}


def _decompress(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "zstd":
        return zstandard.decompress(body, max_output_size=BODY_BYTES_MAX)
    if encoding:
        raise ValueError(f"Content-Encoding {encoding}")
    return body
