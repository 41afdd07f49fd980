"""The load generator: a process that sends a data set's requests to one address.

``python -m bench.generator --dataset DIR --url URL …`` sends, prints one line of JSON, and ends.

* Bodies are compressed before the run (:mod:`bench.dataset`).
* Each connection has one request in flight. Without ``--rate`` the next follows the response; with
  it, requests follow a schedule that does not wait for slow responses on other connections.
* With ``--once`` the run ends with the data set, else it starts over: values and times repeat,
  which does not affect a peer that forwards single samples.
* 429 and 503 are back-pressure: the body is resent after Retry-After. Any other response but 2xx,
  and any broken connection, ends the run with an error: the peer's count would be unknown.
* A request in flight at the end of the time is finished and counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.dataset import Dataset, Request, read_dataset

ANSWER_TIMEOUT_S = 60.0
_HEAD_BYTES_MAX = 16 << 10
_RETRY_AFTER_MAX_S = 5.0
_PROTOCOL_HEADERS = {
    "1.0": "Content-Type: application/x-protobuf\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n",
    "2.0": (
        "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\n"
        "X-Prometheus-Remote-Write-Version: 2.0.0\r\n"
    ),
}


class SendError(Exception):
    """Report a request that the peer did not accept or whose fate is unknown: the run is void."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """Counts of a run. Times are on the monotonic clock; latencies are per accepted request, in s.

    ``next_request`` is where another generator would continue. ``cycled``: the data set was sent
    more than once; ``exhausted``: it ended before the time did. ``cpu_s`` counts from the first
    request, ``process_cpu_s`` from the start of the process.
    """

    started_at: float
    ended_at: float
    requests: int
    samples: int
    sent_bytes: int
    retries: int
    next_request: int
    cycled: bool
    exhausted: bool
    cpu_s: float
    process_cpu_s: float
    latency_p50_s: float
    latency_p99_s: float
    latency_max_s: float


@dataclass(slots=True)
class _Progress:
    """State shared by the connections."""

    dataset: Dataset
    first: int
    requests_max: int
    deadline: float
    rate: float | None
    started_at: float
    taken: int = 0
    scheduled: int = 0
    """Samples of the accepted requests."""
    samples: int = 0
    sent_bytes: int = 0
    retries: int = 0
    latencies: list[float] = field(default_factory=list)

    def requests(self) -> Iterator[tuple[Request, float]]:
        """Yield requests and their due times to each connection, until the run is over."""
        while self.taken < self.requests_max:
            due = self.started_at + (self.scheduled / self.rate if self.rate else 0.0)
            if max(due, monotonic()) >= self.deadline:
                return
            request = self.dataset.requests[(self.first + self.taken) % len(self.dataset.requests)]
            self.taken += 1
            self.scheduled += request.samples
            yield request, due

    def accepted(self, request: Request, latency_s: float) -> None:
        self.samples += request.samples
        self.sent_bytes += request.size
        self.latencies.append(latency_s)


async def send(
    dataset: Dataset,
    url: str,
    *,
    connections: int,
    first: int = 0,
    requests_max: int | None = None,
    seconds: float | None = None,
    rate: float | None = None,
    once: bool = False,
) -> SendResult:
    """Send requests from number ``first`` on, until a limit is reached.

    ``once`` ends it with the data set. ``rate`` is in samples per second; None: as fast as the peer
    answers. Raise SendError.
    """
    assert requests_max is not None or seconds is not None or once, "something has to end the run"
    left = len(dataset.requests) - first if once else 2**63
    cpu_before_s = time.process_time()
    started_at = monotonic()
    progress = _Progress(
        dataset,
        first,
        requests_max=left if requests_max is None else min(requests_max, left),
        deadline=float("inf") if seconds is None else started_at + seconds,
        rate=rate,
        started_at=started_at,
    )
    with dataset.bodies.open("rb") as file:
        bodies = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(connections):
                    group.create_task(_send_on_one_connection(progress, bodies, url))
        except* SendError as errors:
            raise SendError(str(errors.exceptions[0])) from errors
        finally:
            bodies.close()
    latencies = sorted(progress.latencies) or [0.0]
    return SendResult(
        started_at=started_at,
        ended_at=monotonic(),
        requests=len(progress.latencies),
        samples=progress.samples,
        sent_bytes=progress.sent_bytes,
        retries=progress.retries,
        next_request=(first + progress.taken) % len(dataset.requests),
        cycled=first + progress.taken > len(dataset.requests),
        exhausted=progress.taken == left,
        cpu_s=time.process_time() - cpu_before_s,
        process_cpu_s=time.process_time(),
        latency_p50_s=latencies[len(latencies) // 2],
        latency_p99_s=latencies[len(latencies) * 99 // 100],
        latency_max_s=latencies[-1],
    )


async def _send_on_one_connection(progress: _Progress, bodies: mmap.mmap, url: str) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    shape = progress.dataset.shape
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: relay-bench\r\n"
        f"{_PROTOCOL_HEADERS[shape.protocol]}"
        f"Content-Encoding: {shape.encoding}\r\nContent-Length: "
    ).encode()
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(_Connection, parts.hostname, parts.port)
        try:
            for request, due in progress.requests():
                if due > monotonic():
                    await asyncio.sleep(due - monotonic())
                body = bodies[request.offset : request.offset + request.size]
                message = head + b"%d\r\n\r\n" % request.size + body
                sent_at = monotonic()
                while not 200 <= (answer := await connection.exchange(message)).status < 300:
                    progress.retries += 1
                    await asyncio.sleep(_pause_s(answer))
                # A late request has been waiting since it was due.
                progress.accepted(request, monotonic() - (due if progress.rate else sent_at))
        finally:
            connection.close()
    except (OSError, ValueError, IndexError) as error:
        raise SendError(f"the connection to {url} broke: {error!r}") from error


def _pause_s(answer: _Answer) -> float:
    """Return the seconds to wait before a resend. Raise SendError if it must not be resent."""
    if answer.status not in (429, 503):
        text = (answer.head + b"\r\n" + answer.body)[:500].decode(errors="replace")
        raise SendError(f"the peer answered {answer.status}: {text!r}")
    retry_after = answer.header("retry-after")
    return min(float(retry_after) if retry_after.isdigit() else 0.1, _RETRY_AFTER_MAX_S)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """Return the value of a header; "" if it is missing."""
        return header(self.head, name)


def header(head: bytes, name: str) -> str:
    """Return the value of a header in the head of a response; "" if it is missing."""
    for line in head.split(b"\r\n"):
        key, _, value = line.decode("latin-1").partition(":")
        if key.strip().lower() == name:
            return value.strip()
    return ""


class _Connection(asyncio.Protocol):
    """One request at a time over a keep-alive connection, with minimal overhead."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answered: asyncio.Future[_Answer] | None = None
        self._lost: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface but not the base class.
        self._transport = cast("asyncio.Transport", transport)

    async def exchange(self, message: bytes) -> _Answer:
        """Send a request and return its response. Raise OSError."""
        assert self._transport is not None
        assert self._answered is None, "one request at a time"
        if self._lost is not None:
            raise self._lost
        loop = asyncio.get_running_loop()
        self._answered = loop.create_future()
        overdue = loop.call_later(ANSWER_TIMEOUT_S, self._fail, TimeoutError("no answer"))
        self._transport.write(message)
        try:
            return await self._answered
        finally:
            overdue.cancel()
            self._answered = None

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _HEAD_BYTES_MAX:
                self._fail(OSError("an answer whose head does not end"))
            return
        head = self._buffer[:end]
        try:
            status = int(head.split(b" ", 2)[1])
            length = 0 if status == 204 else int(header(head, "content-length") or "0")
        except (ValueError, IndexError):
            self._fail(OSError(f"not HTTP: {head[:100]!r}"))
            return
        stop = end + 4 + length
        if len(self._buffer) < stop:
            return
        answer = _Answer(status, head, self._buffer[end + 4 : stop])
        self._buffer = self._buffer[stop:]
        if self._answered is None or self._answered.done():
            self._fail(OSError("an answer to no request"))
        else:
            self._answered.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(OSError(f"closed by the peer: {exc!r}"))

    def _fail(self, error: Exception) -> None:
        self._lost = self._lost or error
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(self._lost)


def main() -> None:
    """Run the process; exit 1 with the reason on standard error if the run is void."""
    parser = argparse.ArgumentParser(prog="python -m bench.generator")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--requests-max", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--once", action="store_true")
    a = parser.parse_args()
    sending = send(
        read_dataset(a.dataset),
        a.url,
        connections=a.connections,
        first=a.first,
        requests_max=a.requests_max,
        seconds=a.seconds,
        rate=a.rate,
        once=a.once,
    )
    try:
        result = uvloop.run(sending)
    except SendError as error:
        raise SystemExit(str(error)) from error
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
