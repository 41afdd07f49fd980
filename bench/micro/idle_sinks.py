"""Measure a relay with ten thousand idle sinks: ``python -m bench.micro.idle_sinks [COUNT]``.

Prints the share of a core that it uses without traffic, with and without storage, and the longest
turn of the event loop, which bounds a request's delay: at rest, and while ``/metrics`` and
``/status`` are read.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from relay.app import Relay
from relay.config.exporter.types import ExporterPath
from relay.config.settings.settings import ListenAddress, Settings, Shutdown, Storage, Watch

IDLE_S = 10.0

MANIFEST = """\
apiVersion: telemetry.datumapis.com/v1alpha1
kind: Exporter
metadata: {{name: e{number}}}
spec:
  sources:
    - {{name: all, metrics: {{metricsql: '{{code="{number}"}}'}}}}
  sinks:
    - {{name: s, otlp_http: {{endpoint: "https://127.0.0.1:4318"}}}}
"""


class Watcher:
    """Record the longest turn of the loop by sampling every millisecond."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    async def run(self) -> None:
        """Run until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.001
            await asyncio.sleep(0.001)
            self.worst_s = max(self.worst_s, loop.time() - due)


async def hold_up(url: str) -> tuple[float, float, int]:
    """Read a page; return the longest turn meanwhile and the duration, in s, and its bytes."""
    watcher = Watcher()
    watching = asyncio.create_task(watcher.run())
    await asyncio.sleep(0.05)
    command = ["-c", f"import urllib.request as u; print(len(u.urlopen({url!r}).read()))"]
    before = time.perf_counter()
    reader = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await reader.communicate()
    took = time.perf_counter() - before
    watching.cancel()
    return watcher.worst_s, took, int(out)


async def measure(count: int, storage: bool, root: Path) -> None:
    """Measure one relay."""
    (root / "exporters.yaml").write_text(
        "---\n".join(MANIFEST.format(number=number) for number in range(count))
    )
    settings = Settings(
        listen=ListenAddress("127.0.0.1", 0),
        admin_listen=ListenAddress("127.0.0.1", 0),
        exporters=(ExporterPath(root / "exporters.yaml"),),
        watch=Watch(enabled=False),
        shutdown=Shutdown(drain_timeout_s=1.0),
        storage=Storage(root / "data") if storage else None,
    )
    relay = Relay(settings)
    await relay.start()
    try:
        await asyncio.sleep(2.0)
        before = time.process_time()
        await asyncio.sleep(IDLE_S)
        share = (time.process_time() - before) / IDLE_S
        watcher = Watcher()
        watching = asyncio.create_task(watcher.run())
        await asyncio.sleep(3.0)
        watching.cancel()
        print(
            f"{count} sinks, storage {'on' if storage else 'off'}: {share:.2%} of a core at rest, "
            f"longest turn {watcher.worst_s * 1000:.0f} ms"
        )
        admin = relay.admin_address
        for page in ("/metrics", "/status", "/status?pretty"):
            worst_s, took_s, size = await hold_up(f"http://{admin.host}:{admin.port}{page}")
            print(
                f"    {page:15} {size / 1e6:5.1f} MB in {took_s:5.2f} s, "
                f"longest turn {worst_s * 1000:.0f} ms"
            )
    finally:
        await relay.stop()


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for storage in (False, True):
        with tempfile.TemporaryDirectory() as directory:
            uvloop.run(measure(count, storage, Path(directory)))


if __name__ == "__main__":
    main()
