"""Relays that take their desired state from a real API server, and a load on them."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.kit.http.otlp_server import OtlpServer
from tests.kit.kubernetes.kubectl import Kubectl
from tests.kit.paths import ROOT
from tests.kit.processes import Process, eventually, free_port, get_json, started
from tests.kit.remote_write.raw import HEADERS, join, snappy, text_series

CRDS = sorted((ROOT / "config/crds").glob("*.datumapis.com.yaml")) + sorted(
    (ROOT / "config/crds").glob("*.miloapis.com.yaml")
)


async def define(kubectl: Kubectl) -> None:
    """Apply the CRDs as they are shipped, and wait until they are served."""
    files = [word for path in CRDS for word in ("-f", str(path))]
    await kubectl("apply", "--server-side", *files)
    names = [f"crd/{path.name.removesuffix('.yaml')}" for path in CRDS]
    await kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)


class RelayProcess:
    """One ``relay run`` with a data directory. It can be started again.

    ``pod`` is the name of its pod, as Kubernetes tells it.
    """

    def __init__(self, folder: Path, *, pod: str = "", **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._environment = (f"POD_NAME={pod}",) if pod else ()
        self.port, self.admin_port = free_port(), free_port()
        self.process: Process | None = None
        self._stack = AsyncExitStack()
        self.configure(**settings)

    def configure(self, **settings: Any) -> None:
        """Write the settings with which it starts next."""
        document = {
            "storage": {"path": "data"},
            "translation": {"firstSightWait": "0s"},
            "shutdown": {"drainTimeout": "1s"},
            **settings,
        }
        (self.folder / "relay.yaml").write_text(yaml.safe_dump(document))

    @property
    def url(self) -> str:
        """Where remote write goes."""
        return f"http://127.0.0.1:{self.port}/api/v1/write"

    @property
    def admin(self) -> str:
        """The admin listener's origin."""
        return f"http://127.0.0.1:{self.admin_port}"

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        command = ["env", *self._environment, sys.executable, "-m", "relay", "run"]
        command += ["--config", str(self.folder / "relay.yaml")]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        command += ["--admin-listen", f"127.0.0.1:{self.admin_port}"]
        self.process = await self._stack.enter_async_context(
            started(command, log=self.folder / "relay.log", ready_url=f"{self.admin}/readyz")
        )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; return its exit status."""
        assert self.process is not None
        status = await self.process.stop(number)
        await self._stack.aclose()
        return status

    async def close(self) -> None:
        """End it somehow."""
        await self._stack.aclose()

    async def status(self) -> dict[str, Any]:
        """The status document."""
        return await get_json(f"{self.admin}/status")

    def log(self) -> str:
        """What it wrote since its last start."""
        return (self.folder / "relay.log").read_text()

    def check_log(self) -> None:
        """Fail if it has found a bug in itself since its last start."""
        log = self.log()
        at = log.find("Traceback")
        assert at < 0, log[max(0, at - 1000) : at + 4000]


class ClusterRelay(RelayProcess):
    """A relay with ``kubernetes:`` in its settings."""

    def __init__(self, folder: Path, kubeconfig: Path, *, pod: str = "", **settings: Any) -> None:
        own = {"kubeconfig": str(kubeconfig), **settings.pop("kubernetes", {})}
        super().__init__(folder, pod=pod, kubernetes=own, **settings)


@asynccontextmanager
async def cluster_relay(
    folder: Path, kubeconfig: Path, **settings: Any
) -> AsyncIterator[ClusterRelay]:
    """Run one relay for the duration of the block; it must not have found a bug in itself."""
    relay = ClusterRelay(folder, kubeconfig, **settings)
    try:
        await relay.start()
        yield relay
    finally:
        await relay.close()
    relay.check_log()


class Load:
    """Numbered samples, ten a request, for as long as the block lasts; ``sent`` were accepted."""

    def __init__(self, url: str, *, every_s: float = 0.1, **labels: str) -> None:
        self._url, self._every_s = url, every_s
        self._labels = {"__name__": "numbered", **labels}
        self._start_ms = int(time.time() * 1000)
        self.sent: list[float] = []

    def _body(self, values: range) -> bytes:
        """A series for each of ten numbers; each request is a millisecond later."""
        time_ms = self._start_ms + values[0] // 10
        return snappy(
            join(
                text_series({"n": str(value % 10), **self._labels}, (float(value), time_ms))
                for value in values
            )
        )

    async def _send(self) -> None:
        number = 0
        async with aiohttp.ClientSession() as session:
            while True:
                values = range(number, number + 10)
                async with session.post(
                    self._url, data=self._body(values), headers=HEADERS
                ) as response:
                    assert response.status == 204, await response.text()
                self.sent += map(float, values)
                number += 10
                await asyncio.sleep(self._every_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """Send for the duration of the block; a request that is refused fails the test."""
        task = asyncio.create_task(self._send())
        try:
            yield self
        finally:
            if not task.done():
                task.cancel()
            (found,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(found, asyncio.CancelledError), found

    async def arrives(self, server: OtlpServer, *, since: float = 0, timeout_s: float = 20) -> None:
        """Wait until every sample from a value on has arrived; then none came twice."""
        wanted = [value for value in self.sent if value >= since]

        def found() -> list[float]:
            return [value for value in server.values if value >= since]

        await eventually(
            f"{len(wanted)} samples arrive",
            lambda: set(found()) >= set(wanted),
            timeout_s=timeout_s,
        )
        assert len(found()) == len(set(found()))
