"""A sink that discards: a process of its own that takes OTLP or remote write and counts series.

``python -m bench.sink --dataset DIR`` prints its port as one line of JSON and serves until SIGTERM.

Rules:

* While data arrives it only reads and answers: bodies are kept as they came, and are counted when
  the harness asks (``GET /figures``), so that counting takes no CPU from the process under test.
  Above :data:`HELD_BYTES_MAX` it has to count at once.
* Every body is decompressed and counted (:mod:`bench.dataset` says why the marker's occurrences
  are exact). One of :data:`VERIFY_EVERY` points, the first body's included, is also decoded by the
  protobuf runtime: its value must be what was sent for that series at that time.
* A request that it does not understand is answered 400 and makes the run void.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import signal
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import cast

import cramjam
import uvloop
import zstandard
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from bench import prompb
from bench.dataset import MARKER, Dataset, read_dataset, value_of

OTLP_PATH = "/v1/metrics"
REMOTE_WRITE_PATH = "/api/v1/write"
FIGURES_PATH = "/figures"

HELD_BYTES_MAX = 1 << 30
VERIFY_EVERY = 50
COUNT_SLICE_S = 0.05
"""How long one request for figures may count before it answers; the harness asks again."""

_BODY_BYTES_MAX = 64 << 20  # OTLP's own limit for a request before compression
_HEAD_BYTES_MAX = 16 << 10
_FAULTS_MAX = 10
_MARKER_BYTES = MARKER.encode()
_UNDECODABLE = (
    *(ValueError, OSError, EOFError, zlib.error),  # gzip raises the last three
    cramjam.DecompressionError,
    zstandard.ZstdError,
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One body as it came in. ``at`` is on the monotonic clock, which all processes share."""

    at: float
    path: str
    encoding: str
    body: bytes


class Tally:
    """What has arrived; counts lazily, see the module's rules."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._held: deque[Arrival] = deque()
        self._held_bytes = 0
        self.requests = 0
        self.compressed_bytes = 0
        self.decoded_bytes = 0
        self.points = 0
        self.verified_points = 0
        self.faults: list[str] = []
        self.fault_count = 0
        self._timeline: list[tuple[float, int]] = []
        """When how many points came in, one row a request."""

    def add(self, arrival: Arrival) -> None:
        """Keep one body for later."""
        self.requests += 1
        self.compressed_bytes += len(arrival.body)
        self._held.append(arrival)
        self._held_bytes += len(arrival.body)
        while self._held_bytes > HELD_BYTES_MAX:
            self._count_one()

    def fault(self, text: str) -> None:
        """Note something that makes the run void."""
        self.fault_count += 1
        if len(self.faults) < _FAULTS_MAX:
            self.faults.append(text)

    def count_until(self, deadline: float) -> None:
        """Count what is held until nothing is left or the monotonic clock passes ``deadline``."""
        while self._held and monotonic() < deadline:
            self._count_one()

    def figures(self, until: float) -> dict[str, object]:
        """Everything so far as plain values; ``points_until`` came in before ``until``."""
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
            data = _decompress(arrival.body, arrival.encoding)
        except _UNDECODABLE as error:
            self.fault(f"a body that claims {arrival.encoding!r} cannot be decompressed: {error}")
            return
        points = data.count(_MARKER_BYTES)
        self.points += points
        self.decoded_bytes += len(data)
        if self.verified_points * VERIFY_EVERY < self.points:
            self._verify(arrival.path, data, points)
        self._timeline.append((arrival.at, points))

    def _verify(self, path: str, data: bytes, points: int) -> None:
        decoded = _otlp_points(data) if path == OTLP_PATH else _remote_write_points(data)
        seen = 0
        try:
            for marker, time_ms, value in decoded:
                seen += 1
                series = int(marker)
                round_number = self._dataset.shape.round_of(series, time_ms)
                if round_number < 0 or value != value_of(series, round_number):
                    self.fault(f"series {marker} at {time_ms} ms has {value}, which was not sent")
        except (DecodeError, ValueError) as error:
            self.fault(f"a body on {path} cannot be decoded: {error}")
            return
        if seen != points:
            self.fault(f"a body with {points} markers decodes to {seen} points")
        self.verified_points += seen


_Point = tuple[str, int, float]
"""Marker's value, time in ms (-1: not a whole one), value."""


def _otlp_points(data: bytes) -> Iterator[_Point]:
    for resource in ExportMetricsServiceRequest.FromString(data).resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in (*metric.gauge.data_points, *metric.sum.data_points):
                    marker = [a.value.string_value for a in point.attributes if a.key == MARKER]
                    time_ms, rest_ns = divmod(point.time_unix_nano, 1_000_000)
                    yield "".join(marker), -1 if rest_ns else time_ms, point.as_double


def _remote_write_points(data: bytes) -> Iterator[_Point]:
    for series in prompb.WriteRequest.FromString(data).timeseries:
        marker = "".join(label.value for label in series.labels if label.name == MARKER)
        for sample in series.samples:
            yield marker, sample.timestamp, sample.value


def _decompress(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "snappy":
        return bytes(cramjam.snappy.decompress_raw(body))
    if encoding == "zstd":
        # A frame that was streamed does not say its size.
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    if encoding in ("", "identity"):
        return body
    raise ValueError("unknown Content-Encoding")


class _Connection(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection; bodies come with Content-Length."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._take_request():
            pass

    def _take_request(self) -> bool:
        """Answer the request at the buffer's start; False where it is not whole yet."""
        end = self._buffer.find(b"\r\n\r\n", 0, _HEAD_BYTES_MAX)
        if end < 0:
            if len(self._buffer) > _HEAD_BYTES_MAX:
                self._refuse("a request head that does not end")
            return False
        method, target, headers = _parse_head(bytes(self._buffer[:end]))
        length = headers.get("content-length", "0" if method == "GET" else "")
        if not length.isdigit() or int(length) > _BODY_BYTES_MAX:
            self._refuse(f"{method} {target} with Content-Length {length!r}")
            return False
        stop = end + 4 + int(length)
        if len(self._buffer) < stop:
            return False
        body = bytes(self._buffer[end + 4 : stop])
        del self._buffer[:stop]
        self._answer(method, target, headers, body)
        return True

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        path, _, query = target.partition("?")
        if method == "POST" and path in (OTLP_PATH, REMOTE_WRITE_PATH):
            self._tally.add(Arrival(monotonic(), path, headers.get("content-encoding", ""), body))
            if path == OTLP_PATH:  # an empty ExportMetricsServiceResponse is full success
                self._write("200 OK", "application/x-protobuf", b"")
            else:
                self._write("204 No Content", "", b"")
        elif method == "GET" and path == FIGURES_PATH:
            self._tally.count_until(monotonic() + COUNT_SLICE_S)
            figures = self._tally.figures(float(query or "inf"))
            self._write("200 OK", "application/json", json.dumps(figures).encode())
        else:
            self._refuse(f"{method} {target}")

    def _refuse(self, what: str) -> None:
        assert self._transport is not None
        self._tally.fault(f"not understood: {what}")
        self._buffer.clear()
        self._write("400 Bad Request", "text/plain", what.encode())
        self._transport.close()

    def _write(self, status: str, content_type: str, body: bytes) -> None:
        assert self._transport is not None
        head = f"HTTP/1.1 {status}\r\n"
        if content_type:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        self._transport.write(f"{head}\r\n".encode() + body)


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, target and headers, names in lower case; what is malformed becomes ""."""
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = request_line.partition(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return method, rest.partition(" ")[0], headers


async def serve(dataset: Dataset) -> None:
    """Serve on a free loopback port until SIGTERM or SIGINT; print the port first."""
    loop = asyncio.get_running_loop()
    tally = Tally(dataset)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(lambda: _Connection(tally), "127.0.0.1", 0)
    async with server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await stopped.wait()


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="python -m bench.sink")
    parser.add_argument("--dataset", type=Path, required=True)
    arguments = parser.parse_args()
    uvloop.run(serve(read_dataset(arguments.dataset)))


if __name__ == "__main__":
    main()
