"""Measure a sink's queue on disk: payloads saved, recovered, read and removed.

``python -m bench.micro.queue_disk [DIRECTORY]``. Prints rates and CPU time per payload of 500
points in gzip.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from relay.sink.queue.payload import STORED, EncodedRequest
from relay.sink.spill.owner import Owner
from relay.sink.spill.store import QueueStore

PAYLOADS = 4000
SINKS = 20
BATCH = 20
BODY_BYTES = 12_000


def payload(number: int, body: bytes) -> EncodedRequest:
    """Make a payload of usual size."""
    return EncodedRequest(body, "gzip", 500, 60_000, number, 0, float(number))


async def measure(root: Path, *, sync: bool) -> None:
    """Save, restart, read and remove."""
    body = os.urandom(BODY_BYTES)
    store = QueueStore(root, bytes_max=1 << 30, sync=sync)
    store.open()
    sinks = [store.claim(Owner(*("bench", str(number)))) for number in range(SINKS)]
    with Timer(f"saved, sync={sync}"):
        for start in range(0, PAYLOADS // SINKS, BATCH):
            batch = [(payload(start + n, body), start + n) for n in range(BATCH)]
            await asyncio.gather(*(sink.save(0, batch, shards=1) for sink in sinks))
    await store.close()
    with Timer("found at start-up"):
        store = QueueStore(root, bytes_max=1 << 30, sync=sync)
        store.open()
    with Timer("read and removed"):
        for number in range(SINKS):
            sink = store.claim(Owner(*("bench", str(number))))
            backlog = sink.backlogs[0]
            while backlog.entries:
                read = await sink.load(backlog.open())
                assert read is not None
                assert read.position == STORED
                backlog.finish()
                sink.free(0, backlog.free(keep_newest=False))
    await store.close()


class Timer:
    """Print the rate and CPU time of the code inside."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        wall = time.perf_counter() - self._wall
        cpu = time.process_time() - self._cpu
        megabytes = BODY_BYTES * PAYLOADS / 1e6
        print(
            f"{self._what:24} {PAYLOADS / wall:9.0f} payloads/s, {megabytes / wall:6.0f} MB/s, "
            f"{cpu / PAYLOADS * 1e6:5.0f} us CPU each"
        )


def main() -> None:
    """Measure with and without flushes."""
    for sync in (True, False):
        with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
            asyncio.run(measure(Path(name), sync=sync))


if __name__ == "__main__":
    main()
