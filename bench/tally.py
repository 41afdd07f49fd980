"""Count everything that arrives at the sink, and verify one point in fifty.

* Bodies are kept as they arrive and counted when the harness asks, so that counting takes no CPU
  from the process under test; above :data:`HELD_BYTES_MAX` they are counted at once.
* Every body is decompressed and counted by the marker (:mod:`bench.dataset`); one of remote write
  2.0, where a marker stands once for all its series, by its samples. One of :data:`VERIFY_EVERY`
  points, including the first body's, is decoded by the protobuf runtime and
  must equal what was sent for that series and time, to that sink.
* A body that cannot be parsed is a fault, and makes the run void.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

import cramjam
import zstandard
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from bench.dataset import Dataset, Value
from bench.labels import MARKER, exporter_of
from tests.kit.remote_write import prompb

HELD_BYTES_MAX = 1 << 30
VERIFY_EVERY = 50

_FAULTS_MAX = 10
_MARKER_BYTES = MARKER.encode()
UNDECODABLE = (
    *(ValueError, OSError, EOFError, zlib.error),  # gzip raises the last three
    cramjam.DecompressionError,
    zstandard.ZstdError,
)


Protocol = Literal["otlp", "remote write 1.0", "remote write 2.0"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One body as received.

    ``at`` is on the monotonic clock, which all processes share. ``sink`` is the path before that of
    the protocol: the name of one of several sinks.
    """

    at: float
    sink: str
    protocol: Protocol
    encoding: str
    body: bytes


class Tally:
    """Counts of a sink."""

    def __init__(self, dataset: Dataset) -> None:
        self._shape = dataset.shape
        self._held: deque[Arrival] = deque()
        self._held_bytes = 0
        self.requests = 0
        self.compressed_bytes = 0
        self.decoded_bytes = 0
        self.points = 0
        self.verified_points = 0
        self.faults: list[str] = []
        self.fault_count = 0
        self.points_by_sink: Counter[str] = Counter()
        self._timeline: list[tuple[float, int]] = []
        """(time, points) of each request."""

    def add(self, arrival: Arrival) -> None:
        """Keep one body for later."""
        self.requests += 1
        self.compressed_bytes += len(arrival.body)
        self._held.append(arrival)
        self._held_bytes += len(arrival.body)
        while self._held_bytes > HELD_BYTES_MAX:
            self._count_one()

    def fault(self, text: str) -> None:
        """Record a fault that makes the run void."""
        self.fault_count += 1
        if len(self.faults) < _FAULTS_MAX:
            self.faults.append(text)

    def count_until(self, deadline: float) -> None:
        """Count kept bodies until none is left or the monotonic clock passes ``deadline``."""
        while self._held and monotonic() < deadline:
            self._count_one()

    def figures(self, until: float) -> dict[str, object]:
        """Return all counts as plain values; ``points_until`` arrived before ``until``."""
        return {
            "requests": self.requests,
            "uncounted": len(self._held),
            "points": self.points,
            "points_until": sum(points for at, points in self._timeline if at <= until),
            "verified_points": self.verified_points,
            "compressed_bytes": self.compressed_bytes,
            "decoded_bytes": self.decoded_bytes,
            "fault_count": self.fault_count,
            "faults": self.faults,
        }

    def _count_one(self) -> None:
        arrival = self._held.popleft()
        self._held_bytes -= len(arrival.body)
        try:
            data = decompress(arrival.body, arrival.encoding)
        except UNDECODABLE as error:
            self.fault(f"a body that claims {arrival.encoding!r} cannot be decompressed: {error}")
            return
        try:
            points = _count(arrival.protocol, data)
        except DecodeError as error:
            self.fault(f"a body for {arrival.sink!r} cannot be decoded: {error}")
            return
        self.points += points
        self.points_by_sink[arrival.sink] += points
        self.decoded_bytes += len(data)
        if self.verified_points * VERIFY_EVERY < self.points:
            self._verify(arrival, data, points)
        self._timeline.append((arrival.at, points))

    def _verify(self, arrival: Arrival, data: bytes, points: int) -> None:
        decoded = _POINTS[arrival.protocol](data)
        seen = 0
        try:
            for marker, time_ms, value in decoded:
                seen += 1
                self._verify_point(arrival.sink, int(marker), time_ms, value)
        except (DecodeError, ValueError) as error:
            self.fault(f"a body for {arrival.sink!r} cannot be decoded: {error}")
            return
        if seen != points:
            self.fault(f"a body with {points} markers decodes to {seen} points")
        self.verified_points += seen

    def _verify_point(self, sink: str, number: int, time_ms: int, value: Value) -> None:
        shape = self._shape
        round_number = shape.round_of(number, time_ms)
        if round_number < 0 or value != shape.value(number, round_number):
            self.fault(f"series {number} at {time_ms} ms has {value}, which was not sent")
        elif shape.projects and sink != exporter_of(number, shape.projects):
            self.fault(f"series {number} is not for {sink!r}")


_Point = tuple[str, int, Value]
"""Marker's value, time in ms (-1: not a whole one), value."""


def _otlp_points(data: bytes) -> Iterator[_Point]:
    for resource in ExportMetricsServiceRequest.FromString(data).resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in (*metric.gauge.data_points, *metric.sum.data_points):
                    yield *_identity(point), point.as_double
                for histogram in metric.histogram.data_points:
                    numbers = (*histogram.explicit_bounds, *map(float, histogram.bucket_counts))
                    yield *_identity(histogram), (float(histogram.count), histogram.sum, *numbers)


def _identity(point: Any) -> tuple[str, int]:
    marker = [a.value.string_value for a in point.attributes if a.key == MARKER]
    time_ms, rest_ns = divmod(point.time_unix_nano, 1_000_000)
    return "".join(marker), -1 if rest_ns else time_ms


def _remote_write_points(data: bytes) -> Iterator[_Point]:
    for series in prompb.WriteRequest.FromString(data).timeseries:
        marker = "".join(label.value for label in series.labels if label.name == MARKER)
        for sample in series.samples:
            yield marker, sample.timestamp, sample.value


def _remote_write_2_points(data: bytes) -> Iterator[_Point]:
    request = prompb.RequestV2.FromString(data)
    symbols = request.symbols
    for series in request.timeseries:
        refs = series.labels_refs
        pairs = zip(refs[::2], refs[1::2], strict=True)
        marker = "".join(symbols[value] for name, value in pairs if symbols[name] == MARKER)
        for sample in series.samples:
            yield marker, sample.timestamp, sample.value


_POINTS: Mapping[Protocol, Callable[[bytes], Iterator[_Point]]] = {
    "otlp": _otlp_points,
    "remote write 1.0": _remote_write_points,
    "remote write 2.0": _remote_write_2_points,
}


def _count(protocol: Protocol, data: bytes) -> int:
    if protocol == "remote write 2.0":
        return written(data)
    return data.count(_MARKER_BYTES)


def written(data: bytes) -> int:
    """Return the number of samples in an uncompressed request of remote write 2.0.

    Raises DecodeError.
    """
    return sum(len(series.samples) for series in prompb.RequestV2.FromString(data).timeseries)


def decompress(body: bytes, encoding: str) -> bytes:
    """Decompress a body by its Content-Encoding. Raises one of :data:`UNDECODABLE`."""
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "snappy":
        return bytes(cramjam.snappy.decompress_raw(body))
    if encoding == "zstd":
        # A streamed frame does not declare its size.
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    if encoding in ("", "identity"):
        return body
    raise ValueError("unknown Content-Encoding")
