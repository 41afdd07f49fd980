"""Every registered sink kind as tests use it, and one that is registered in tests alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from relay.codec.body import Body
from relay.codec.otlp.batch import SealedBatch
from relay.config.exporter.types import (
    Compression,
    Endpoint,
    OtlpHttp,
    PrometheusRemoteWrite,
)
from relay.runtime.errors import DecodeError
from relay.sink.http.response import HttpResponse
from relay.sink.http_endpoint import HttpEndpoint
from relay.sink.interface import ClientDependencies, SinkKind
from relay.sink.otlp.records import OTLP_LOGS, OTLP_TRACES
from relay.sink.otlp_http import OTLP_HTTP
from relay.sink.queue.encoding import (
    cut_plain,
    encode_and_cut,
)
from relay.sink.queue.payload import EncodedRequest
from relay.sink.remote_write.kinds import REMOTE_WRITE_1, REMOTE_WRITE_2
from relay.sink.retry import verdict
from tests.kit.batches import raw_sealed_batch, sealed_batch
from tests.kit.http.remote_write_server import points_of, points_of_v2
from tests.kit.otlp.batches import record_batch, values_of
from tests.kit.otlp.official import LOGS, TRACES


def values_of_otlp(body: bytes) -> list[float]:
    """Decode a body with the official classes."""
    message = ExportMetricsServiceRequest.FromString(body)
    return [
        point.as_double
        for resource in message.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.gauge.data_points
    ]


def values_of_remote_write_1(body: bytes) -> list[float]:
    return [point.value for point in points_of(body)]


def values_of_remote_write_2(body: bytes) -> list[float]:
    return [point.value for point in points_of_v2(body)]


class LinesEndpoint(OtlpHttp):
    """The configuration of the kind below."""


class LinesEncoder:
    """One point a line, compressed by zlib."""

    kind = "lines"
    content_type = "text/lines"

    def encode(self, sealed: SealedBatch) -> bytes:
        return b"".join(b"%f\n" % value for value in values_of_otlp(sealed.point_buffer.encode()))

    def encode_bodies(
        self, sealed: SealedBatch, compression: Compression, bytes_max: int
    ) -> tuple[Body, ...]:
        return encode_and_cut(sealed, self, compression, bytes_max)

    def encode_plain(
        self, sealed: SealedBatch, _compression: Compression, bytes_max: int
    ) -> tuple[Body, ...]:
        return cut_plain(sealed, self, bytes_max)

    def split(self, body: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int]] | None:
        lines = body.splitlines(keepends=True)
        if len(lines) < 2:
            return None
        half = (len(lines) + 1) // 2
        return (b"".join(lines[:half]), half), (b"".join(lines[half:]), len(lines) - half)

    def compress(self, body: bytes, compression: Compression) -> bytes:
        return zlib.compress(body) if compression == "gzip" else body

    def decompress(self, body: bytes, compression: Compression) -> bytes:
        try:
            return zlib.decompress(body) if compression == "gzip" else body
        except zlib.error as error:
            raise DecodeError(f"corrupt: {error}") from error


def classify_lines(
    _endpoint: OtlpHttp, request: EncodedRequest, answer: HttpResponse, _now: float
) -> verdict.Verdict:
    """Unlike OTLP: a header says how much was written, and 409 that points came out of order."""
    if answer.status == 200:
        written = int(answer.headers.get("x-written", request.points))
        return verdict.Delivered(request.points - written)
    if answer.status == 409:
        return verdict.Rejected("out_of_order", "HTTP 409")
    if answer.status == 413:
        return verdict.Split("HTTP 413")
    if answer.status == 401:
        return verdict.Unauthorized("HTTP 401")
    if answer.status == 503:
        return verdict.Retry("http_503", "HTTP 503")
    return verdict.Rejected("http_other", "an answer that the kind does not know")


def lines_client(endpoint: OtlpHttp, dependencies: ClientDependencies) -> HttpEndpoint:
    headers = {LinesEncoder.kind: {"Content-Type": LinesEncoder.content_type}}
    return HttpEndpoint(endpoint, dependencies, headers=headers, classify=classify_lines)


LINES = SinkKind("lines", {"none": 200, "gzip": 201}, LinesEncoder(), lines_client)


@dataclass(frozen=True)
class Case:
    """A kind, its endpoints' configuration, how the test reads its bodies, and makes batches."""

    kind: SinkKind
    endpoint: Callable[..., Endpoint]
    values: Callable[[bytes], list[float]]
    batch: Callable[..., SealedBatch] = sealed_batch

    def __repr__(self) -> str:
        return self.kind.name

    @property
    def compressions(self) -> tuple[Compression, ...]:
        return tuple(self.kind.stored_codings)


def values_of_lines(body: bytes) -> list[float]:
    return [float(line) for line in body.splitlines()]


CASES = [
    Case(OTLP_HTTP, OtlpHttp, values_of_otlp),
    Case(
        OTLP_LOGS,
        partial(OtlpHttp, signal="logs"),
        partial(values_of, LOGS),
        partial(record_batch, LOGS),
    ),
    Case(
        OTLP_TRACES,
        partial(OtlpHttp, signal="traces"),
        partial(values_of, TRACES),
        partial(record_batch, TRACES),
    ),
    Case(
        REMOTE_WRITE_1,
        partial(PrometheusRemoteWrite, version="1.0"),
        values_of_remote_write_1,
        raw_sealed_batch,
    ),
    Case(
        REMOTE_WRITE_2,
        partial(PrometheusRemoteWrite, version="2.0"),
        values_of_remote_write_2,
        raw_sealed_batch,
    ),
    Case(LINES, LinesEndpoint, values_of_lines),
]
"""A kind that is registered needs an independent reader of its bodies here."""
OTLP, RECORDS_LOGS, RECORDS_TRACES, WRITE_1, WRITE_2, OWN = CASES
