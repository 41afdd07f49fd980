"""A sink that discards: a process that receives OTLP or remote write and counts points.

``python -m bench.sink --dataset DIR`` prints its port as one line of JSON and serves until SIGTERM.
``/NAME/v1/metrics`` and ``/NAME/api/v1/write`` are the sink NAME; without a name it is "".
``/figures?TIME`` returns the counts, ``/sinks`` the points by name.

While data arrives it only reads and answers; :mod:`bench.tally` has the rules of counting. A
request that it cannot parse is answered 400 and makes the run void.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path
from time import monotonic
from typing import cast

import uvloop
from google.protobuf.message import DecodeError

from bench.dataset import Dataset, read_dataset
from bench.tally import UNDECODABLE, Arrival, Tally, decompress, written

OTLP_PATH = "/v1/metrics"
REMOTE_WRITE_PATH = "/api/v1/write"
FIGURES_PATH = "/figures"
SINKS_PATH = "/sinks"

COUNT_SLICE_S = 0.05
"""Longest time that one request for figures counts before it answers; s. The harness asks again."""

_BODY_BYTES_MAX = 64 << 20  # OTLP's own limit for a request before compression
_HEAD_BYTES_MAX = 16 << 10
_BACKLOG = 4096  # thousands of tenants' sinks connect at once
# An empty ExportMetricsServiceResponse is full success.
_OTLP_TAKEN = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
)
_REMOTE_WRITE_TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
_REMOTE_WRITE_2_TAKEN = (
    b"HTTP/1.1 204 No Content\r\nX-Prometheus-Remote-Write-Samples-Written: %d\r\n\r\n"
)
_REMOTE_WRITE_2 = "proto=io.prometheus.write.v2.request"


class _Connection(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection; bodies have a Content-Length."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._buffer = bytearray()
        self._wanted = 0
        """Bytes of the incoming request, as far as known."""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface but not the base class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= self._wanted and self._take_request():
            pass

    def _take_request(self) -> bool:
        """Answer the request at the buffer's start; return False if it is incomplete."""
        end = self._buffer.find(b"\r\n\r\n", 0, _HEAD_BYTES_MAX)
        if end < 0:
            if len(self._buffer) > _HEAD_BYTES_MAX:
                self._refuse("a request head that does not end")
            return False
        head = bytes(self._buffer[: end + 2])
        method, _, rest = head.partition(b" ")
        target = rest.partition(b" ")[0].decode("latin-1")
        fields = head.lower()
        length = _field(fields, b"content-length") or ("0" if method == b"GET" else "")
        if not length.isdigit() or int(length) > _BODY_BYTES_MAX:
            self._refuse(f"{method!r} {target} with Content-Length {length!r}")
            return False
        stop = end + 4 + int(length)
        if len(self._buffer) < stop:
            self._wanted = stop
            return False
        body = bytes(self._buffer[end + 4 : stop])
        del self._buffer[:stop]
        self._wanted = 0
        self._answer(method, target, fields, body)
        return True

    def _answer(self, method: bytes, target: str, fields: bytes, body: bytes) -> None:
        encoding = _field(fields, b"content-encoding")
        path, _, query = target.partition("?")
        if method == b"POST" and path.endswith(OTLP_PATH):
            name = path[1 : -len(OTLP_PATH)]
            self._tally.add(Arrival(monotonic(), name, "otlp", encoding, body))
            self._write(_OTLP_TAKEN)
        elif method == b"POST" and path.endswith(REMOTE_WRITE_PATH):
            name = path[1 : -len(REMOTE_WRITE_PATH)]
            if _REMOTE_WRITE_2 in _field(fields, b"content-type"):
                self._take_remote_write_2(
                    target, Arrival(monotonic(), name, "remote write 2.0", encoding, body)
                )
                return
            self._tally.add(Arrival(monotonic(), name, "remote write 1.0", encoding, body))
            self._write(_REMOTE_WRITE_TAKEN)
        elif method == b"GET" and path == FIGURES_PATH:
            self._tally.count_until(monotonic() + COUNT_SLICE_S)
            self._write_json(self._tally.figures(float(query or "inf")))
        elif method == b"GET" and path == SINKS_PATH:
            self._write_json(self._tally.points_by_sink)
        else:
            self._refuse(f"{method!r} {target}")

    def _take_remote_write_2(self, target: str, arrival: Arrival) -> None:
        """Answer with the number of samples, which the specification demands of a receiver."""
        try:
            samples = written(decompress(arrival.body, arrival.encoding))
        except (*UNDECODABLE, DecodeError) as error:
            self._refuse(f"POST {target} of remote write 2.0: {error}")
            return
        self._tally.add(arrival)
        self._write(_REMOTE_WRITE_2_TAKEN % samples)

    def _refuse(self, what: str) -> None:
        assert self._transport is not None
        self._tally.fault(f"not understood: {what}")
        self._buffer.clear()
        self._wanted = 0
        text = what.encode()
        self._write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        self._transport.close()

    def _write_json(self, value: object) -> None:
        text = json.dumps(value).encode()
        self._write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(text)
            + text
        )

    def _write(self, answer: bytes) -> None:
        assert self._transport is not None
        self._transport.write(answer)


def _field(head: bytes, name: bytes) -> str:
    """Return the value of a header in a lower-case head; "" if it is missing."""
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return ""
    at += len(name) + 3
    return head[at : head.index(b"\r\n", at)].strip().decode("latin-1")


async def serve(dataset: Dataset) -> None:
    """Serve on a free loopback port until SIGTERM or SIGINT; print the port first."""
    loop = asyncio.get_running_loop()
    tally = Tally(dataset)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(lambda: _Connection(tally), "127.0.0.1", 0, backlog=_BACKLOG)
    async with server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await stopped.wait()


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(prog="python -m bench.sink")
    parser.add_argument("--dataset", type=Path, required=True)
    arguments = parser.parse_args()
    uvloop.run(serve(read_dataset(arguments.dataset)))


if __name__ == "__main__":
    main()
