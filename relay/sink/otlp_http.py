"""The sink kind OTLP/HTTP: its encoder of metrics, and what the answers of endpoints mean. Pure.

    ========================================  =================================================
    answer                                    verdict
    ========================================  =================================================
    2xx, decodable or empty body              Delivered; less what partial_success rejects
    2xx, protobuf or JSON that is neither     Delivered with a warning
    2xx, other non-empty undecodable body     Rejected ``invalid_response`` (a captive portal)
    429, 502, 503, 504                        Retry, after Retry-After if it is longer
    413                                       Split
    401, 403                                  Unauthorized
    400 that says that the rest was stored    Rejected ``http_400``
    other 400, but of delta points            Bisect
    every other status, redirects included    Rejected ``http_<status>``
    timeout, no connection, disconnect ...    Retry, reason is the failure's kind
    response body over the limit              Rejected ``response_too_large``
    2xx before all of the request was read    Retry ``unread_request``
    ========================================  =================================================

Sources: OTLP 1.11, "OTLP/HTTP Response" (retryable codes; partial success "MUST NOT" be retried; a
response above 4 MiB is not retryable); 413, 401 and 403 are this project's design. OTLP names 200
as the only success; gateways answer 202 and 204 too, and a retry would duplicate what they took.
400 is the answer to a request that cannot be read: records are passed on as they came, and a single
one that is malformed inside makes a Collector refuse all others with it; so does one that goes back
in time with Prometheus. So that it costs those nothing, halves are sent. Mimir stores the rest and
says so, others may not: halves may come twice, so that delta points, which would count twice, are
not sent again.
``forbidden_address`` is retryable within the queue's age limit: a name that resolves to a private
address for a minute must not cost data. An answer that is not HTTP is a broken connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from relay.codec.body import Body
from relay.codec.compression import compress, decompress_own
from relay.codec.otlp.batch import SealedBatch
from relay.codec.otlp.response import PartialSuccess, parse_response, parse_status_message
from relay.codec.otlp.split import split_request
from relay.codec.remote_write.response import parse_refusal
from relay.config.exporter.types import Compression, Endpoint, OtlpHttp
from relay.runtime.errors import DecodeError
from relay.sink.http.response import HttpResponse, status_line
from relay.sink.http_endpoint import HttpEndpoint
from relay.sink.interface import ClientDependencies, SinkKind
from relay.sink.queue.encoding import cut_plain, encode_and_cut
from relay.sink.queue.payload import EncodedRequest
from relay.sink.retry.verdict import (
    Bisect,
    Delivered,
    Rejected,
    Retry,
    Split,
    Unauthorized,
    Verdict,
    parse_retry_after_s,
    printable,
)

KIND: Final = "otlp"
RECORD_KINDS: Final = {"logs": "otlp_logs", "traces": "otlp_traces"}
"""Names of the kinds for the other signals (:mod:`relay.sink.otlp.records`): one client for all."""

RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})

_KNOWN_STATUSES = frozenset(int(status) for status in HTTPStatus)
_ALL_TAKEN = Delivered()


def classify(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Verdict:
    """Return the verdict on a whole answer; ``headers`` in lower case, ``now``: wall clock, s."""
    if not body and 200 <= status < 300:
        return _ALL_TAKEN
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if 200 <= status < 300:
        return _classify_success(content_type, body)
    message = _describe(status, body, content_type)
    if status in RETRYABLE_STATUSES:
        return Retry(f"http_{status}", message, parse_retry_after_s(headers, now))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Split(message)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Unauthorized(message)
    if status == HTTPStatus.BAD_REQUEST and not _is_rest_stored(body, content_type):
        return Bisect("http_400", message)
    # Only registered codes are a reason of their own: an endpoint must not choose label values.
    return Rejected(f"http_{status}" if status in _KNOWN_STATUSES else "http_other", message)


def _classify_success(content_type: str, body: bytes) -> Verdict:
    is_json = content_type == "application/json"
    try:
        partial = _parse_json_response(body) if is_json else parse_response(body)
    except DecodeError as error:
        if is_json or "protobuf" in content_type:
            return Delivered(message=f"the endpoint's response cannot be read: {error}")
        kind = printable(content_type) or "no content type"
        return Rejected(
            "invalid_response", f"success status with a body that is not an OTLP response ({kind})"
        )
    if partial is None:
        return _ALL_TAKEN
    return Delivered(max(0, partial.rejected), printable(partial.message))


class _JsonPartialSuccess(msgspec.Struct, rename="camel"):
    # ProtoJSON writes int64 as a string and readers accept both.
    rejected_data_points: int | str | None = 0
    rejected_log_records: int | str | None = 0
    rejected_spans: int | str | None = 0
    error_message: str | None = ""


class _JsonResponse(msgspec.Struct, rename="camel"):
    partial_success: _JsonPartialSuccess | None = None


def _parse_json_response(body: bytes) -> PartialSuccess | None:
    try:
        partial = msgspec.json.decode(body, type=_JsonResponse).partial_success
        if partial is None:
            return None
        rejected = (
            partial.rejected_data_points or partial.rejected_log_records or partial.rejected_spans
        )
        return PartialSuccess(int(rejected or 0), partial.error_message or "")
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not a JSON ExportMetricsServiceResponse: {error}") from error


def _is_rest_stored(body: bytes, content_type: str) -> bool:
    """Return True if a 400 has the words of an endpoint that stored the good points.

    They are those of remote write.
    """
    text = parse_status_message(body, content_type).encode()
    return parse_refusal(HTTPStatus.BAD_REQUEST, text, "remote_write_v2").rest == "stored"


def _describe(status: int, body: bytes, content_type: str) -> str:
    head = status_line(status)
    if 300 <= status < 400:
        return f"{head}: redirects are not followed"
    text = printable(parse_status_message(body, content_type))
    return f"{head}: {text}" if text else head


class OtlpEncoder:
    """Implements :class:`relay.sink.interface.Encoder` for ExportMetricsServiceRequest."""

    content_type: Final = "application/x-protobuf"

    def __init__(self, kind: str = KIND) -> None:
        self.kind: Final = kind

    def encode(self, sealed: SealedBatch) -> bytes:
        """Encode a whole batch, uncompressed."""
        return sealed.point_buffer.encode()

    def encode_bodies(
        self, sealed: SealedBatch, compression: Compression, bytes_max: int
    ) -> tuple[Body, ...]:
        """Encode a batch, cut it where it is too large, and compress the pieces."""
        return encode_and_cut(sealed, self, compression, bytes_max)

    def encode_plain(
        self, sealed: SealedBatch, _compression: Compression, bytes_max: int
    ) -> tuple[Body, ...]:
        """Encode a batch and cut it where it is too large."""
        return cut_plain(sealed, self, bytes_max)

    def split(self, body: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int]] | None:
        """Cut a body in two; None where it has a single point."""
        return split_request(body)

    def rounds(self, body: bytes, rounds_max: int) -> list[tuple[bytes, int]]:
        """Return nothing: points are told apart by series only for remote write."""
        return []

    def compress(self, body: bytes, compression: Compression) -> bytes:
        """Compress a body."""
        return compress(body, compression)

    def decompress(self, body: bytes, compression: Compression) -> bytes:
        """Undo :meth:`compress`. Raises DecodeError."""
        return decompress_own(body, compression)


_CONTENT: Final = {"Content-Type": OtlpEncoder.content_type}
_HEADERS: Final = {KIND: _CONTENT} | dict.fromkeys(RECORD_KINDS.values(), _CONTENT)
"""By kind of request; one for all sinks."""


def make_client(endpoint: Endpoint, dependencies: ClientDependencies) -> HttpEndpoint:
    """Return the client of an endpoint, for requests of every signal."""
    return HttpEndpoint(endpoint, dependencies, headers=_HEADERS, classify=_classify_answer)


def _classify_answer(
    endpoint: Endpoint, request: EncodedRequest, answer: HttpResponse, now: float
) -> Verdict:
    verdict = classify(answer.status, answer.headers, answer.body, now)
    if isinstance(verdict, Bisect) and request.kind == KIND:
        assert isinstance(endpoint, OtlpHttp)
        if endpoint.temporality == "delta":
            return Rejected(verdict.reason, verdict.message)
    return verdict


def _is_for_metrics(endpoint: Endpoint) -> bool:
    return isinstance(endpoint, OtlpHttp) and endpoint.signal == "metrics"


OTLP_HTTP: Final = SinkKind(
    name=KIND,
    stored_codings={"none": 0, "gzip": 1, "zstd": 2},
    encoder=OtlpEncoder(),
    make_client=make_client,
    serves=_is_for_metrics,
)
