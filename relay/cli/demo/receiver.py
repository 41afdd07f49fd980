"""An OTLP/HTTP endpoint that decodes with the official classes and counts points.

It uses none of the relay's own decoding, so that its counts are independent.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import zstandard
from aiohttp import web
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from relay.cli.demo.behaviour import Behaviour, Reply

BODY_BYTES_MAX = 64 * 1024 * 1024
"""Most bytes of a request, compressed or not: far more than the demo's batches."""

_STOP_AFTER_S = 1.0

_UNDECODABLE = (DecodeError, EOFError, OSError, ValueError, zlib.error, zstandard.ZstdError)
"""Errors that the libraries raise for invalid bytes."""


@dataclass(frozen=True, slots=True)
class ReceiverStatistics:
    """Points ``kept`` and ``rejected`` (by partial success), and requests by outcome."""

    kept: int
    rejected: int
    taken_requests: int
    refused_requests: int


class Receiver:
    """One endpoint on a free loopback port, from :meth:`start` to :meth:`stop`.

    ``credentials`` are the headers that a request must have; ``elapsed`` returns the seconds since
    the demo began. ``path`` is the pattern of its URL.
    """

    path = "/{base:.*}v1/metrics"

    def __init__(
        self, behaviour: Behaviour, credentials: Mapping[str, str], elapsed: Callable[[], float]
    ) -> None:
        self._behaviour = behaviour
        self._credentials = dict(credentials)
        self._elapsed = elapsed
        self._port = 0
        self._kept = 0
        self._rejected = 0
        self._taken_requests = 0
        self._refused_requests = 0
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

    def statistics(self) -> ReceiverStatistics:
        """Return a snapshot."""
        return ReceiverStatistics(
            self._kept, self._rejected, self._taken_requests, self._refused_requests
        )

    async def _handle(self, request: web.Request) -> web.Response:
        if any(request.headers.get(name) != value for name, value in self._credentials.items()):
            return self._respond(Reply(status=401, message="wrong credentials"))
        body = await request.read()
        try:
            reply = self.read(body, request.headers.get("Content-Encoding", ""))
        except _UNDECODABLE as error:
            return self._respond(Reply(status=400, message=f"cannot be decoded: {error}"))
        return self._respond(reply)

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

    def _respond(self, reply: Reply) -> web.Response:
        """Count and answer, without a suspension point between the two."""
        if reply.status != 200:
            self._refused_requests += 1
            retry_after = reply.retry_after_s
            headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
            return web.Response(status=reply.status, text=reply.message, headers=headers)
        self._taken_requests += 1
        self._kept += reply.kept
        self._rejected += reply.rejected
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
        return f"<Receiver port {self._port} kept {self._kept} points>"


def _decompress(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "zstd":
        return zstandard.decompress(body, max_output_size=BODY_BYTES_MAX)
    if encoding:
        raise ValueError(f"Content-Encoding {encoding}")
    return body
