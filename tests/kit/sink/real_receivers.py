"""The newest real receivers, each run on a free port of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench import newest
from tests.kit.processes import free_port, started


@asynccontextmanager
async def prometheus(directory: Path, *flags: str) -> AsyncIterator[str]:
    """Run Prometheus, which takes remote write; gives its URL."""
    config = directory / "prometheus.yaml"
    config.write_text("global: {}\n")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(newest.binary("prometheus")),
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--web.enable-remote-write-receiver",
        *flags,
    ]
    async with started(command, log=directory / "prometheus.log", ready_url=f"{url}/-/ready"):
        yield url


@asynccontextmanager
async def victoria_metrics(directory: Path, *flags: str) -> AsyncIterator[str]:
    """Run VictoriaMetrics on a single node; gives its URL."""
    async with _victoria(directory, "victoria-metrics", *flags) as url:
        yield url


@asynccontextmanager
async def victoria_logs(directory: Path, *flags: str) -> AsyncIterator[str]:
    """Run VictoriaLogs; gives its URL."""
    async with _victoria(directory, "victoria-logs", *flags) as url:
        yield url


@asynccontextmanager
async def _victoria(directory: Path, product: str, *flags: str) -> AsyncIterator[str]:
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(newest.binary(product)),
        f"-httpListenAddr={url.removeprefix('http://')}",
        f"-storageDataPath={directory / product}",
        *flags,
    ]
    log, ready = directory / f"{product}.log", f"{url}/health"
    async with started(command, log=log, ready_url=ready):
        yield url


@asynccontextmanager
async def collector(directory: Path, name: str, text: str, **values: object) -> AsyncIterator[int]:
    """Run a Collector by a configuration with ``{port}`` and ``{health}``; gives its port."""
    port, health = free_port(), free_port()
    config = directory / f"{name}.yaml"
    config.write_text(text.format(port=port, health=health, **values))
    command = [str(newest.binary("otelcol")), "--config", str(config)]
    log, ready = directory / f"{name}.log", f"http://127.0.0.1:{health}/"
    async with started(command, log=log, ready_url=ready):
        yield port
