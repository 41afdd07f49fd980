"""Measure the floor of a relay: ``python -m bench.micro.blind_forwarder``.

A forwarder that recognises nothing: HTTP in by uvloop and httptools, decompress, one copy, gzip of
what 10,000 samples take by a thread beside the loop, HTTP out; with the relay's codecs and its
settings of malloc. µs of CPU of its process a sample, the median of some runs of scrapes; beside it
decompress, copy and gzip of the same bytes alone, in this process with the same settings.

What a relay takes beyond it is recognising, matching and translating, and keeping account.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import cast

import httptools
import uvloop

from bench import scrape
from bench.dataset import Dataset, Shape, write_dataset
from bench.goals.floor import BATCH_SAMPLES, floor_s
from bench.labels import LabelSet
from bench.micro.bodies import START_MS
from bench.micro.sink_cost import Receiver
from bench.process import Process
from relay.codec.compression import compress, decompress
from relay.runtime import gc_pacing, malloc

CONNECTIONS = 4
LABEL_SETS: tuple[LabelSet, ...] = ("exposed", "platform")
_BODY_BYTES_MAX = 64 << 20
_TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
_HEAD = b"POST / HTTP/1.1\r\nHost: sink\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"


class Batches:
    """Gather decompressed bodies; send each batch that is full."""

    def __init__(self, batch_bytes: int, port: int) -> None:
        self._room_bytes = batch_bytes + _BODY_BYTES_MAX
        self._room = bytearray(self._room_bytes)
        self._free: list[bytearray] = []
        self._batch_bytes = batch_bytes
        self._held = 0
        self._port = port
        self._sending: set[asyncio.Task[None]] = set()

    def take(self, body: bytes) -> None:
        """Copy a body behind those that are held."""
        plain = decompress(body, "snappy", bytes_max=_BODY_BYTES_MAX)
        self._room[self._held : self._held + len(plain)] = plain
        self._held += len(plain)
        if self._held >= self._batch_bytes:
            task = asyncio.ensure_future(self._send(self._room, self._held))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            # A thread reads this one while the next one fills.
            self._room = self._free.pop() if self._free else bytearray(self._room_bytes)
            self._held = 0

    async def _send(self, room: bytearray, held: int) -> None:
        batch = cast("bytes", memoryview(room)[:held])  # any buffer will do
        packed = await asyncio.get_running_loop().run_in_executor(None, compress, batch, "gzip")
        self._free.append(room)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(_HEAD % len(packed) + packed)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()


class Connection(asyncio.Protocol):
    """Take the requests of one connection; the callbacks of httptools are part of it."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on what came."""
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Answer, and take the body."""
        body = b"".join(self._body)
        self._body.clear()
        self._batches.take(body)
        self._transport.write(_TAKEN)


async def serve(kind: str, batch_bytes: int, sink_port: int) -> None:
    """Run a child: the forwarder or the sink. Print its port, and stay until it is stopped."""
    loop = asyncio.get_running_loop()
    batches = Batches(batch_bytes, sink_port)
    made = Receiver if kind == "sink" else lambda: Connection(batches)
    server = await loop.create_server(made, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def measure(dataset: Dataset, seconds: float, directory: Path) -> float:
    """Return the µs of CPU a sample of a forwarder that is sent a data set for some seconds."""
    each = dataset.decoded_bytes / sum(request.samples for request in dataset.requests)
    own = (sys.executable, "-m", "bench.micro.blind_forwarder", "--batch-bytes")
    child = (*own, str(int(each * BATCH_SAMPLES)))
    with (
        Process("sink", (*child, "--serve", "sink"), directory=directory, pipe_stdout=True) as sink,
        Process(
            "forwarder",
            (*child, "--serve", "forwarder", "--sink-port", sink.read_line().strip()),
            directory=directory,
            pipe_stdout=True,
        ) as forwarder,
    ):
        url = f"http://127.0.0.1:{int(forwarder.read_line())}/api/v1/write"
        sender = (sys.executable, "-m", "bench.generator", "--dataset", str(dataset.directory))
        send = (*sender, "--url", url, "--connections", str(CONNECTIONS), "--seconds")
        costs: list[float] = []
        for turn, length in enumerate((1.0, seconds)):  # the first one fills memory
            before = forwarder.cpu_s()
            command, name = (*send, str(length)), f"generator-{turn}"
            with Process(name, command, directory=directory, pipe_stdout=True) as generator:
                sent = json.loads(generator.read_line())
            time.sleep(0.5)  # the last batches leave
            costs.append((forwarder.cpu_s() - before) / sent["samples"] * 1e6)
        return costs[-1]


def main() -> None:
    """Print a line for each kind of labels, or be a child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=float, default=3.0, help="of sending (default: 3)")
    parser.add_argument("--serve", choices=("", "sink", "forwarder"), default="")
    parser.add_argument("--batch-bytes", type=int, default=1)
    parser.add_argument("--sink-port", type=int, default=0)
    options = parser.parse_args()
    malloc.share_heap()
    malloc.configure_malloc()
    if options.serve:
        gc_pacing.configure_gc()
        uvloop.run(serve(options.serve, options.batch_bytes, options.sink_port))
        return
    series = 100 * len(scrape.exposed())
    for label_set in LABEL_SETS:
        with tempfile.TemporaryDirectory(prefix="relay-bench-") as root:
            shape = Shape(START_MS, 4, series, content="scrape", label_set=label_set)
            dataset = write_dataset(Path(root), shape)
            found = [measure(dataset, options.seconds, Path(root)) for _ in range(options.runs)]
            alone = [1e6 * floor_s(dataset, 1.0) for _ in range(options.runs)]
        values = ", ".join(f"{value:.3f}" for value in found)
        print(f"{label_set}: {median(found):.3f} µs a sample ({values}); alone {median(alone):.3f}")


if __name__ == "__main__":
    main()
