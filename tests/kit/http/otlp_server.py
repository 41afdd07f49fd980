"""An OTLP/HTTP endpoint on 127.0.0.1 that answers as told.

It decodes and speaks without any of the relay's own code.
"""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import zstandard
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from tests.kit.http.loopback_server import LoopbackServer
from tests.kit.oracle.any_points import AnyPoint, read_points
from tests.kit.otlp.batches import values_of
from tests.kit.otlp.official import LOGS, TRACES
from tests.own_time import patience

DECODED_BYTES_MAX = 256 * 1024 * 1024


@dataclass(frozen=True)
class Received:
    """One request as it arrived; ``body`` as sent, ``message`` decoded by the official classes.

    What is read out of it is kept: tests that poll ask for all of it again and again, in the loop
    that answers the relay.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    message: ExportMetricsServiceRequest
    peer_certificate: Mapping[str, object] | None = None
    raw_path: str = ""

    @property
    def signal(self) -> str:
        """The signal that its path ends in."""
        return self.path.rpartition("/")[2]

    def numbers(self) -> list[float]:
        """The numbers of log records or spans, as :mod:`tests.kit.otlp.batches` makes them."""
        return self._numbers

    def values(self) -> list[float]:
        """The values of all number points, in the order of the message."""
        return self._values

    def any_points(self) -> list[AnyPoint]:
        """Every point of any kind, in the order of the message; it must be as OTLP allows."""
        return self._any_points

    @cached_property
    def _numbers(self) -> list[float]:
        kind = LOGS if self.signal == "logs" else TRACES
        body = decompress(self.body, self.headers.get("Content-Encoding", ""))
        return values_of(kind, body)

    @cached_property
    def _values(self) -> list[float]:
        if self.signal in ("logs", "traces"):
            return []
        return [point.as_double for point in self.points()]

    @cached_property
    def _any_points(self) -> list[AnyPoint]:
        return read_points(self.message.SerializeToString())

    def points(self) -> Iterator[Any]:
        """Every data point of every kind."""
        for resource in self.message.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    kind = metric.WhichOneof("data")
                    assert kind is not None, "a metric without data"
                    yield from getattr(metric, kind).data_points


@dataclass(frozen=True)
class Reply:
    """What to answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def partial_success(rejected: int, message: str = "") -> Reply:
    """The answer of an endpoint that did not take everything."""
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = rejected
    response.partial_success.error_message = message
    return Reply(200, response.SerializeToString(), {"Content-Type": "application/x-protobuf"})


Answer = Callable[[Received], Reply | Awaitable[Reply]]


class OtlpServer(LoopbackServer):
    """An OTLP/HTTP receiver. ``answer`` says what to reply, after each request was recorded.

    ``received`` holds every request in order, ``taken`` those that were answered 2xx.
    """

    def __init__(
        self, answer: Answer = lambda _: Reply(), *, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(tls=tls)
        self.answer = answer
        self.received: list[Received] = []
        self.taken: list[Received] = []
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where metrics go."""
        return f"{self.origin}/v1/metrics"

    @property
    def values(self) -> list[float]:
        """The values of every point that was answered 2xx, in order of arrival."""
        return [value for each in self.taken for value in each.values()]

    def any_points(self) -> list[AnyPoint]:
        """Every point of any kind that was answered 2xx, in order of arrival."""
        return [point for each in self.taken for point in each.any_points()]

    def numbers(self, signal: str) -> list[float]:
        """The numbers of every log record or span that was answered 2xx, in order of arrival."""
        taken = [each for each in self.taken if each.signal == signal]
        return [number for each in taken for number in each.numbers()]

    async def wait_until(self, done: Callable[[], bool], *, timeout_s: float = 5.0) -> None:
        """Wait until a condition holds, looked at after each answer."""
        async with patience(timeout_s), self._changed:
            await self._changed.wait_for(done)

    async def handle(self, request: web.Request) -> web.Response:
        """Record a request and answer as told."""
        body = await request.read()
        received = Received(
            request.path,
            dict(request.headers),
            body,
            decode_export(body, request),
            request.transport.get_extra_info("peercert") if request.transport else None,
            request.raw_path,
        )
        self.received.append(received)
        reply = self.answer(received)
        if not isinstance(reply, Reply):
            reply = await reply
        if 200 <= reply.status < 300:
            self.taken.append(received)
        async with self._changed:
            self._changed.notify_all()
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)


def decode_export(body: bytes, request: web.Request) -> ExportMetricsServiceRequest:
    """The message of a request of metrics, by the official classes; empty for other signals."""
    encoding = request.headers.get("Content-Encoding", "")
    if request.path.endswith(("/v1/logs", "/v1/traces")):
        return ExportMetricsServiceRequest()
    return ExportMetricsServiceRequest.FromString(decompress(body, encoding))


def decompress(body: bytes, encoding: str) -> bytes:
    """A body as it was before a sender compressed it."""
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "zstd":
        return zstandard.decompress(body, max_output_size=DECODED_BYTES_MAX)
    assert not encoding, encoding
    return body
