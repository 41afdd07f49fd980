"""Read a captured request of a sender, and tell what it is.

Remote write by snappy or zstd; OTLP of any signal as protobuf, or as JSON, also a request a line as
the Collector's file exporter writes it, each by gzip, zstd or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from google.protobuf.message import DecodeError as ProtobufDecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.codec.compression import decompress, decompress_as_said
from relay.codec.otlp.json_request import check_json, protobuf_of
from relay.codec.signal_names import SignalName
from relay.config.yaml.document import read_bounded
from relay.runtime.errors import ConfigError, DecodeError, Fault, WireError

BODY_BYTES_MAX: Final = 256 * 1024 * 1024
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_FIELDS: Final[dict[SignalName, bytes]] = {
    "logs": b'"resourceLogs"',
    "traces": b'"resourceSpans"',
    "metrics": b'"resourceMetrics"',
}
_TRACE_ID_BYTES: Final = 16


class CapturedBody(NamedTuple):
    """A decompressed request as protobuf; ``signal`` is None for remote write."""

    body: bytes
    signal: SignalName | None


def read_captured(path: Path, asked: str | None) -> CapturedBody:
    """Read a request; ``asked`` is its signal, None where it is to be found out.

    Raise ConfigError.
    """
    raw = _decompressed(path)
    text = raw.lstrip()
    if text.startswith(b"{"):
        signal = cast("SignalName | None", asked) or _signal_of_json(text)
        try:
            if signal is None:
                check_json(text)
                names = " or ".join(name.decode() for name in _FIELDS.values())
                raise DecodeError(f"it is JSON without {names}: no OTLP request")
            lines = text.splitlines() if text.count(b"\n{") else [text]
            return CapturedBody(b"".join(protobuf_of(one, signal) for one in lines if one), signal)
        except WireError as error:
            raise ConfigError([Fault("--from", f"{path}: {error}")]) from error
    if asked is None:
        return CapturedBody(raw, signal_of_protobuf(raw))
    if asked == "metrics":
        return CapturedBody(raw, "metrics" if signal_of_protobuf(raw) == "metrics" else None)
    return CapturedBody(raw, cast("SignalName", asked))


def signal_of_protobuf(body: bytes) -> SignalName | None:
    """Return the signal of an OTLP request by its first record, None where it is none.

    The requests of all signals, and of remote write, are alike down to their records. A body of a
    log record has the field number of a gauge, but where a metric has its name it has a number; a
    span has its trace id there.
    """
    metrics = _read(ExportMetricsServiceRequest, body)
    if metrics is not None:
        for metric in _records(metrics.resource_metrics, "scope_metrics", "metrics"):
            if metric.name and metric.WhichOneof("data"):
                return "metrics"
    traces = _read(ExportTraceServiceRequest, body)
    if traces is not None:
        for span in _records(traces.resource_spans, "scope_spans", "spans"):
            if len(span.trace_id) == _TRACE_ID_BYTES:
                return "traces"
    logs = _read(ExportLogsServiceRequest, body)
    if logs is not None and any(_records(logs.resource_logs, "scope_logs", "log_records")):
        return "logs"
    return None


def _read(request: Callable[[], Any], body: bytes) -> Any:
    """Return a body as a request; None where it is none. What is no text ends one of a signal."""
    made = request()
    try:
        made.ParseFromString(body)
    except ProtobufDecodeError:
        return None
    return made


def _records(resources: Iterable[Any], scopes: str, records: str) -> Iterator[Any]:
    for resource in resources:
        for scope in getattr(resource, scopes):
            yield from getattr(scope, records)


def _signal_of_json(text: bytes) -> SignalName | None:
    """Return the signal by the name of the first field that a request of it has."""
    places = {signal: text.find(name) for signal, name in _FIELDS.items()}
    found = {signal: place for signal, place in places.items() if place >= 0}
    return min(found.items(), key=lambda one: one[1])[0] if found else None


def _decompressed(path: Path) -> bytes:
    try:
        raw = read_bounded(path, bytes_max=BODY_BYTES_MAX)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError([Fault("--from", f"{path} cannot be read: {reason}")]) from error
    if raw.lstrip().startswith(b"{"):
        return raw
    is_gzip, is_zstd = raw.startswith(_GZIP_MAGIC), raw.startswith(_ZSTD_MAGIC)
    try:
        if is_gzip:
            return decompress_as_said(raw, "gzip", bytes_max=BODY_BYTES_MAX)
        return decompress(raw, "zstd" if is_zstd else "snappy", bytes_max=BODY_BYTES_MAX)
    except WireError as error:
        if is_gzip or is_zstd:
            raise ConfigError([Fault("--from", f"{path}: {error}")]) from error
        # Probably decompressed already; the decoder will tell.
        return raw
