"""Add, change and remove ten thousand exporters of a running relay.

``python -m bench.micro.live_change [COUNT]``. A sender posts small requests without a pause. Prints
the duration of each change, its parts for comparing and applying (the rest is reading files in a
thread), and the longest turn of the event loop, which bounds a request's delay. No pass or fail.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp
import cramjam

from bench.micro.selection import platform_series, request, resident_bytes
from relay.app import Relay
from relay.config.exporter.types import ExporterPath
from relay.config.settings.settings import ListenAddress, Settings, Shutdown, Watch
from relay.control.reconcile.diff import Changes
from relay.runtime.event_loop import run_on_uvloop

COUNT = 10_000

MANIFEST = """\
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: e{number}}}
spec:
  sources:
    - {{name: all, metrics: {{metricsql: '{{code="{value}"}}'}}}}
  sinks:
    - {{name: s, otlp_http: {{endpoint: "https://127.0.0.1:4318"}}}}
"""


async def hold_up(done: Callable[[], bool]) -> float:
    """Return the longest turn of the loop until ``done``, in s."""
    worst_s = 0.0
    while not done():
        before = time.perf_counter()
        await asyncio.sleep(0)
        worst_s = max(worst_s, time.perf_counter() - before)
    return worst_s


async def send(relay: Relay, until: asyncio.Future[Changes]) -> tuple[int, float]:
    """Post requests of 100 known series; return their number and the slowest response, in s."""
    address = relay.ingest_address
    url = f"http://{address.host}:{address.port}/api/v1/write"
    body = bytes(cramjam.snappy.compress_raw(request([platform_series(n) for n in range(100)])))
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    worst_s = 0.0
    async with aiohttp.ClientSession() as session:
        for count in itertools.count():
            if until.done():
                return count, worst_s
            before = time.perf_counter()
            async with session.post(url, data=body, headers=headers) as response:
                assert response.status == 204, await response.text()
            worst_s = max(worst_s, time.perf_counter() - before)
    raise AssertionError("unreachable")


async def change(relay: Relay, title: str) -> None:
    """Reload, and print the effect on the sender and the loop."""
    start = time.perf_counter()
    reload = asyncio.ensure_future(relay.reload())
    (requests, answer_s), worst_s = await asyncio.gather(send(relay, reload), hold_up(reload.done))
    changes = await reload
    count = len(changes.added) + len(changes.changed) + len(changes.removed)
    applied = relay.facts().changes
    assert applied is not None
    print(
        f"{title} {count}: {time.perf_counter() - start:.1f} s, {applied.applied_in_s * 1e3:.0f} ms"
        f" of it applying; loop held up for at most {worst_s * 1e3:.0f} ms; {requests} requests "
        f"answered, the slowest in {answer_s * 1e3:.0f} ms"
    )


async def run(count: int) -> None:
    """Add, change, change one, remove."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)

        def write(number: int, value: str) -> None:
            (directory / f"e{number}.yaml").write_text(MANIFEST.format(number=number, value=value))

        write(count, "none")
        relay = Relay(
            Settings(
                listen=ListenAddress("127.0.0.1", 0),
                admin_listen=ListenAddress("127.0.0.1", 0),
                exporters=(ExporterPath(directory),),
                watch=Watch(enabled=False),
                shutdown=Shutdown(drain_timeout_s=0.0),
            )
        )
        await relay.start()
        before = resident_bytes()
        for number in range(count):
            write(number, f"x{number}")
        await change(relay, "added")
        print(f"{(resident_bytes() - before) / count / 1024:.1f} KiB an exporter, all of it")
        for number in range(count):
            write(number, f"y{number}")
        await change(relay, "changed")
        write(7, "z")
        await change(relay, "changed")
        for number in range(count):
            (directory / f"e{number}.yaml").unlink()
        await change(relay, "removed")
        await relay.stop()


def main(arguments: Sequence[str]) -> int:
    """Run with that many exporters."""
    run_on_uvloop(run(int(arguments[0]) if arguments else COUNT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
