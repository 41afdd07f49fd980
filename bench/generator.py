"""The load generator: a process of its own that sends a data set's requests to one address.

``python -m bench.generator --dataset DIR --url URL …`` sends, prints one line of JSON, and ends.

Rules:

* Bodies are compressed before the run (:mod:`bench.dataset`): sending one is a write and a read.
* Each connection has one request under way, as senders of remote write have. Without ``--rate`` the
  next follows the answer; with it, requests leave on a schedule that does not wait for slow answers
  of other connections.
* 429 and 503 are back-pressure: the same body is sent again after Retry-After. Any other answer but
  2xx, and any broken connection, ends the run with an error: what the peer took would be unknown.
* A request under way when the time is over is finished and counted.
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
from urllib.parse import urlsplit

import uvloop

from bench.dataset import Dataset, Request, read_dataset

ANSWER_TIMEOUT_S = 60.0
_HEAD_BYTES_MAX = 16 << 10
_RETRY_AFTER_MAX_S = 5.0


class SendError(Exception):
    """The peer did not take a request, or what it took is unknown: the run is void."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """What was sent. Times are on the monotonic clock; latencies are per accepted request, in s.

    ``wanted`` counts the samples that the proposal's selector selects. ``next_request`` is where
    another generator would go on. ``cycled``: the data set was sent more than once.
    """

    started_at: float
    ended_at: float
    requests: int
    samples: int
    wanted: int
    sent_bytes: int
    retries: int
    next_request: int
    cycled: bool
    cpu_s: float
    latency_p50_s: float
    latency_p99_s: float
    latency_max_s: float


@dataclass(slots=True)
class _Progress:
    """Shared by the connections: which request is next, what is done."""

    dataset: Dataset
    first: int
    requests_max: int
    deadline: float
    interval_s: float
    started_at: float
    taken: int = 0
    samples: int = 0
    wanted: int = 0
    sent_bytes: int = 0
    retries: int = 0
    latencies: list[float] = field(default_factory=list)

    def requests(self) -> Iterator[tuple[Request, float]]:
        """Each connection's requests, and when each is due; ends when the run is over."""
        while self.taken < self.requests_max:
            due = self.started_at + self.taken * self.interval_s
            if max(due, monotonic()) >= self.deadline:
                return
            request = self.dataset.requests[(self.first + self.taken) % len(self.dataset.requests)]
            self.taken += 1
            yield request, due

    def accepted(self, request: Request, latency_s: float) -> None:
        self.samples += request.samples
        self.wanted += request.wanted
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
) -> SendResult:
    """Send requests from number ``first`` on, until ``requests_max`` or ``seconds`` are over.

    ``rate`` is in samples a second; None: as fast as the peer answers. Raises SendError.
    """
    assert requests_max is not None or seconds is not None, "something has to end the run"
    started_at = monotonic()
    progress = _Progress(
        dataset,
        first,
        requests_max=2**63 if requests_max is None else requests_max,
        deadline=float("inf") if seconds is None else started_at + seconds,
        interval_s=dataset.shape.series_per_request / rate if rate else 0.0,
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
        wanted=progress.wanted,
        sent_bytes=progress.sent_bytes,
        retries=progress.retries,
        next_request=(first + progress.taken) % len(dataset.requests),
        cycled=first + progress.taken > len(dataset.requests),
        cpu_s=time.process_time(),
        latency_p50_s=latencies[len(latencies) // 2],
        latency_p99_s=latencies[len(latencies) * 99 // 100],
        latency_max_s=latencies[-1],
    )


async def _send_on_one_connection(progress: _Progress, bodies: mmap.mmap, url: str) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: relay-bench\r\n"
        "Content-Type: application/x-protobuf\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n"
        f"Content-Encoding: {progress.dataset.shape.encoding}\r\nContent-Length: "
    ).encode()
    try:
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port, limit=_HEAD_BYTES_MAX
        )
        try:
            for request, due in progress.requests():
                if due > monotonic():
                    await asyncio.sleep(due - monotonic())
                body = bodies[request.offset : request.offset + request.size]
                message = head + str(len(body)).encode() + b"\r\n\r\n" + body
                sent_at = monotonic()
                while (pause_s := await _exchange(reader, writer, message)) is not None:
                    progress.retries += 1
                    await asyncio.sleep(pause_s)
                # A request that was late on the schedule has been waiting since it was due.
                progress.accepted(request, monotonic() - (due if progress.interval_s else sent_at))
        finally:
            writer.close()
            await writer.wait_closed()
    except (OSError, EOFError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
        raise SendError(f"the connection to {url} broke: {error!r}") from error


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes
) -> float | None:
    """Send a request and read its answer; None if it was accepted, else how long to wait, in s."""
    writer.write(message)
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        status = int(lines[0].split(" ")[1])
        text = await reader.readexactly(int(headers.get("content-length", "0")))
    if 200 <= status < 300:
        return None
    if status in (429, 503):
        retry_after = headers.get("retry-after", "")
        return min(float(retry_after) if retry_after.isdigit() else 0.1, _RETRY_AFTER_MAX_S)
    raise SendError(f"the peer answered {lines[0]!r}: {text[:500].decode(errors='replace')}")


def main() -> None:
    """Entry point of the process; exit 1 with the reason on standard error if the run is void."""
    parser = argparse.ArgumentParser(prog="python -m bench.generator")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--requests-max", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rate", type=float)
    a = parser.parse_args()
    sending = send(
        read_dataset(a.dataset),
        a.url,
        connections=a.connections,
        first=a.first,
        requests_max=a.requests_max,
        seconds=a.seconds,
        rate=a.rate,
    )
    try:
        result = uvloop.run(sending)
    except SendError as error:
        raise SystemExit(str(error)) from error
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
